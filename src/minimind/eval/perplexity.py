"""Bits per byte: how well a model predicts text, comparable between tokenizers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from minimind.data.batches.batch import Batch
from minimind.losses.cross_entropy import hidden_states, next_token_nll
from minimind.model import Transformer


@dataclass
class NLL:
    """Sums over evaluated text: nats of all targets (ends of documents included), targets, UTF-8 bytes."""

    nats: float = 0.0
    tokens: int = 0
    bytes: float = 0.0

    @property
    def loss(self) -> float:
        """Nats per target."""
        return self.nats / max(1, self.tokens)

    @property
    def perplexity(self) -> float:
        """e to the loss: as unsure as among so many equally likely tokens."""
        return math.inf if self.loss > 709 else math.exp(self.loss)  # beyond which a float overflows

    @property
    def bits_per_byte(self) -> float:
        """Σ nats / (ln 2 · bytes)."""
        return self.nats / (math.log(2) * self.bytes) if self.bytes else math.nan

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "loss": self.loss, "bits_per_byte": self.bits_per_byte}


def evaluate_nll(model: Transformer, batches: Iterable[Batch], device: torch.device) -> NLL:
    """The NLL of a model on packed batches of documents (see data.batches.loader.sequential_batches).

    Gradients stay enabled although none is taken: without them a compiled model would compile once more.
    """
    nats = torch.zeros((), dtype=torch.float64, device=device)
    total = NLL()
    for batch in batches:
        total.tokens += batch.num_valid_tokens
        total.bytes += float(batch.table["bytes"].sum())
        batch = batch.to(device)
        hidden_BTD = hidden_states(model, batch).detach()
        with torch.no_grad():
            nats += next_token_nll(model, hidden_BTD, batch)
    total.nats = float(nats)
    return total
