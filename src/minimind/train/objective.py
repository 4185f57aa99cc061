"""What a stage minimizes: sums of named terms, each with the number of units it is to be divided by.

The trainer divides every term by its units in the whole step (all micro-batches, all processes), so that
how a step is cut into pieces changes nothing.
"""

from __future__ import annotations

from typing import Protocol

import torch

from minimind.data.batches.batch import Batch
from minimind.data.batches.collate import num_valid_tokens
from minimind.losses.next_token import next_token_nll
from minimind.model import Transformer
from minimind.model.moe import Routing


class Objective(Protocol):
    """`units` is asked on the host before the forward pass, the call gives the sums on the device.

    The first term is the stage's loss. `routings` is handed on to the model.
    """

    def units(self, batch: Batch) -> dict[str, float]: ...

    def __call__(
        self, model: Transformer, batch: Batch, routings: list[Routing] | None = None
    ) -> dict[str, torch.Tensor]: ...


class NextToken:
    """−Σ log p(target | what stands before it in its document) in nats; the unit is a trained token."""

    def units(self, batch: Batch) -> dict[str, float]:
        if batch.weights is not None:
            return {"loss": float(batch.weights[batch.targets >= 0].sum())}
        return {"loss": float(num_valid_tokens(batch))}

    def __call__(
        self, model: Transformer, batch: Batch, routings: list[Routing] | None = None
    ) -> dict[str, torch.Tensor]:
        hidden_BTD = model(batch.tokens, batch.positions, batch.documents, routings=routings)
        return {"loss": next_token_nll(model, hidden_BTD, batch)}
