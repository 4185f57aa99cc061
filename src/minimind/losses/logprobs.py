"""Log-probabilities of the targets, without ever holding all logits: what preference and policy losses are made of.

Such a loss is any function of each target's log-probability, so its gradient is not known while the logits are
there, and the backward pass computes them again, chunk by chunk.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from minimind.data.batches.batch import Batch, valid_positions
from minimind.hardware import padded_size
from minimind.losses import cross_entropy
from minimind.losses.cross_entropy import hidden_states, linear_cross_entropy
from minimind.model import Transformer


def reference(hidden_ND: torch.Tensor, weight_VD: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
    """The obvious way: log softmax(W h_n)[target_n], (N,) in nats."""
    logits_NV = F.linear(hidden_ND, weight_VD.to(hidden_ND.dtype))
    logits_NV = logits_NV if logits_NV.dtype == torch.float64 else logits_NV.float()
    return logits_NV.log_softmax(-1).gather(-1, targets_N[:, None])[:, 0]


def target_logprobs(
    model: Transformer, hidden_BTD: torch.Tensor, batch: Batch, temperature: float = 1.0
) -> torch.Tensor:
    """(B, T): log p(target) in nats where a target is trained on, else 0; differentiable.

    temperature  divides the logits, as the sampler does: a policy's log-probabilities are those it sampled with
    """
    return _at_valid_positions(model, hidden_BTD, batch, temperature, with_entropy=False)[0]


def target_logprobs_and_entropy(
    model: Transformer, hidden_BTD: torch.Tensor, batch: Batch, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same, and −Σ_v p_v ln p_v (B, T) of the distributions they are from, a metric without a gradient."""
    return _at_valid_positions(model, hidden_BTD, batch, temperature, with_entropy=True)


def answer_logprobs(model: Transformer, batch: Batch) -> torch.Tensor:
    """(S,): the log-probability of each document's trained tokens together, in nats."""
    return batch.sum_by_document(target_logprobs(model, hidden_states(model, batch), batch))


def linear_logprobs(
    hidden_ND: torch.Tensor, weight_VD: torch.Tensor, targets_N: torch.Tensor, with_entropy: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same as `reference` by chunks, (N,), and the entropies (N,), zeros where they are not asked for.

    hidden_ND (N, D) in the compute type, weight_VD (V, D) master, targets_N (N,) int64 without IGNORE.
    """
    size = len(hidden_ND)
    if extra := padded_size(size, hidden_ND) - size:
        hidden_ND, targets_N = F.pad(hidden_ND, (0, 0, 0, extra)), F.pad(targets_N, (0, extra))
    values = _ChunkedLogprobs.apply(hidden_ND, weight_VD, targets_N, with_entropy)  # type: ignore[no-untyped-call]
    return values[0][:size], values[1][:size]


def _at_valid_positions(
    model: Transformer, hidden_BTD: torch.Tensor, batch: Batch, temperature: float, with_entropy: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    valid_N = valid_positions(batch)
    hidden_ND, targets_N = hidden_BTD.flatten(0, 1)[valid_N], batch.targets.flatten()[valid_N]
    if temperature != 1:
        hidden_ND = hidden_ND / temperature  # divides the logits, too; its rounding is finer than theirs
    values = linear_logprobs(hidden_ND, model.output_weight, targets_N, with_entropy)
    logprobs_BT, entropy_BT = (
        values_N.new_zeros(batch.targets.numel()).index_copy(0, valid_N, values_N).view_as(batch.targets)
        for values_N in values
    )
    return logprobs_BT, entropy_BT


class _ChunkedLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_ND: torch.Tensor, weight_VD: torch.Tensor, targets_N: torch.Tensor, with_entropy: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        weight = weight_VD.to(hidden_ND.dtype)
        wide = torch.promote_types(hidden_ND.dtype, torch.float32)
        logprobs_N = torch.zeros(len(hidden_ND), dtype=wide, device=hidden_ND.device)
        entropy_N = torch.zeros_like(logprobs_N)
        rows = max(1, cross_entropy.CHUNK_LOGITS // weight_VD.shape[0])
        for i in range(0, len(hidden_ND), rows):
            chunk = slice(i, i + rows)
            log_probabilities = (hidden_ND[chunk] @ weight.T).to(wide).log_softmax(-1)
            logprobs_N[chunk] = log_probabilities.gather(-1, targets_N[chunk, None])[:, 0]
            if with_entropy:
                entropy_N[chunk] = torch.special.entr(log_probabilities.exp_()).sum(-1)
        ctx.save_for_backward(hidden_ND, weight_VD, targets_N)
        ctx.mark_non_differentiable(entropy_N)
        return logprobs_N, entropy_N

    @staticmethod
    def backward(ctx: Any, grad_N: torch.Tensor, _: Any) -> Any:  # type: ignore[override]
        """Σ grad_n · log p_n is a cross-entropy with the weights −grad_n, and so are its gradients."""
        hidden_ND, weight_VD, targets_N = ctx.saved_tensors
        with torch.enable_grad():
            inputs = hidden_ND.detach().requires_grad_(), weight_VD.detach().requires_grad_()
            loss = linear_cross_entropy(*inputs, targets_N, -grad_N)
        return *torch.autograd.grad(loss, inputs), None, None
