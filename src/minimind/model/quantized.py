"""Frozen matrices in 8 or 4 bits, for adapters beside them (QLoRA: Dettmers et al. 2023, arXiv:2305.14314).

A frozen matrix is only read, so it may be kept roughly. 64 weights at a time are 64 codes, each the number of an
entry in a table of values between −1 and 1, and one scale, the largest of the weights; bitsandbytes makes codes of
weights, and weights of codes. With 4 bits the table is NF4, quantiles of a normal distribution (section 3 of the
paper); with 8 it is the dynamic one of Dettmers et al. 2022 (arXiv:2110.02861, section 2.1).

The matrix is made anew for each product and dropped behind it, in the backward pass once more: no pass keeps one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from minimind.errors import missing_extra
from minimind.model.transformer import Linear

BaseBits = Literal[4, 8, 32]
BLOCK = 64
"""weights that share a scale, a fp32 number: half a bit for each"""


def library() -> ModuleType:
    """`bitsandbytes.functional`; UserError where it is not installed."""
    try:
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # on some CPUs it misses a kernel not used here
        import bitsandbytes.functional
    except ImportError:
        raise missing_extra("bitsandbytes", "quantized") from None
    functional: ModuleType = bitsandbytes.functional
    return functional


def stored_bytes(weights: int, bits: BaseBits) -> float:
    """What so many weights of matrices take, their scales included."""
    return weights * bits / 8 + (0 if bits == 32 else weights / BLOCK * 4)


class QuantizedLinear(Linear):
    """A frozen Linear in 8 or 4 bits; `weight` is the matrix in fp32, made anew each time."""

    codes: torch.Tensor
    scales: torch.Tensor
    table: torch.Tensor

    def __init__(self, linear: Linear, bits: BaseBits) -> None:
        nn.Module.__init__(self)  # no matrix of its own
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_parameter("bias", None)
        weight = linear.weight.detach()
        if bits == 4:
            codes, state = library().quantize_4bit(weight, blocksize=BLOCK, quant_type="nf4")
        else:
            codes, state = library().quantize_blockwise(weight, blocksize=BLOCK)
        self.register_buffer("codes", codes)
        self.register_buffer("scales", state.absmax)
        self.register_buffer("table", state.code.to(weight.device))

    @property
    def weight(self) -> torch.Tensor:  # type: ignore[override]
        return _matrix(*self._parts(), torch.float32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = _linear(x, *self._parts())
        return out

    def _parts(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[int]]:
        return self.codes, self.scales, self.table, [self.out_features, self.in_features]


def quantize(model: nn.Module, names: Sequence[str], bits: BaseBits) -> None:
    """Keep these Linears in so many bits, rounded one after the other where they are: the same on every device."""
    for name in names:
        linear = model.get_submodule(name)
        assert isinstance(linear, Linear)
        model.set_submodule(name, QuantizedLinear(linear, bits))


def _matrix(
    codes: torch.Tensor, scales: torch.Tensor, table: torch.Tensor, shape: Sequence[int], dtype: torch.dtype
) -> torch.Tensor:
    functional = library()
    kind = torch.float32 if dtype == torch.float64 else dtype
    state = functional.QuantState(scales.float(), torch.Size(shape), table.float(), BLOCK, "nf4", kind)
    make = functional.dequantize_4bit if len(table) == 16 else functional.dequantize_blockwise
    matrix: torch.Tensor = make(codes, state)
    return matrix.to(dtype)


# Custom operators: torch.compile would see that forward and backward make the same matrix, and keep it in between.
@torch.library.custom_op("minimind::quantized_linear", mutates_args=())
def _linear(
    x: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor, table: torch.Tensor, shape: Sequence[int]
) -> torch.Tensor:
    return F.linear(x, _matrix(codes, scales, table, shape, x.dtype))


@torch.library.custom_op("minimind::quantized_linear_backward", mutates_args=())
def _linear_backward(
    grad: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor, table: torch.Tensor, shape: Sequence[int]
) -> torch.Tensor:
    return grad @ _matrix(codes, scales, table, shape, grad.dtype)


@_linear.register_fake
def _(x: torch.Tensor, codes: Any, scales: Any, table: Any, shape: Sequence[int]) -> torch.Tensor:
    return x.new_empty(*x.shape[:-1], shape[0])


@_linear_backward.register_fake
def _(grad: torch.Tensor, codes: Any, scales: Any, table: Any, shape: Sequence[int]) -> torch.Tensor:
    return grad.new_empty(*grad.shape[:-1], shape[1])


def _save(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    _, *parts, ctx.shape = inputs
    ctx.save_for_backward(*parts)


def _differentiate(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    return _linear_backward(grad, *ctx.saved_tensors, ctx.shape), None, None, None, None


_linear.register_autograd(_differentiate, setup_context=_save)
