"""Line plots as SVG text and as one line in the terminal, with no dependency.

An SVG carries its own style: colors are CSS variables that follow the reader's light or dark theme. It stands
alone as a file and lies as well inside a page.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from minimind.util.units import short

WIDTH, HEIGHT = 420, 270  # of one plot, in SVG units: readable at the width of a phone
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 30, 40  # margins around the plotting area
MOST_POINTS = 400  # of one line: more than one per pixel cannot be seen
LEGEND_COLUMNS, LEGEND_LINE = 3, 15
SIGNS, ASCII_SIGNS = "▁▂▃▄▅▆▇█", "_.-=+*%#"  # from low to high

# Colors that stay apart for color-blind readers (after Okabe and Ito), for a light and a dark ground.
LIGHT = ("#0072b2", "#d55e00", "#00805e", "#b0478a", "#8a6d00", "#3a9bd9", "#6b5bb5", "#555555")
DARK = ("#5cb3ee", "#ff9147", "#35c79a", "#e58fc4", "#e3c64a", "#9cd4f7", "#b3a6f0", "#bbbbbb")


def variables(ground: str, ink: str, quiet: str, grid: str, colors: Sequence[str]) -> str:
    lines = "".join(f"--line{i}:{color};" for i, color in enumerate(colors))
    return f".plot{{--ground:{ground};--ink:{ink};--quiet:{quiet};--grid:{grid};{lines}}}"


STYLE = (
    variables("#ffffff", "#1b1f24", "#5a636e", "#e3e6ea", LIGHT)
    + f"@media(prefers-color-scheme:dark){{{variables('#16191d', '#e8eaed', '#a0a8b2', '#2e343b', DARK)}}}"
    + ".plot{font:11px system-ui,sans-serif}.plot text{fill:var(--quiet)}.plot .ground{fill:var(--ground)}"
    + ".plot .title{fill:var(--ink);font-size:13px;font-weight:600}.plot .grid{stroke:var(--grid)}"
    + ".plot polyline{fill:none;stroke-width:1.6;stroke-linejoin:round}"
    + "".join(
        f".plot .line{i}{{stroke:var(--line{i})}}.plot .dot{i}{{fill:var(--line{i})}}" for i in range(len(LIGHT))
    )
)


@dataclass(frozen=True)
class Series:
    """One line: equally long x and y; a y of None or NaN (on a log axis also ≤ 0) is a gap in it."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]


def line_plot(
    title: str, series: Sequence[Series], x_label: str = "", log_y: bool = False, log_x: bool = False
) -> str:
    """Some lines over a shared x axis (on a log axis every x above 0), as one `<svg>` element."""
    lines = [thin(points(one, log_y)) for one in series]
    xs = [x for line in lines for x, _ in line]
    ys = [y for line in lines for _, y in line if y is not None]
    if ys:
        x_axis = Axis.around(min(xs), max(xs), LEFT, WIDTH - RIGHT, log_x)
        legend = draw_legend(series) if len(series) > 1 else []
        top = TOP + LEGEND_LINE * -(-len(legend) // LEGEND_COLUMNS)
        y_axis = Axis.around(min(ys), max(ys), HEIGHT - BOTTOM, top, log_y)
        body = legend + draw_axes(x_axis, y_axis, x_label)
        body += [path for i, line in enumerate(lines) for path in draw_line(line, x_axis, y_axis, i % len(LIGHT))]
    else:
        body = [label("no values", (LEFT + WIDTH - RIGHT) / 2, HEIGHT / 2, "middle")]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}"><style>{STYLE}</style>'
        f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
        f'<text class="title" x="{LEFT}" y="18">{escape(title)}</text>{"".join(body)}</svg>'
    )


def grid(plots: Sequence[str], columns: int = 2) -> str:
    """Several plots side by side in one SVG file."""
    rows = -(-len(plots) // columns)
    placed = "".join(
        plot.replace(
            "<svg ",
            f'<svg x="{i % columns * WIDTH}" y="{i // columns * HEIGHT}" width="{WIDTH}" height="{HEIGHT}" ',
            1,
        )
        for i, plot in enumerate(plots)
    )
    size = f'width="{columns * WIDTH}" height="{rows * HEIGHT}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" {size}><style>{STYLE}</style>'
        f'<rect class="ground" {size}/>{placed}</svg>\n'
    )


def sparkline(values: Sequence[float | None], width: int = 40, signs: str = SIGNS) -> str:
    """The course of some values in one line of text: ▇▅▃▂▁, each sign the mean of its share of them."""
    numbers = [value for value in values if value is not None and math.isfinite(value)]
    if not numbers:
        return ""
    count = min(width, len(numbers))
    cuts = [len(numbers) * i // count for i in range(count + 1)]
    means = [math.fsum(numbers[a:b]) / (b - a) for a, b in itertools.pairwise(cuts)]
    low, span = min(means), max(means) - min(means) or 1.0
    return "".join(signs[round((mean - low) / span * 7)] for mean in means)


# ---------------------------------------------------------------------------------------------- the points

Point = tuple[float, float | None]


def points(series: Series, log_y: bool) -> list[Point]:
    """What can be drawn: values that are no finite number (on a log axis: not above 0) become gaps."""

    def drawable(y: float | None) -> bool:
        return y is not None and math.isfinite(y) and (y > 0 or not log_y)

    return [(x, y if drawable(y) else None) for x, y in zip(series.x, series.y, strict=True)]


def thin(line: list[Point], most: int = MOST_POINTS) -> list[Point]:
    """At most about `most` points: of each stretch the lowest and the highest, so that no spike is lost."""
    if len(line) <= most:
        return line
    kept: list[Point] = []
    cuts = [len(line) * i // (most // 2) for i in range(most // 2 + 1)]
    for start, stop in itertools.pairwise(cuts):
        stretch = [(y, i) for i, (_, y) in enumerate(line[start:stop], start) if y is not None]
        extremes = sorted({min(stretch)[1], max(stretch)[1]}) if stretch else [start]
        kept += [line[i] for i in extremes]
    return kept


# ------------------------------------------------------------------------------------------------ the axes


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` laid from `start` to `stop` in SVG units."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    @classmethod
    def around(cls, low: float, high: float, start: float, stop: float, log: bool = False) -> "Axis":
        """An axis for these values; a single value gets room on both sides."""
        if low == high:
            low, high = (low / 2, high * 2) if log else (low - (abs(low) / 2 or 1), high + (abs(high) / 2 or 1))
        return cls(low, high, start, stop, log)

    def place(self, value: float) -> float:
        low, high, here = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (here - low) / (high - low) * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Round values: 1, 2 or 5 times a power of ten; on a log axis the powers first."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for factors in ((1,), (1, 2, 5)):
                ticks = [f * 10.0**p for p in powers for f in factors if self.low <= f * 10.0**p <= self.high]
                if len(ticks) >= 3:
                    return ticks[:: -(-len(ticks) // 8)]
        return round_ticks(self.low, self.high)


def round_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At most `most` + 1 multiples of 1, 2 or 5 times a power of ten between two values."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(f * power for f in (1, 2, 5, 10) if (high - low) / (f * power) <= most)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


# --------------------------------------------------------------------------------------------- the drawing


def label(text: str, x: float, y: float, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def draw_axes(x_axis: Axis, y_axis: Axis, x_label: str) -> list[str]:
    drawn = [label(x_label, (x_axis.start + x_axis.stop) / 2, HEIGHT - 8, "middle")]
    for value in y_axis.ticks():
        y = y_axis.place(value)
        drawn.append(f'<line class="grid" x1="{x_axis.start}" x2="{x_axis.stop}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(label(short(value), x_axis.start - 6, y + 4, "end"))
    for value in x_axis.ticks():
        drawn.append(label(short(value), x_axis.place(value), y_axis.start + 15, "middle"))
    return drawn


def draw_line(line: list[Point], x_axis: Axis, y_axis: Axis, color: int) -> list[str]:
    """The unbroken parts of a line; a part of one point is a dot."""
    drawn = []
    for gap, part in itertools.groupby(line, key=lambda point: point[1] is None):
        if gap:
            continue
        places = [(x_axis.place(x), y_axis.place(y)) for x, y in part if y is not None]
        if len(places) == 1:
            drawn.append(f'<circle class="dot{color}" cx="{places[0][0]:.1f}" cy="{places[0][1]:.1f}" r="2.5"/>')
        else:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
            drawn.append(f'<polyline class="line{color}" points="{path}"/>')
    return drawn


def draw_legend(series: Sequence[Series]) -> list[str]:
    """The names of the lines below the title; of a long one the middle is left out."""
    columns = min(LEGEND_COLUMNS, len(series))
    room = (WIDTH - LEFT - RIGHT) / columns
    half = int((room - 24) / 6.2 / 2)  # letters; one is about 6.2 wide
    drawn = []
    for i, one in enumerate(series):
        x, y = LEFT + i % columns * room, TOP + i // columns * LEGEND_LINE
        name = one.name if len(one.name) <= 2 * half else f"{one.name[: half - 1]}…{one.name[-half:]}"
        drawn.append(
            f"<g><title>{escape(one.name)}</title>{label(name, x + 15, y + 4, 'start')}"
            f'<rect class="dot{i % len(LIGHT)}" x="{x:.1f}" y="{y - 2}" width="10" height="4" rx="2"/></g>'
        )
    return drawn
