"""Drawing runs: their curves as plots, and the report of one."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from minimind.runs.html import Dialogues, Plots, Section, Table, write_report
from minimind.runs.read import Run, read_samples, readable
from minimind.runs.svg import ASCII_SIGNS, SIGNS, Series, line_plot, sparkline
from minimind.util.system import can_show


@dataclass(frozen=True)
class Curve:
    """Quantities that belong into one chart.

    lines  by their key in metrics.jsonl (a dot leads into "eval") the names of their lines; a key that ends in *
           stands for all that begin so, each named by the rest of it
    """

    title: str
    lines: Mapping[str, str]
    log: bool = False


@dataclass(frozen=True)
class Chart:
    """What is drawn together."""

    title: str
    series: list[Series]
    log: bool


CURVES = (
    Curve("Held-out score", {"eval.score": "mean", "eval.score_*": ""}),
    Curve("Reward", {"reward": "whole", "reward_*": ""}),
    Curve("Groups whose answers differ in reward", {"informative": ""}),
    Curve("Loss", {"loss": "training", "eval.loss": "held-out"}),
    Curve("Held-out bits per byte", {"eval.bits_per_byte": ""}),
    Curve(
        "KL divergence (nats)",
        {"kl": "from the start", "reference_kl": "from the start", "approx_kl": "within a rollout"},
    ),
    Curve("Entropy (nats)", {"entropy": ""}),
    Curve("Length of an answer (tokens)", {"length": ""}),
    Curve("Clip fraction", {"clip_fraction": ""}),
    Curve("Seconds per step", {f"seconds_{part}": part for part in ("rollout", "reward", "update")}),
    Curve("Learning rate", {"lr": ""}),
    Curve("Gradient norm", {"grad_norm": ""}, log=True),
    Curve("Tokens per second", {"tokens_per_second": ""}),
)
HELD_OUT = "eval."
MOST_STEPS = 8  # of a prompt's answers in a report
NOT_DRAWN = ("step", "tokens", "elapsed", "epoch", "data_time", "mfu", "padding", "memory_gb", "held_out_tokens")


def charts(runs: Sequence[Run], say: Callable[[str], str] = str) -> list[Chart]:
    """What the runs have of CURVES, then whatever else they measured, under its own name.

    A single run's chart has all lines of a curve; a chart of several runs has one quantity, and a line for each.

    say  puts titles and names of lines into the reader's language
    """
    known, found = list(dict.fromkeys(key for run in runs for key in run.measured)), []
    for curve in (*CURVES, *_others(known)):
        title, names = say(curve.title), _names(curve, known)
        if len(runs) == 1:
            lines = [series(runs[0], key, say(name) or runs[0].name) for key, name in names.items()]
            found.append(Chart(title, lines, curve.log))
            continue
        for key, name in names.items():
            one_of_several = f"{title}: {say(name)}" if len(names) > 1 else title
            found.append(Chart(one_of_several, [series(run, key, run.name) for run in runs], curve.log))
    return [chart for chart in found if any(y is not None for one in chart.series for y in one.y)]


def _names(curve: Curve, known: Sequence[str]) -> dict[str, str]:
    """The curve's keys among those known, with the names of their lines."""
    names: dict[str, str] = {}
    for pattern, name in curve.lines.items():
        if pattern.endswith("*"):
            names |= {key: key.removeprefix(pattern[:-1]) for key in known if key.startswith(pattern[:-1])}
        elif pattern in known:
            names[pattern] = name
    return names


def _others(known: Sequence[str]) -> list[Curve]:
    """Curves of what CURVES does not name; how it was on held-out data stands beside it."""
    named = {key for curve in CURVES for key in _names(curve, known)} | set(NOT_DRAWN)
    keys = dict.fromkeys(key.removeprefix(HELD_OUT) for key in known)
    return [
        Curve(key.replace("_", " ").capitalize(), {key: "training", HELD_OUT + key: "held-out"})
        for key in keys
        if not {key, HELD_OUT + key} & named
    ]


def series(run: Run, key: str, name: str) -> Series:
    """One quantity over the tokens read so far."""
    inner = key.removeprefix(HELD_OUT)
    lines = run.training if inner == key else run.evaluations
    values = [line.get(key) if inner == key else line["eval"].get(inner) for line in lines]
    return Series(name, [line.get("tokens", line["step"]) for line in lines], values)


def plots(runs: Sequence[Run]) -> list[str]:
    """Every chart as an SVG."""
    return [line_plot(chart.title, chart.series, "tokens", chart.log) for chart in charts(runs)]


def sparklines(run: Run) -> list[str]:
    """Every curve in a line of text for standard output: its course, its first and its last value."""
    found, signs = {}, SIGNS if can_show(SIGNS, sys.stdout.encoding) else ASCII_SIGNS
    for chart in charts([run]):
        for one in chart.series:
            values = [value for value in one.y if value is not None]
            label = f"{chart.title}: {one.name}" if len(chart.series) > 1 else chart.title
            found[label] = f"{sparkline(values, signs=signs):<40} {values[0]:.4g} to {values[-1]:.4g}"
    width = max(map(len, found), default=0)
    return [f"{label:<{width}} {course}" for label, course in found.items()]


def command_of(run: Run) -> str | None:
    """The command that made the run, which also continues it."""
    words = run.environment.get("command")
    return shlex.join(["minimind", *map(str, words[1:])]) if isinstance(words, list) and words else None


def report(run: Run, path: Path) -> Path:
    """Write the report of one run to `path` and return it."""
    summary = {**readable(run.summary()), "command": command_of(run)}
    sections: list[Section] = [Table("Summary", "概要", rows(summary))]
    if drawn := plots([run]):
        sections.append(Plots("Curves", "曲线", drawn))
    if run.evaluations:
        scores = [key.removeprefix(HELD_OUT) for key in run.measured if key.startswith(HELD_OUT)]
        table = [
            [line["step"], line.get("tokens"), *(line["eval"].get(score) for score in scores)]
            for line in run.evaluations
        ]
        columns = ["step", "tokens", *(score.replace("_", " ") for score in scores)]
        sections.append(Table("Held out", "留出集评测", table, columns))
    sections += answers_section(run)
    if samples := read_samples(run)[-12:]:
        sections.append(Dialogues("Samples", "样例", [(one.caption, one.messages) for one in samples]))
    sections.append(Table("Recipe", "训练配置", rows(run.recipe)))
    sections.append(Table("Environment", "运行环境", rows({**run.environment, "command": None})))
    return write_report(path, f"MiniMind · {run.name}", sections)


def answers_section(run: Run) -> list[Section]:
    """Where answers are judged: of each prompt what the model said at every evaluation, and what it earned; of many
    evaluations the first, the last and some between."""
    samples = [sample for sample in read_samples(run) if sample.earned]
    if not samples:
        return []
    steps = list(dict.fromkeys(sample.step for sample in samples))
    count = min(len(steps), MOST_STEPS)
    shown = {steps[round(i * (len(steps) - 1) / max(1, count - 1))] for i in range(count)}
    parts = list(dict.fromkeys(name for sample in samples for name in sample.earned))
    of_prompt: dict[str, list[list[Any]]] = {}
    for sample in samples:
        if sample.step in shown:
            row = [sample.prompt, sample.step, sample.answer, *(sample.earned.get(name) for name in parts)]
            of_prompt.setdefault(sample.prompt, []).append(row)
    table = list(chain.from_iterable(of_prompt.values()))
    return [Table("Answers while it learned", "学习过程中的回答", table, ["prompt", "step", "answer", *parts])]


def rows(values: dict[str, Any]) -> list[list[Any]]:
    return [[key, value] for key, value in values.items() if value not in (None, "", [])]
