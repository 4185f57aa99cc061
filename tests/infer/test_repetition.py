"""Loops, noticed while they happen."""

import random

from minimind.infer.repetition import LONGEST_LOOP, loops


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
