"""The learning rate's course."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimind.optim.options import ScheduleOptions
from minimind.optim.schedule import lr_multiplier


def course(kind, steps, warmup=0, decay=0, min_lr_ratio=0.0):
    schedule = ScheduleOptions(kind, warmup / steps, decay / steps, min_lr_ratio)
    return [lr_multiplier(schedule, step, steps) for step in range(steps)]


def test_courses_computed_by_hand():
    assert course("constant", 6, warmup=2) == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 1])
    assert course("wsd", 8, warmup=1, decay=4) == pytest.approx([0.5, 1, 1, 1, 1, 0.75, 0.5, 0.25])
    assert course("wsd", 5, decay=5, min_lr_ratio=0.5) == pytest.approx([1, 0.9, 0.8, 0.7, 0.6])
    half = math.sqrt(0.5)
    assert course("cosine", 4) == pytest.approx([1, (1 + half) / 2, 0.5, (1 - half) / 2])
    assert course("cosine", 6, warmup=2, min_lr_ratio=0.2)[4] == pytest.approx(0.2 + 0.8 * 0.5)


def test_no_step_is_wasted_on_a_rate_of_nothing():
    assert min(course("wsd", 10, warmup=3, decay=6)) > 0
    assert min(course("cosine", 10, warmup=3)) > 0


@given(
    st.sampled_from(["constant", "cosine", "wsd"]),
    st.integers(1, 500),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_the_rate_stays_in_bounds_and_makes_no_jumps(kind, steps, warmup, decay, min_lr_ratio):
    warm, cool = round(warmup * steps), round(decay * steps)
    rates = course(kind, steps, warm, cool, min_lr_ratio)
    assert all(0 < rate <= 1 for rate in rates)
    down = rates[warm:]
    assert all(a >= b for a, b in pairwise(down))  # after the warm-up it never rises
    assert all(rate >= min_lr_ratio * (1 - 1e-12) for rate in down)
    if warmup + decay <= 1:
        largest = max(1 / (warm + 1), {"constant": 0, "cosine": math.pi / 2 / max(1, steps - warm)}.get(kind, 0))
        largest = max(largest, 1 / max(1, cool)) if kind == "wsd" else largest
        assert all(abs(a - b) <= largest + 1e-9 for a, b in pairwise(rates))
