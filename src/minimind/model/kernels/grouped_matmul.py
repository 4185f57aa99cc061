"""One matrix product per group of rows: y_n = W_e x_n for the rows of group e.

On CUDA in bf16 it is torch's `grouped_mm`, one kernel that waits for nothing. Elsewhere it is a loop over the
groups in an operator of its own, which torch.compile takes as it is; on a GPU that older types would need it on, it
waits for the groups' sizes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from minimind.hardware import padded_size


def grouped_matmul(rows_NI: torch.Tensor, weight_EOI: torch.Tensor, ends_E: torch.Tensor) -> torch.Tensor:
    """(N, O). Group e has the rows from ends[e − 1] up to ends[e]; ends (E,) int32 ends with N."""
    aligned = all(size % 8 == 0 for size in weight_EOI.shape[1:])  # the kernel reads 16 bytes at a time
    if rows_NI.is_cuda and rows_NI.dtype == torch.bfloat16 and aligned:
        return F.grouped_mm(rows_NI, weight_EOI.mT, offs=ends_E)
    return _linear(rows_NI, weight_EOI, ends_E)


@torch.library.custom_op("minimind::grouped_matmul", mutates_args=())
def _linear(rows_NI: torch.Tensor, weight_EOI: torch.Tensor, ends_E: torch.Tensor) -> torch.Tensor:
    out_NO = rows_NI.new_empty(len(rows_NI), weight_EOI.shape[1])
    start = 0
    for weight_OI, end in zip(weight_EOI, ends_E.tolist()):
        window = _window(start, end, rows_NI)
        if window == slice(start, end):
            torch.mm(rows_NI[window], weight_OI.T, out=out_NO[window])
        else:
            out_NO[start:end] = (rows_NI[window] @ weight_OI.T)[start - window.start : end - window.start]
        start = end
    return out_NO


def _window(start: int, end: int, rows_NI: torch.Tensor) -> slice:
    """The rows of a group, and some of its neighbors' where that gives a size that is one of few."""
    size = min(padded_size(end - start, rows_NI), len(rows_NI)) if end > start else 0
    first = min(start, len(rows_NI) - size)
    return slice(first, first + size)


@torch.library.custom_op("minimind::grouped_linear_weight", mutates_args=())
def _weight_gradient(grad_NO: torch.Tensor, rows_NI: torch.Tensor, ends_E: torch.Tensor) -> torch.Tensor:
    """(E, O, I): of each group the sum over its rows of gradient ⊗ row; zero for a group without rows."""
    out_EOI = rows_NI.new_empty(len(ends_E), grad_NO.shape[1], rows_NI.shape[1])
    start = 0
    for out_OI, end in zip(out_EOI, ends_E.tolist()):
        window = _window(start, end, rows_NI)
        grad = grad_NO[window]
        if window != slice(start, end):  # the neighbors' rows add nothing
            grad = torch.zeros_like(grad)
            grad[start - window.start : end - window.start] = grad_NO[start:end]
        torch.mm(grad.T, rows_NI[window], out=out_OI)
        start = end
    return out_EOI


@_linear.register_fake
def _(rows_NI: torch.Tensor, weight_EOI: torch.Tensor, ends_E: torch.Tensor) -> torch.Tensor:
    return rows_NI.new_empty(len(rows_NI), weight_EOI.shape[1])


@_weight_gradient.register_fake
def _(grad_NO: torch.Tensor, rows_NI: torch.Tensor, ends_E: torch.Tensor) -> torch.Tensor:
    return rows_NI.new_empty(len(ends_E), grad_NO.shape[1], rows_NI.shape[1])


def _save(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad_NO: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
    rows_NI, weight_EOI, ends_E = ctx.saved_tensors
    return _linear(grad_NO, weight_EOI.mT, ends_E), _weight_gradient(grad_NO, rows_NI, ends_E), None


_linear.register_autograd(_backward, setup_context=_save)
