"""Small models fall into loops; here they are measured, and noticed while they happen."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_LOOP = 64  # tokens of a block that comes again and again


def repeated_rate(ids: Sequence[int], n: int = 4) -> float:
    """The share of n-grams that stood in the text before: 0 where none did, close to 1 in a loop."""
    ngrams = [tuple(ids[start : start + n]) for start in range(len(ids) - n + 1)]
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def loops(ids: Sequence[int], times: int) -> bool:
    """Whether the text ends in one block of at most LONGEST_LOOP tokens, `times` times in a row."""
    for size in range(1, min(LONGEST_LOOP, len(ids) // times) + 1):
        if ids[-1] == ids[-1 - size * (times - 1)]:  # seldom, and cheaper than comparing all
            tail = ids[-size * times :]
            if tail[size:] == tail[:-size]:
                return True
    return False
