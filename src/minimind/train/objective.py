"""What a stage minimizes: sums of named terms, each with the number of units it is to be divided by, and metrics.

The trainer divides every term by its units in the whole step (all micro-batches, all processes), so that
how a step is cut into micro-batches changes nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import nn

from minimind.data.batches.batch import IGNORE, Batch
from minimind.losses.cross_entropy import CrossEntropy, hidden_states, linear_cross_entropy, next_token_nll
from minimind.model import Transformer
from minimind.train.console import LINE


@dataclass
class Terms:
    """What an objective computes of one micro-batch, on the device.

    losses   the sum of each term over the micro-batch's units; the first is the stage's loss
    metrics  what is only looked at: (sum, number of units) by name
    """

    losses: dict[str, torch.Tensor]
    metrics: dict[str, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)


class Objective(nn.Module, ABC):
    """A stage's loss. What it trains beside the model (a head, a critic) are submodules of its own.

    `units` is asked on the host before the forward pass; the names are those of `Terms.losses`.
    """

    auxiliaries: Sequence[Auxiliary] = ()
    """of its own, beside those that the model brings"""
    shown: Sequence[str] = LINE
    """what a person watches of a step"""

    @abstractmethod
    def units(self, batch: Batch) -> dict[str, float]:
        """By how much each term's sum over `batch` counts when it is divided."""

    @abstractmethod
    def forward(self, model: Transformer, batch: Batch) -> Terms:
        """The terms of `batch` under `model`."""


class Auxiliary(Protocol):
    """What a model itself adds to the loss and to a step, whatever the stage: load balancing, for example."""

    name: str
    """of its state in a checkpoint"""

    def units(self, batch: Batch) -> dict[str, float]:
        """As an objective's."""

    def begin_step(self) -> None:
        """Before the first micro-batch of a step, also of one that is begun again."""

    def before_forward(self) -> None:
        """Before the objective runs the model on a micro-batch."""

    def terms(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Further terms of the loss, from what was seen of the model in this forward pass."""

    def step_totals(self) -> torch.Tensor:
        """What must be summed over all processes after a step."""

    def end_step(self, totals: torch.Tensor, norm: torch.Tensor) -> None:
        """Take over the sums; `norm` is not finite where the step was skipped."""

    def metrics(self) -> dict[str, object]:
        """What a line of metrics.jsonl says of the steps since the last."""

    def state_dict(self) -> dict[str, torch.Tensor]: ...

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None: ...


class NextToken(Objective):
    """−Σ log p(target | what stands before it in its document) in nats; the unit is a token, or its weight."""

    def __init__(self, cross_entropy: CrossEntropy = linear_cross_entropy) -> None:
        super().__init__()
        self.cross_entropy = cross_entropy

    def units(self, batch: Batch) -> dict[str, float]:
        if "weights" in batch.columns:
            return {"loss": float(batch.columns["weights"][batch.targets != IGNORE].sum())}
        return {"loss": float(batch.num_valid_tokens)}

    def forward(self, model: Transformer, batch: Batch) -> Terms:
        return Terms({"loss": next_token_nll(model, hidden_states(model, batch), batch, self.cross_entropy)})
