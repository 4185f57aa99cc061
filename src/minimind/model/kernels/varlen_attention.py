"""Causal attention inside each document of packed sequences, on a CPU: a call of PyTorch's flash kernel for each.

A mask over whole sequences makes the kernel compute what the mask then hides: half of the scores by causality, all
between documents. Called for each document it computes neither, keeps no scores for the backward pass, and reads
grouped keys as they are. Shapes are those of `attention.attend`.
"""

from __future__ import annotations

from typing import Any

import torch

from minimind.hardware import padded_size

DocumentPlace = tuple[slice, slice, slice]  # a document's place in (B, heads, T, C)

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def varlen_attention(
    query_BHTC: torch.Tensor, key_BKTC: torch.Tensor, value_BKTC: torch.Tensor, boundaries: torch.Tensor
) -> torch.Tensor:
    """softmax(q·k / √C) · v over the positions of the same document up to one's own; (B, H, T, C).

    boundaries  as `fixed_size` makes them of cu_seqlens
    """
    return _attend(query_BHTC, key_BKTC, value_BKTC, boundaries)[0]


def fixed_size(cu_seqlens: torch.Tensor, size: int) -> torch.Tensor:
    """cu_seqlens filled up with its last value, B·T, to `size` = B·T + 1 entries.

    A tensor of another size in every batch would make torch.compile compile every batch anew.
    """
    return torch.cat([cu_seqlens, cu_seqlens[-1:].expand(size - len(cu_seqlens))])


def document_boundaries(documents_BT: torch.Tensor) -> torch.Tensor:
    """cu_seqlens of packed sequences: equal numbers side by side are one document, and so is a run of padding."""
    begins = documents_BT != documents_BT.roll(1, dims=1)
    begins[:, 0] = True
    starts = begins.flatten().nonzero()[:, 0]
    return torch.cat([starts, starts.new_tensor([documents_BT.numel()])]).to(torch.int32)


# Custom operators, so that torch.compile takes the loops for one step and does not unroll them.
@torch.library.custom_op("minimind::varlen_attention", mutates_args=(), device_types="cpu")
def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, boundaries: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The attention, and the logarithm of each softmax's denominator (B, H, T), which the backward pass needs."""
    mixed, normalizer = _empty(query, key, value, boundaries)
    for place in places(boundaries, query.shape[2]):
        length = place[2].stop - place[2].start
        inputs = [_padded(tensor[place], padded_size(length, query)) for tensor in (query, key, value)]
        mixed[place], normalizer[place] = (part[:, :, :length] for part in _forward(*inputs, 0.0, True))
    return mixed, normalizer


def _padded(part: torch.Tensor, length: int) -> torch.Tensor:
    """(1, heads, T, …) of a document with zeros behind it up to `length` positions.

    No position of the document sees them; as queries they have no gradient, so that no key gets one from them.
    """
    extra = length - part.shape[2]
    return torch.cat([part, part.new_zeros(*part.shape[:2], extra, *part.shape[3:])], dim=2) if extra else part


@_attend.register_fake
def _empty(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, boundaries: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    B, H, T, _ = query.shape
    mixed = query.new_empty(B, T, H, value.shape[-1]).transpose(1, 2)  # laid out for the output projection
    return mixed, query.new_empty((B, H, T), dtype=torch.promote_types(query.dtype, torch.float32))


@torch.library.custom_op("minimind::varlen_attention_backward", mutates_args=(), device_types="cpu")
def _attend_backward(
    gradient: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    boundaries: torch.Tensor,
    mixed: torch.Tensor,
    normalizer: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    gradients = _empty_like_inputs(gradient, query, key, value, boundaries, mixed, normalizer)
    for place in places(boundaries, query.shape[2]):
        length = place[2].stop - place[2].start
        inputs = [
            _padded(tensor[place], padded_size(length, query))
            for tensor in (gradient, query, key, value, mixed, normalizer)
        ]
        for whole, part in zip(gradients, _backward(*inputs, 0.0, True)):
            whole[place] = part[:, :, :length]
    return gradients


@_attend_backward.register_fake
def _empty_like_inputs(
    gradient: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


def _save(ctx: Any, inputs: tuple[torch.Tensor, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    ctx.save_for_backward(*inputs, *output)


def _differentiate(ctx: Any, gradient: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    return (*_attend_backward(gradient, *ctx.saved_tensors), None)


_attend.register_autograd(_differentiate, setup_context=_save)


def places(boundaries: torch.Tensor, length: int) -> list[DocumentPlace]:
    """Where each document lies in sequences of `length` positions; `boundaries` may be filled up at its end."""
    ends = boundaries.numpy()
    starts = ends[: ends.searchsorted(ends[-1])].tolist()
    every = slice(None)
    return [
        (slice(start // length, start // length + 1), every, slice(start % length, (stop - 1) % length + 1))
        for start, stop in zip(starts, [*starts[1:], int(ends[-1])])
    ]
