"""Attention: the reference, and the one seam over faster kernels.

`reference_attention` says what is computed: plain matrix products and a softmax. `attend` is what the model calls;
everything about masks and kernels is decided here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F

from minimind.model.kernels.varlen_attention import document_boundaries, fixed_size, varlen_attention

# Sequences up to this length attend in one masked call on a CPU: what it computes in vain is less than what a call
# for each document costs.
SHORT_SEQUENCE = 128

AttentionChoice = Literal["auto", "masked", "reference"]
"""the kernel that is fastest here; PyTorch's with a dense mask; the reference"""


def reference_attention(
    query_BHTC: torch.Tensor, key_BKSC: torch.Tensor, value_BKSC: torch.Tensor, allowed_BTS: torch.Tensor
) -> torch.Tensor:
    """softmax(q·k / √C, masked) · v with H query heads sharing K key/value heads; (B, H, T, C).

    allowed_BTS  (B, 1, T, S) bool, see `document_mask`

    The query heads of one key head are laid end to end, so that no key is copied.
    """
    B, H, T, C = query_BHTC.shape
    K, S = key_BKSC.shape[1:3]
    query = (query_BHTC * C**-0.5).reshape(B, K, (H // K) * T, C)
    scores = (query @ key_BKSC.transpose(-2, -1)).view(B, K, H // K, T, S)
    wide = torch.promote_types(scores.dtype, torch.float32)  # a softmax in half precision loses the small weights
    scores = scores.to(wide).masked_fill(~allowed_BTS[:, :, None], float("-inf"))
    weights = scores.softmax(-1).to(value_BKSC.dtype).view(B, K, (H // K) * T, S)
    return (weights @ value_BKSC).view(B, H, T, -1)


def document_mask(documents_BT: torch.Tensor) -> torch.Tensor:
    """(B, 1, T, T) bool: causal, and only inside one's own document.

    Padding (document −1) sees the padding before it, so that no row of the softmax is empty.
    """
    length = documents_BT.shape[1]
    same = documents_BT[:, None, :, None] == documents_BT[:, None, None, :]
    steps = torch.arange(length, device=documents_BT.device)
    return same & (steps[:, None] >= steps[None, :])


@dataclass
class Mask:
    """Who sees whom: a dense mask, or what says the same to a faster kernel, or nothing.

    allowed_BTS  (B, 1, T, S) bool, True = position t may look at s
    boundaries   where the documents begin, on a CPU: see `varlen_attention`
    blocks       torch.nn.attention.flex_attention.BlockMask, on CUDA

    reference    whether `reference_attention` computes

    With none, every position sees itself and all before it, and no mask takes memory.
    """

    allowed_BTS: torch.Tensor | None = None
    boundaries: torch.Tensor | None = None
    blocks: Any = None
    reference: bool = False


def make_mask(
    documents_BT: torch.Tensor,
    cu_seqlens: torch.Tensor | None = None,
    compiled: bool = False,
    choice: AttentionChoice = "auto",
) -> Mask:
    """The mask of a packed batch, for the kernel that serves it best.

    cu_seqlens  as in `Batch`; found from the documents where it is not given

    flex_attention skips what other documents hide, but only compiled code on CUDA gains by it (run plainly it
    holds all scores), and its backward adds in no fixed order.
    """
    if choice != "auto":
        return Mask(allowed_BTS=document_mask(documents_BT), reference=choice == "reference")
    if documents_BT.device.type == "cpu" and documents_BT.shape[1] > SHORT_SEQUENCE:
        cu_seqlens = document_boundaries(documents_BT) if cu_seqlens is None else cu_seqlens
        return Mask(boundaries=fixed_size(cu_seqlens, documents_BT.numel() + 1))
    if compiled and documents_BT.is_cuda and not torch.are_deterministic_algorithms_enabled():
        from torch.nn.attention.flex_attention import create_block_mask

        def same_document_before(b: Any, h: Any, q: Any, k: Any) -> Any:
            return (documents_BT[b, q] == documents_BT[b, k]) & (q >= k)

        B, T = documents_BT.shape
        blocks = create_block_mask(same_document_before, B, None, T, T, documents_BT.device)
        return Mask(blocks=blocks)
    return Mask(allowed_BTS=document_mask(documents_BT))


def attend(query_BHTC: torch.Tensor, key_BKSC: torch.Tensor, value_BKSC: torch.Tensor, mask: Mask) -> torch.Tensor:
    """The same as `reference_attention` by the mask's kernel; returns (B, H, T, C)."""
    if mask.blocks is not None:
        from torch.nn.attention.flex_attention import flex_attention

        return flex_attention(query_BHTC, key_BKSC, value_BKSC, block_mask=mask.blocks, enable_gqa=True)
    if mask.boundaries is not None:
        return varlen_attention(query_BHTC, key_BKSC, value_BKSC, mask.boundaries)
    if mask.reference and mask.allowed_BTS is not None:
        return reference_attention(query_BHTC, key_BKSC, value_BKSC, mask.allowed_BTS)
    if mask.allowed_BTS is None:
        return F.scaled_dot_product_attention(query_BHTC, key_BKSC, value_BKSC, is_causal=True, enable_gqa=True)
    return F.scaled_dot_product_attention(
        query_BHTC, key_BKSC, value_BKSC, attn_mask=mask.allowed_BTS, enable_gqa=True
    )
