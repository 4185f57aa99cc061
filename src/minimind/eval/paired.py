"""Two models on the same documents or questions: what changed, with its interval.

Documents differ far more from each other than two models do on one of them, so the interval is that of the
differences, document by document.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike

from minimind.data.batches.documents import Documents
from minimind.data.batches.loader import sequential_batches
from minimind.losses.cross_entropy import hidden_states
from minimind.losses.logprobs import target_logprobs
from minimind.model import Transformer

RESAMPLES = 2000


class Change(NamedTuple):
    """after - before, with its 95% interval."""

    difference: float
    low: float
    high: float


@torch.no_grad()
def document_nats(model: Transformer, data: Documents, documents: np.ndarray, seq_len: int) -> np.ndarray:
    """(N,) float64: NLL of each document's trained tokens in nats; long ones are read in segments of seq_len."""
    device = model.output_weight.device
    nats = torch.zeros(len(data.lengths), dtype=torch.float64, device=device)
    for batch in sequential_batches(data, documents, seq_len, max(1, 8192 // seq_len)):
        batch = batch.to(device)
        logprobs_BT = target_logprobs(model, hidden_states(model, batch), batch)
        nats.index_add_(0, batch.table["source"], -batch.sum_by_document(logprobs_BT).double())
    return nats.cpu().numpy()[documents]


def bits_per_byte(nats: ArrayLike, size: ArrayLike) -> float:
    """Σ nats / (ln 2 · Σ bytes)."""
    return float(np.sum(nats) / (math.log(2) * np.sum(size)))


def bits_changed(before: ArrayLike, after: ArrayLike, size: ArrayLike) -> Change:
    """The change of bits per byte between two models, by their nats on the same documents of so many bytes.

    The interval is of a bootstrap over documents (Efron 1979), the same each time.
    """
    nats, size_N = np.subtract(after, before), np.asarray(size, float)
    count = len(nats)
    drawn_RN = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    values = (drawn_RN @ nats) / (math.log(2) * np.maximum(drawn_RN @ size_N, 1))
    low, high = np.quantile(values, [0.025, 0.975])
    return Change(bits_per_byte(nats, size), float(low), float(high))


def share_changed(before: Sequence[bool], after: Sequence[bool]) -> Change:
    """The change of a share of right answers to the same questions, with the interval of a mean of differences."""
    differences = np.subtract(np.asarray(after, int), np.asarray(before, int))
    mean = float(differences.mean())
    half = 1.96 * float(differences.std()) / math.sqrt(len(differences))
    return Change(mean, mean - half, mean + half)
