"""The NLL of what comes next in a packed batch: what pretraining and fine-tuning minimize."""

from __future__ import annotations

import torch

from minimind.data.batches.batch import Batch, valid_positions
from minimind.losses.cross_entropy import CrossEntropy, linear_cross_entropy
from minimind.model import Transformer


def hidden_states(model: Transformer, batch: Batch) -> torch.Tensor:
    """(B, T, D): what the model makes of a packed batch."""
    hidden_BTD: torch.Tensor = model(batch.tokens, batch.positions, batch.documents, batch.cu_seqlens)
    return hidden_BTD


def next_token_nll(
    model: Transformer,
    hidden_BTD: torch.Tensor,
    batch: Batch,
    cross_entropy: CrossEntropy = linear_cross_entropy,
) -> torch.Tensor:
    """Scalar: Σ weight · −log p(target) in nats over the targets that are trained on.

    Only their positions get logits: of a conversation about a third. The weights are the batch's column `weights`,
    1 where it has none.
    """
    valid_N = valid_positions(batch)
    hidden_ND, targets_N = hidden_BTD.flatten(0, 1)[valid_N], batch.targets.flatten()[valid_N]
    weights_N = batch.columns["weights"].flatten()[valid_N] if "weights" in batch.columns else None
    return cross_entropy(hidden_ND, model.output_weight, targets_N, weights_N)
