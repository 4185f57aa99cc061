"""Plots and reports: correct geometry, no lost spikes, valid markup, every text escaped."""

import itertools
import math
import os
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimind.runs import svg
from minimind.runs.html import Dialogues, Plots, Table, write_report
from minimind.runs.svg import Axis, Series, grid, line_plot, sparkline, thin
from minimind.util.files import write_text

SVG = "{http://www.w3.org/2000/svg}"
finite = st.floats(-1e12, 1e12, allow_subnormal=False)


def polylines(svg: str) -> list[list[tuple[float, float]]]:
    lines = ET.fromstring(svg).findall(f"{SVG}polyline")
    return [[tuple(map(float, p.split(","))) for p in line.get("points").split()] for line in lines]


def texts(svg: str) -> list[str]:
    return ["".join(node.itertext()) for node in ET.fromstring(svg).iter(f"{SVG}text")]


def test_line_lies_where_its_values_are():
    (line,) = polylines(line_plot("t", [Series("a", [0, 5, 10], [1.0, 3.0, 2.0])]))
    right, bottom, top = svg.WIDTH - svg.RIGHT, svg.HEIGHT - svg.BOTTOM, svg.TOP
    assert line == [(svg.LEFT, bottom), ((svg.LEFT + right) / 2, top), (right, (bottom + top) / 2)]


def test_log_axis_spaces_powers_evenly():
    (line,) = polylines(line_plot("t", [Series("a", [0, 1, 2], [0.01, 1.0, 100.0])], log_y=True))
    assert line[1][1] == pytest.approx((line[0][1] + line[2][1]) / 2, abs=0.1)


def test_a_log_x_axis_spaces_doublings_evenly():
    (line,) = polylines(line_plot("t", [Series("a", [128, 256, 512, 1024], [1.0, 2.0, 3.0, 4.0])], log_x=True))
    gaps = [right[0] - left[0] for left, right in itertools.pairwise(line)]
    assert gaps == pytest.approx([gaps[0]] * 3, abs=0.2)


@pytest.mark.parametrize(("log", "bad"), [(False, [None, math.nan, math.inf]), (True, [0.0, -1.0, None])])
def test_what_cannot_be_drawn_is_a_gap(log, bad):
    svg = line_plot("t", [Series("a", range(7), [1.0, 2.0, *bad, 3.0, 4.0])], log_y=log)
    assert [len(line) for line in polylines(svg)] == [2, 2]


def test_single_and_missing_points():
    alone = line_plot("t", [Series("a", [3], [2.0])])
    assert len(ET.fromstring(alone).findall(f"{SVG}circle")) == 1
    assert "no values" in texts(line_plot("t", [Series("a", [], [])]))
    with pytest.raises(ValueError, match="shorter"):
        line_plot("t", [Series("a", [1, 2], [1.0])])


def test_legend_only_for_several_lines():
    assert "only" not in texts(line_plot("t", [Series("only", [1, 2], [1.0, 2.0])]))
    both = line_plot("t", [Series("first", [1, 2], [1.0, 2.0]), Series("x" * 80, [1, 2], [2.0, 1.0])])
    assert "first" in texts(both)
    assert "x" * 80 in [node.text for node in ET.fromstring(both).iter(f"{SVG}title")]
    assert max(map(len, texts(both))) < 40


def test_texts_are_escaped_and_colours_follow_the_theme():
    svg = line_plot('<b> & "q"', [Series("<i>", [1, 2], [1.0, 2.0]), Series("b", [1, 2], [1.0, 2.0])], "<x>")
    assert {'<b> & "q"', "<i>", "<x>"} <= set(texts(svg))
    assert "prefers-color-scheme:dark" in svg
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")


def test_grid_places_every_plot():
    one = line_plot("t", [Series("a", [1, 2], [1.0, 2.0])])
    inner = ET.fromstring(grid([one] * 3, columns=2)).findall(f"{SVG}svg")
    assert [(int(i.get("x")), int(i.get("y"))) for i in inner] == [(0, 0), (svg.WIDTH, 0), (0, svg.HEIGHT)]


@given(st.lists(finite, min_size=1, max_size=3000))
def test_thinning_keeps_extremes_and_order(values):
    line = list(enumerate(values))
    thinned = thin(line, most=100)
    assert len(thinned) <= max(len(line) if len(line) <= 100 else 0, 100)
    assert thinned == sorted(set(thinned))
    assert set(thinned) <= set(line)
    assert min(y for _, y in thinned) == min(values)
    assert max(y for _, y in thinned) == max(values)


def test_thinning_keeps_gaps():
    line = [(x, None if 400 <= x < 600 else 1.0) for x in range(1000)]
    assert [y for x, y in thin(line, most=100) if 410 < x < 590] == [None] * 9


@given(finite, finite)
def test_ticks_are_round_and_inside(a, b):
    axis = Axis.around(min(a, b), max(a, b), 0, 100)
    ticks = axis.ticks()
    if axis.high - axis.low > 1e-9 * max(abs(axis.low), abs(axis.high)):
        assert 1 <= len(ticks) <= 7
        slack = (axis.high - axis.low) * 1e-6
        assert all(axis.low - slack <= tick <= axis.high + slack for tick in ticks)


@pytest.mark.parametrize(
    ("low", "high", "log", "ticks"),
    [
        (0, 10, False, [0, 2, 4, 6, 8, 10]),
        (0.13, 0.41, False, [0.15, 0.2, 0.25, 0.3, 0.35, 0.4]),
        (1, 1000, True, [1, 10, 100, 1000]),
        (3, 40, True, [5, 10, 20]),
        (3.0, 3.4, True, [3.0, 3.1, 3.2, 3.3, 3.4]),
    ],
)
def test_ticks(low, high, log, ticks):
    assert Axis(low, high, 0, 1, log).ticks() == pytest.approx(ticks)


def test_sparkline():
    assert sparkline([1, 2, 3, 4, 5, 6, 7, 8]) == "▁▂▃▄▅▆▇█"
    assert sparkline([5.0] * 3) == "▁▁▁"
    assert sparkline([]) == ""
    assert sparkline([None, math.nan, 1, 2]) == "▁█"
    assert len(sparkline(range(1000), width=25)) == 25


class Page(HTMLParser):
    """Text by tag, and a check that every tag is closed in order."""

    VOID = ("meta", "rect", "line", "circle", "polyline")

    def __init__(self, html: str):
        super().__init__()
        self.open, self.seen, self.tags = [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert tag in self.VOID or self.open.pop() == tag

    def handle_data(self, data):
        self.seen.append((self.open[-1] if self.open else "", data))


NASTY = "<script>alert('&')</script>"


def full_report(path):
    messages = [
        {"role": "system", "content": NASTY},
        {"role": "user", "content": "你好 " + NASTY},
        {"role": "assistant", "content": "好", "reasoning_content": "hm" + NASTY, "tool_calls": [{"name": NASTY}]},
        {"role": f'"{NASTY}', "content": None},
        {"role": "user", "content": f"one {NASTY}\n\ntwo \ud800"},
    ]
    return write_report(
        path,
        NASTY,
        [
            Table("Summary", "概要", [["tokens", 1234567], [NASTY, NASTY], ["none", None], ["on", True]]),
            Table("Scores" + NASTY, "分数", [["a", 0.123456], ["b", 12345.6]], ["name", NASTY]),
            Plots("Curves", "曲线", [line_plot(NASTY, [Series("a", [1, 2], [1.0, 2.0])])]),
            Dialogues("Samples", "样例", [(NASTY, messages)]),
        ],
    )


def test_report_is_one_closed_escaped_page(tmp_path):
    html = full_report(tmp_path / "sub" / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert "script" not in {tag for tag, _ in page.tags}
    assert not {"src", "href", "onclick"} & {name for _, attributes in page.tags for name in attributes}
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", html)
    assert any(tag == "meta" and "width=device-width" in values.get("content", "") for tag, values in page.tags)
    data = "".join(text for tag, text in page.seen if tag not in ("style",))
    assert data.count(NASTY) == 13
    for word in ("Summary", "概要", "1,234,567", "0.1235", "12,346", "True", "two ?"):
        assert word in data


def test_numbers_stand_right_below_their_column_name(tmp_path):
    page = Page(full_report(tmp_path / "r.html").read_text(encoding="utf-8"))
    right = [tag for tag, values in page.tags if values.get("class") == "number"]
    assert right == ["th", "td", "td"]


def test_report_replaces_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    write_report(path, "old", [])
    full_report(path)
    assert "old" not in path.read_text(encoding="utf-8")
    before = path.read_bytes()

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_text(path, "half")
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["report.html"]
