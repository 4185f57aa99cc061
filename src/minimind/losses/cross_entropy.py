"""The NLL of the next token, and cross-entropy of a linear output layer without ever holding all logits.

N positions times V tokens in fp32 is the largest tensor of a small model's training step. Here the logits of a
chunk of positions live just long enough to give the chunk's loss and, in the same pass, its gradients: the same
three matrix products as the plain way, in a fraction of the memory.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F

from minimind.data.batches.batch import IGNORE, Batch, valid_positions
from minimind.hardware import padded_size
from minimind.model import Transformer

CHUNK_LOGITS = 2**23  # logits held at a time: 32 MiB in fp32, which stays near the cache


class CrossEntropy(Protocol):
    """Both functions below: the reference and the one that is used."""

    def __call__(
        self,
        hidden_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        targets_N: torch.Tensor,
        weights_N: torch.Tensor | None = None,
    ) -> torch.Tensor: ...


def reference(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    targets_N: torch.Tensor,
    weights_N: torch.Tensor | None = None,
) -> torch.Tensor:
    """The obvious way: sum over n of weight_n · −log softmax(W h_n)[target_n], IGNORE left out."""
    logits_NV = F.linear(hidden_ND, weight_VD.to(hidden_ND.dtype))
    logits_NV = logits_NV if logits_NV.dtype == torch.float64 else logits_NV.float()
    losses_N = F.cross_entropy(logits_NV, targets_N, ignore_index=IGNORE, reduction="none")
    return (losses_N if weights_N is None else losses_N * weights_N).sum()


def linear_cross_entropy(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    targets_N: torch.Tensor,
    weights_N: torch.Tensor | None = None,
) -> torch.Tensor:
    """The same sum in nats, as a scalar, by chunks; differentiable in `hidden_ND` and `weight_VD`.

    hidden_ND (N, D) in the compute type, weight_VD (V, D) master, targets_N (N,) int64, weights_N (N,) or None.
    """
    if weights_N is None:
        weights_N = (targets_N != IGNORE).float()
    else:
        weights_N = weights_N * (targets_N != IGNORE)
    if extra := padded_size(len(hidden_ND), hidden_ND) - len(hidden_ND):
        hidden_ND = F.pad(hidden_ND, (0, 0, 0, extra))
        targets_N, weights_N = F.pad(targets_N, (0, extra)), F.pad(weights_N, (0, extra))  # weight 0 adds nothing
    targets_N = targets_N.clamp(min=0)

    def chunk(logits_NV: torch.Tensor, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss, and its gradient by the logits: (softmax − one-hot) · weight. Few passes over the logits."""
        log_probabilities, targets, weights = logits_NV.log_softmax(-1), targets_N[rows], weights_N[rows]
        positions = torch.arange(len(targets), device=targets.device)
        loss = -(log_probabilities[positions, targets] * weights).sum()
        gradient = log_probabilities.exp_()
        gradient[positions, targets] -= 1
        return loss[None], gradient.mul_(weights[:, None])

    return sum_by_chunks(hidden_ND, weight_VD, chunk)[0]


class Chunk(Protocol):
    """What a loss makes of the logits of some positions."""

    def __call__(self, logits_NV: torch.Tensor, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Sums (M,) over the positions `rows`, the loss before what is only looked at, and the gradient (N, V) of
        the loss by the logits. The logits may be overwritten."""


def sum_by_chunks(
    hidden_ND: torch.Tensor, weight_VD: torch.Tensor, chunk: Chunk
) -> tuple[torch.Tensor, torch.Tensor]:
    """What `chunk` gives, summed over all positions: the loss, differentiable in `hidden_ND` and `weight_VD`, and
    (M - 1,) what is only looked at."""
    differentiable = torch.is_grad_enabled()  # inside an autograd.Function it never is
    return _SumByChunks.apply(hidden_ND, weight_VD, chunk, differentiable)  # type: ignore[no-untyped-call]


class _SumByChunks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_ND: torch.Tensor, weight_VD: torch.Tensor, chunk: Chunk, differentiable: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        rows = max(1, CHUNK_LOGITS // weight_VD.shape[0])
        weight = weight_VD.to(hidden_ND.dtype)
        wide = torch.promote_types(hidden_ND.dtype, torch.float32)
        sums: torch.Tensor | None = None
        needs_grad = differentiable and any(ctx.needs_input_grad)
        grad_hidden = torch.empty_like(hidden_ND) if needs_grad else None
        grad_weight = torch.zeros_like(weight_VD) if needs_grad and ctx.needs_input_grad[1] else None
        for i in range(0, max(1, hidden_ND.shape[0]), rows):  # of no positions, too, there are sums
            hidden = hidden_ND[i : i + rows]
            chunk_sums, grad_logits = chunk((hidden @ weight.T).to(wide), slice(i, i + rows))
            sums = chunk_sums if sums is None else sums + chunk_sums
            if grad_hidden is None:
                continue
            grad_logits = grad_logits.to(hidden.dtype)
            torch.mm(grad_logits, weight, out=grad_hidden[i : i + rows])
            if grad_weight is not None and hidden.dtype == grad_weight.dtype:
                grad_weight.addmm_(grad_logits.T, hidden)
            elif grad_weight is not None:  # else it is frozen, as beside an adapter
                grad_weight += grad_logits.T @ hidden
        ctx.save_for_backward(grad_hidden, grad_weight)
        assert sums is not None
        loss, looked_at = sums[0].clone(), sums[1:].clone()
        ctx.mark_non_differentiable(looked_at)
        return loss, looked_at

    @staticmethod
    def backward(ctx: Any, grad_loss: torch.Tensor, _: Any) -> Any:  # type: ignore[override]
        grad_hidden, grad_weight = ctx.saved_tensors
        grad_weight = None if grad_weight is None else grad_weight * grad_loss
        return grad_hidden * grad_loss.to(grad_hidden.dtype), grad_weight, None, None


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
