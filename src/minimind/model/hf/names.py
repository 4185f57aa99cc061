"""How tensors lie on disk: as in Hugging Face's classes, one matrix an expert.

In memory the experts' matrices are stacked. `qwen2_moe` on disk gates its shared expert by a sigmoid, ours has no
gate: a gate of zeros is a factor of one half, and twice the down projection makes up for it, exactly.
"""

from __future__ import annotations

import re

import torch

from minimind.errors import UserError
from minimind.model.config import ModelConfig

STACKED = re.compile(r"(.*\.mlp\.experts)\.(gate_proj|up_proj|down_proj)")
UNSTACKED = re.compile(r"(.*\.mlp\.experts)\.(\d+)\.(gate_proj|up_proj|down_proj)\.weight")


def to_disk(tensors: dict[str, torch.Tensor], config: ModelConfig) -> dict[str, torch.Tensor]:
    """The tensors of a model's state as its Hugging Face class names and cuts them."""
    found: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if stacked := STACKED.fullmatch(name):
            experts, matrix = stacked.groups()
            found |= {f"{experts}.{e}.{matrix}.weight": one for e, one in enumerate(tensor.unbind())}
        elif config.model_type == "qwen2_moe" and name.endswith("shared_expert.down_proj.weight"):
            gate = name.replace("shared_expert.down_proj", "shared_expert_gate")
            found |= {name: 2 * tensor, gate: tensor.new_zeros(1, config.hidden_size)}
        elif config.model_type == "glm4_moe":
            found[name.replace(".shared_expert.", ".shared_experts.")] = tensor
        else:
            found[name] = tensor
        if config.model_type == "glm4_moe" and not config.n_shared_experts and name.endswith("mlp.gate.weight"):
            shared = name.replace("gate.weight", "shared_experts")  # the class has one even then, of width 0
            found |= {
                f"{shared}.{side}_proj.weight": tensor.new_zeros(0, tensor.shape[1]) for side in ("gate", "up")
            }
            found[f"{shared}.down_proj.weight"] = tensor.new_zeros(tensor.shape[1], 0)
    return found


def from_disk(tensors: dict[str, torch.Tensor], config: ModelConfig) -> dict[str, torch.Tensor]:
    """The inverse, of tensors that are all there; UserError for a shared expert's gate that is not zero."""
    found: dict[str, torch.Tensor] = {}
    stacks: dict[str, list[torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if not tensor.numel():
            continue
        if name.endswith("shared_expert_gate.weight"):
            if tensor.count_nonzero():
                raise UserError(f"tensor {name} is not zero: a gated shared expert is not supported")
        elif match := UNSTACKED.fullmatch(name):
            experts, number, matrix = match.groups()
            stack = stacks.setdefault(f"{experts}.{matrix}", [tensor] * config.num_experts)
            stack[int(number)] = tensor
        elif config.model_type == "qwen2_moe" and name.endswith("shared_expert.down_proj.weight"):
            found[name] = tensor / 2
        else:
            found[name.replace(".shared_experts.", ".shared_expert.")] = tensor
    return found | {name: torch.stack(stack) for name, stack in stacks.items()}
