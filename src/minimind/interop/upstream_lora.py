"""The public MiniMind's LoRA files, as adapters of a model that was imported.

They hold A and B of its square matrices, `….q_proj.lora.A.weight` and `….q_proj.lora.B.weight`; the model computes
with W + B · A, so the scale is 1. Their base is named nowhere in them.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from minimind.errors import UserError
from minimind.interop.checkpoints import find_weights, read_tensors
from minimind.interop.rotary_pairs import halves
from minimind.interop.upstream import early_name
from minimind.model import Transformer
from minimind.model.hf.adapter import is_adapter
from minimind.model.hf.files import check_numbers
from minimind.model.hf.weights import base_of, load_model, model_directory
from minimind.model.lora import LoraOptions, add_lora, lora_layers
from minimind.model.transformer import Linear

PART = re.compile(r"(.+)\.lora\.([AB])\.weight")


def read_lora(path: str | Path, base: str | Path) -> Transformer:
    """The model of the directory or run `base`, adapted by a LoRA file; UserError naming what does not fit."""
    directory = model_directory(base)
    if is_adapter(directory):
        raise UserError(f"{directory} is an adapter; --base takes the model that it was made for")
    model, pairs = load_model(directory), read_pairs(path)
    linears = {
        name: module for name, module in model.named_modules() if type(module) is Linear and ".layers." in name
    }
    early = {early_name(name): name for name in linears}
    ours = {name: name if name in linears else early.get(name, "") for name in pairs}
    for name, (a, b) in pairs.items():
        if not ours[name]:
            raise UserError(f"{path}: {name} is no matrix of {directory} to adapt; give the right --base")
        wanted = tuple(linears[ours[name]].weight.shape)
        if (len(b), a.shape[1]) != wanted or len(a) != b.shape[1]:
            raise UserError(
                f"{path}: A {tuple(a.shape)} and B {tuple(b.shape)} of {name} do not fit its matrix {wanted} in "
                f"{directory}; give the right --base"
            )
    ranks = {len(a) for a, _ in pairs.values()}
    if len(ranks) > 1:
        raise UserError(f"{path} has ranks of {', '.join(map(str, sorted(ranks)))}; an adapter has one")
    (rank,) = ranks
    options = LoraOptions(rank, alpha=rank, targets=list(ours.values()))
    add_lora(model, options, base=base_of(model, directory))
    layers = lora_layers(model)
    for name, (a, b) in pairs.items():
        turned = name.endswith((".wq", ".wk"))  # the early versions pair neighboring rows, see rotary_pairs
        layers[ours[name]].lora_A.weight.data.copy_(a)
        layers[ours[name]].lora_B.weight.data.copy_(halves(b, model.config.head_dim) if turned else b)
    return model


def read_pairs(path: str | Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """A and B by the name of their matrix, as it is in the file."""
    found: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in read_tensors(find_weights(path)).items():
        if not (match := PART.fullmatch(name)) or tensor.dim() != 2:
            raise UserError(
                f"{path} is no LoRA file of the public MiniMind: it has the tensor {name}; leave --base out"
            )
        check_numbers(name, tensor, str(path))
        found.setdefault(match[1], {})[match[2]] = tensor
    for name, pair in found.items():
        if len(pair) < 2:
            raise UserError(f"{path}: {name} has no {'B' if 'A' in pair else 'A'}; copy the file again")
    if not found:
        raise UserError(f"{path} holds no tensors")
    return {name: (pair["A"], pair["B"]) for name, pair in found.items()}
