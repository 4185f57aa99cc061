"""Loops, measured and noticed."""

import random

import pytest

from minimind.infer.repetition import LONGEST_LOOP, loops, repeated_rate


def test_the_rate_is_the_share_of_ngrams_seen_before() -> None:
    assert repeated_rate([1, 2, 3]) == 0
    assert repeated_rate(range(100)) == 0
    assert repeated_rate([1, 2, 3, 4, 1, 2, 3, 4]) == pytest.approx(1 / 5)  # 1234 2341 3412 4123 1234
    assert repeated_rate([7] * 103) == pytest.approx(0.99)


def slow_loops(ids: list[int], times: int) -> bool:
    sizes = range(1, LONGEST_LOOP + 1)
    return any(size * times <= len(ids) and ids[-size * times :] == ids[-size:] * times for size in sizes)


def test_loops_are_found_where_they_are() -> None:
    rng = random.Random(0)
    for _ in range(2000):
        block = [rng.randrange(3) for _ in range(rng.randint(1, 6))]
        ids = [rng.randrange(3) for _ in range(rng.randrange(5))] + block * rng.randint(1, 5)
        times = rng.randint(2, 5)
        assert loops(ids, times) == slow_loops(ids, times)
    block = list(range(LONGEST_LOOP))
    assert loops(block * 3, 3)
    assert not loops([*block, 99] * 3, 3)
