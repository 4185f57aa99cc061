"""Keys and values of texts that were prefilled or decoded already, for prompts that begin like them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two texts have in common at their beginning."""
    length = min(len(first), len(second))
    if first[:length] == second[:length]:
        return length
    low, high = 0, length  # first[:low] is equal, first[:high] is not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if first[low:middle] == second[low:middle] else (low, middle)
    return low


@dataclass(frozen=True)
class Text:
    """What keys and values depend on: the ids so far, and the adapter that computed them."""

    ids: tuple[int, ...]
    adapter: str | None = None


class PrefixCache:
    """Texts with their keys and values, in at most so many bytes; the least recently used are evicted first.

    What is found is copied, so evicting a text never takes anything away from a request.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.texts: dict[Text, torch.Tensor] = {}  # to (L, positions, 2, K, C), oldest use first
        self.bytes = 0

    def lookup(self, prompt: list[int], adapter: str | None) -> tuple[int, Text | None]:
        """How many tokens of the prompt are cached, and in which text; never the last: its output is wanted."""
        prompt_ids, best = tuple(prompt[:-1]), 0
        best_text: Text | None = None
        for text in self.texts:
            if text.adapter != adapter or text.ids[:best] != prompt_ids[:best]:
                continue
            if (common := common_prefix(text.ids, prompt_ids)) > best:
                best, best_text = common, text
        return best, best_text

    def read(self, text: Text, length: int) -> torch.Tensor:
        """(L, length, 2, K, C): the first positions of a cached text, to be copied."""
        memory = self.texts[text] = self.texts.pop(text)  # used last
        return memory[:, :length]

    def insert(self, ids: Sequence[int], adapter: str | None, memory: torch.Tensor) -> None:
        """Keep the keys and values of `ids`, memory that is nobody else's; texts that they begin with go."""
        text = Text(tuple(ids), adapter)
        if memory.nbytes > self.capacity:
            return
        beginnings = [
            other for other in self.texts if other.adapter == adapter and text.ids[: len(other.ids)] == other.ids
        ]
        for other in beginnings:
            self._evict(other)
        self.texts[text] = memory
        self.bytes += memory.nbytes
        while self.bytes > self.capacity:
            self._evict(next(iter(self.texts)))

    def _evict(self, text: Text) -> None:
        self.bytes -= self.texts.pop(text).nbytes
