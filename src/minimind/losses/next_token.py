"""The nll of a model at what comes next in a packed batch: what pretraining and fine-tuning minimize."""

from __future__ import annotations

import torch

from minimind.data.batches.batch import Batch
from minimind.data.batches.collate import valid_positions
from minimind.losses.cross_entropy import linear_cross_entropy
from minimind.model import Transformer


def next_token_nll(model: Transformer, hidden_BTD: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Scalar: Σ weight · −log p(target) in nats over the targets that are trained on.

    Only their positions get logits: of a conversation about a third.
    """
    trained_N = valid_positions(batch)
    hidden_ND, targets_N = hidden_BTD.flatten(0, 1)[trained_N], batch.targets.flatten()[trained_N]
    weights_N = None if batch.weights is None else batch.weights.flatten()[trained_N]
    return linear_cross_entropy(hidden_ND, model.output_weight, targets_N, weights_N)
