"""What one pass of the network reads: tokens of many texts in one flat row, and where the keys of each text are.

Letters in names: N tokens, T tokens of one text, S cached positions, R rows of a cache, H heads, K key/value heads,
G = H / K, C channels of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from minimind.model.kv_cache import KVCache


@dataclass
class AttentionSpan:
    """Tokens that stand side by side in a pass and attend in one call.

    Either one token of each of R rows of a cache, or several of one text, whose row it alone is.
    """

    first: int
    stop: int
    lines: Sequence[torch.Tensor]
    """per layer: the cache as flat lines"""
    index_N: torch.Tensor
    """into which line each token's key and value go"""
    keys_values: Sequence[tuple[torch.Tensor, torch.Tensor]]
    """per layer: (R, K, S, C) each"""
    mask: torch.Tensor | None
    """what is added to the scores: (R, 1, 1, S), or (1, 1, T, S); None where everything is seen"""

    def attend(self, layer: int, query_NHC: torch.Tensor, out_NHC: torch.Tensor) -> None:
        """The query heads of one key head are laid side by side, so that no key is copied."""
        key_RKSC, value_RKSC = self.keys_values[layer]
        N, H, C = query_NHC.shape
        R, K, S, _ = key_RKSC.shape
        if N == R:  # one token a row: its G heads are like G tokens
            mixed = F.scaled_dot_product_attention(
                query_NHC.view(R, K, H // K, C), key_RKSC, value_RKSC, attn_mask=self.mask
            )
            out_NHC.view(R, K, H // K, C).copy_(mixed)
        else:  # one text: its key heads are like rows
            query_KGTC = query_NHC.view(N, K, H // K, C).permute(1, 2, 0, 3)
            shape = (K, H // K, S, C)
            mixed = F.scaled_dot_product_attention(
                query_KGTC,
                key_RKSC.transpose(0, 1).expand(shape),
                value_RKSC.transpose(0, 1).expand(shape),
                attn_mask=self.mask,
            )
            out_NHC.view(N, K, H // K, C).copy_(mixed.permute(2, 0, 1, 3))


@dataclass
class Inputs:
    """The tokens of one pass and what belongs to each of them, in the order in which they were added."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    """of each token in its own text"""
    lengths: list[int] = field(default_factory=list)
    """of each token's text, as far as it is known: positions that are scaled by it ask for that"""
    adapters: list[str | None] = field(default_factory=list)
    """which one each token asks for; None: the base alone"""
    spans: list[AttentionSpan] = field(default_factory=list)
    """cover the tokens in order"""

    def decode(
        self, cache: KVCache, tokens: Sequence[int], lengths: Sequence[int], adapters: Sequence[str | None] = ()
    ) -> Inputs:
        """Add the last token of each of the cache's first rows, whose texts are so long, that token included."""
        device, longest = cache.memory.device, max(lengths)
        lengths_R = torch.tensor(lengths, device=device)
        mask = None
        if min(lengths) < longest:
            hidden_RS = torch.arange(longest, device=device) >= lengths_R[:, None]
            mask = cache.memory.new_zeros(hidden_RS.shape).masked_fill_(hidden_RS, -torch.inf)[:, None, None]
        index_R = torch.arange(len(lengths), device=device) * cache.length + lengths_R - 1
        self._attend(cache, index_R, cache.keys_values(len(lengths), longest), mask)
        self.tokens += tokens
        self.positions += [length - 1 for length in lengths]
        self.lengths += lengths
        self.adapters += adapters or [None] * len(lengths)
        return self

    def prefill(
        self, cache: KVCache, text: Sequence[int], start: int, stop: int, adapter: str | None = None
    ) -> Inputs:
        """Add positions `start` to `stop` of the text whose keys are in the cache's first row."""
        index_T = torch.arange(start, stop, device=cache.memory.device)
        mask = cache.memory.new_full((1, 1, stop - start, stop), -torch.inf).triu_(start + 1)
        self._attend(cache, index_T, cache.keys_values(1, stop), mask)
        self.tokens += text[start:stop]
        self.positions += range(start, stop)
        self.lengths += [len(text)] * (stop - start)
        self.adapters += [adapter] * (stop - start)
        return self

    def _attend(
        self,
        cache: KVCache,
        index_N: torch.Tensor,
        keys_values: Sequence[tuple[torch.Tensor, torch.Tensor]],
        mask: torch.Tensor | None,
    ) -> None:
        first = len(self.tokens)
        self.spans.append(AttentionSpan(first, first + len(index_N), cache.flat(), index_N, keys_values, mask))
