"""Adapters of experts as peft saves them of transformers 5's classes, which hold the experts in one tensor.

There gate and up are one parameter, `gate_up_proj` (E, 2F, D), and peft wraps the module once for each parameter it
adapts: the inner wrapper, `experts.base_layer`, is that of `gate_up_proj`. Gate and up share its A.
"""

from __future__ import annotations

import re

import torch

from minimind.errors import UserError
from minimind.model.config import ModelConfig

FUSED = re.compile(r"(.*\.mlp\.experts)(\.base_layer)?\.lora_A\.weight")


def split_fused(
    tensors: dict[str, torch.Tensor], parameters: list[str], config: ModelConfig, where: str
) -> dict[str, torch.Tensor]:
    """The tensors with A and B of each expert's matrix under its own name.

    parameters  `target_parameters` of the adapter's settings: which of the two a single wrapper is for
    """
    found = dict(tensors)
    for name, a in tensors.items():
        if not (match := FUSED.fullmatch(name)):
            continue
        experts, inner = match.groups()
        b = tensors.get(name.replace("lora_A", "lora_B"))
        both = f"{experts}.base_layer.lora_A.weight" in tensors
        gate_up = bool(inner) if both else not any(p.endswith("down_proj") for p in parameters)
        E, outputs = config.num_experts, config.hidden_size if not gate_up else 2 * config.moe_intermediate_size
        if b is None or len(a) % E or b.shape != (outputs, len(a)):
            raise UserError(f"{where}: tensor {name} does not fit the experts of its base")
        a_ErI = a.view(E, -1, a.shape[1])
        b_EOr = b.view(outputs, -1, E).permute(2, 0, 1)  # in B the experts vary fastest, in A slowest
        halves = b_EOr.chunk(2, 1) if gate_up else (b_EOr,)
        for kind, half in zip(("gate_proj", "up_proj") if gate_up else ("down_proj",), halves):
            for e in range(E):
                found[f"{experts}.{e}.{kind}.lora_A.weight"] = a_ErI[e]
                found[f"{experts}.{e}.{kind}.lora_B.weight"] = half[e]
        del found[name], found[name.replace("lora_A", "lora_B")]
    return found
