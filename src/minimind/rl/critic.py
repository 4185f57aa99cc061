"""What the rest of an answer will earn, told at every token: PPO's baseline.

A head reads it off the policy's own hidden states, which it does not move: no second model, and the policy learns
from rewards alone. Or a trunk of its own, a copy of the start model, learns with the head: better values for twice
the memory.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from minimind.data.batches.batch import Batch
from minimind.losses.cross_entropy import hidden_states
from minimind.model import Transformer


class Critic(nn.Module):
    """Values (B, T): the reward that is expected before each target is sampled. At first 0 everywhere."""

    def __init__(self, model: Transformer, own_trunk: bool = False) -> None:
        super().__init__()
        self.trunk = copy.deepcopy(model) if own_trunk else None
        self.weight_D = nn.Parameter(torch.zeros(model.config.hidden_size))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, hidden_BTD: torch.Tensor, batch: Batch) -> torch.Tensor:
        """hidden_BTD: what the policy makes of the batch."""
        return self.head(hidden_BTD.detach() if self.trunk is None else hidden_states(self.trunk, batch))

    def head(self, hidden_BTD: torch.Tensor) -> torch.Tensor:
        """From the hidden states of the trunk, or of the policy where there is none of its own."""
        values_BT: torch.Tensor = hidden_BTD.to(self.weight_D.dtype) @ self.weight_D + self.bias
        return values_BT
