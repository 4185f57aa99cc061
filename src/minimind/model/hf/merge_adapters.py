"""Adapters of one base as one adapter of it: their matrices side by side, so that nothing is lost.

With A = [A₁; A₂] and B = [s₁·B₁, s₂·B₂] the product B·A is s₁·B₁·A₁ + s₂·B₂·A₂. The rank is the sum of the ranks.
The mean of the A's and that of the B's would be something else: a product of sums is no sum of products.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from minimind.model.hf.adapter import BASE_FINGERPRINT, TENSORS, find_base, has_head, is_adapter, read_options
from minimind.model.hf.config import read_config
from minimind.model.hf.files import read_metadata
from minimind.model.hf.weights import base_of, load_tensors, read_adapter, set_adapter
from minimind.model.lora import LoraOptions, add_lora
from minimind.model.transformer import Transformer


def join_adapters(directories: Sequence[Path], weights: Sequence[float]) -> Transformer | None:
    """The base with the weighted mean of its adapters; None for anything else than plain adapters of one base.

    DoRA's are not plain: what it adds is no product of two matrices; nor is the head of a reward model.
    """
    if not all(map(is_adapter, directories)) or len({find_base(one).resolve() for one in directories}) > 1:
        return None
    if any(map(has_head, directories)):
        return None
    if len({read_metadata(one / TENSORS).get(BASE_FINGERPRINT) for one in directories}) > 1:
        return None
    base = find_base(directories[0])
    model = Transformer(read_config(base), seed=None)
    parts = [read_adapter(one, model.config) for one in directories]
    if not all(tensor.dim() == 2 for part in parts for tensor in part.values()):
        return None
    load_tensors(model, base)
    options = [read_options(one, model, part) for one, part in zip(directories, parts)]
    shapes = {name: tensor.shape for part in parts for name, tensor in part.items()}
    joined: dict[str, torch.Tensor] = {}
    for name, shape in shapes.items():
        tensors = []
        for part, option, weight in zip(parts, options, weights):
            if name.endswith("lora_A.weight"):
                tensors.append(part.get(name, torch.zeros(option.rank, shape[1])).float())
            else:
                share = weight / sum(weights) * option.scale()
                tensors.append(share * part.get(name, torch.zeros(shape[0], option.rank)).float())
        joined[name] = torch.cat(tensors, dim=0 if name.endswith("lora_A.weight") else 1)
    rank = sum(option.rank for option in options)
    targets = list(dict.fromkeys(target for option in options for target in option.targets))
    add_lora(model, LoraOptions(rank=rank, alpha=rank, targets=targets), base=base_of(model, base))
    set_adapter(model, joined, directories[0])
    return model
