"""Seeded choices that come out the same on every machine and every Python version.

Only two things of the standard library are used whose results Python promises to keep: `random.Random(int)` with
its `random()` method, and checksums of bytes. `choice`, `shuffle` and `hash()` of text promise nothing of the kind.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


class Rng:
    """A stream of random choices; `key` (numbers and words) names the stream."""

    def __init__(self, *key: int | str):
        seed = 0
        for part in key:
            seed = seed * 2**32 + zlib.crc32(str(part).encode())
        self.random = random.Random(seed).random

    def below(self, n: int) -> int:
        """A whole number from 0 to n − 1."""
        return int(self.random() * n)

    def between(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self.random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        return self.random() < probability

    def pick(self, items: Sequence[T]) -> T:
        return items[int(self.random() * len(items))]

    def several(self, items: Sequence[T], n: int) -> list[T]:
        """n different entries of `items`, in random order (n may not exceed its length)."""
        chosen: dict[int, T] = {}
        while len(chosen) < n:
            i = self.below(len(items))
            chosen.setdefault(i, items[i])
        return list(chosen.values())

    def weighted(self, weights: Mapping[T, float]) -> T:
        """A key of `weights`, as often as its weight says."""
        at = self.random() * sum(weights.values())
        for key, weight in weights.items():
            at -= weight
            if at < 0:
                return key
        return key


def held_out(*parts: str | int, one_in: int = 10) -> bool:
    """Whether a thing is kept for evaluation: decided by its own name alone, so training and evaluation agree on it
    whatever their seeds."""
    return zlib.crc32("|".join(map(str, parts)).encode()) % one_in == 0
