"""Figures as a person reads them, whatever they are."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimind.util.units import date_text, duration, number_text, short, size_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (308.2, "5 min 08 s"),
        (3599.7, "1 h 00 min"),
        (3725, "1 h 02 min"),
        (100 * 3600, "4 d 04 h"),
        (math.inf, "?"),
        (math.nan, "?"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_sizes():
    sizes = (0, 999, 1000, 1.2346e7, 999_950, 100_458_418, 5e11, 1.5e12)
    assert [*map(size_text, sizes)] == ["0 B", "999 B", "1 KB", "12.3 MB", "1 MB", "100 MB", "500 GB", "1.5 TB"]


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1250, "1.25k"), (3e6, "3M"), (2.5e-5, "2.5e-5"), (0.3, "0.3"), (-1500, "-1.5k")]
)
def test_short_numbers(value, text):
    assert short(value) == text


def test_numbers_and_dates():
    assert [*map(number_text, (6400, 0.123456, 1234.5, math.nan))] == ["6,400", "0.1235", "1,234", "nan"]
    assert date_text(1_795_831_760).startswith("2026-11-2")
    assert date_text(1e300) == date_text(math.nan) == "?"


@given(st.floats() | st.integers())
def test_no_figure_is_too_strange_to_be_shown(value):
    for write in (number_text, date_text):
        assert write(value)


@given(st.floats(0, 1e15))
def test_a_duration_says_its_seconds_to_one_part_in_fifty(seconds):
    units = {"d": 86400, "h": 3600, "min": 60, "s": 1}
    words = duration(seconds).replace(",", "").split()
    said = sum(float(number) * units[unit] for number, unit in zip(words[::2], words[1::2]))
    assert said == pytest.approx(seconds, rel=0.04, abs=0.06)
