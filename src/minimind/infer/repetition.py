"""Texts that go round in circles, noticed while they do."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_LOOP = 64  # tokens of a block that comes again and again


def loops(ids: Sequence[int], times: int) -> bool:
    """Whether the text ends in one block of at most LONGEST_LOOP tokens, `times` times in a row."""
    for size in range(1, min(LONGEST_LOOP, len(ids) // times) + 1):
        if ids[-1] == ids[-1 - size * (times - 1)]:  # seldom, and cheaper than comparing all
            tail = ids[-size * times :]
            if tail[size:] == tail[:-size]:
                return True
    return False
