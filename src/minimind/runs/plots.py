"""Drawing runs: their curves as plots, and the report of one."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minimind.runs.html import Dialogues, Plots, Section, Table, write_report
from minimind.runs.read import Run, read_samples, readable
from minimind.runs.svg import ASCII_SIGNS, SIGNS, Series, line_plot, sparkline
from minimind.util.system import can_show

# title, key in a line of metrics.jsonl (a dot leads into "eval"), logarithmic
CURVES = (
    ("Training loss (nats per token)", "loss", False),
    ("Held-out bits per byte", "eval.bits_per_byte", False),
    ("Learning rate", "lr", False),
    ("Gradient norm", "grad_norm", True),
    ("Tokens per second", "tokens_per_second", False),
)


def curve(run: Run, key: str, name: str) -> Series:
    """One quantity over the tokens read so far."""
    group, _, inner = key.rpartition(".")
    lines = run.evaluations if group else run.training
    values = [line[group].get(inner) if group else line.get(inner) for line in lines]
    return Series(name, [line.get("tokens", line["step"]) for line in lines], values)


def plots(runs: Sequence[Run]) -> list[str]:
    """Every curve as an SVG, with one line per run; a single run's loss stands beside its held-out loss."""
    drawn = []
    for title, key, log in CURVES:
        series = [curve(run, key, run.name) for run in runs]
        if key == "loss" and len(runs) == 1 and runs[0].evaluations:
            title = "Loss (nats per token)"
            series = [curve(runs[0], "loss", "training"), curve(runs[0], "eval.loss", "held-out")]
        if any(one.y for one in series):
            drawn.append(line_plot(title, series, "tokens", log))
    return drawn


def sparklines(run: Run) -> list[str]:
    """Every curve in a line of text for standard output: its course, its first and its last value."""
    lines, signs = [], SIGNS if can_show(SIGNS, sys.stdout.encoding) else ASCII_SIGNS
    for title, key, _ in CURVES:
        values = [value for value in curve(run, key, "").y if value is not None]
        if values:
            lines.append(f"{title:<31} {sparkline(values, signs=signs):<40} {values[0]:.4g} to {values[-1]:.4g}")
    return lines


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
        results = [(line["step"], line.get("tokens"), line["eval"]) for line in run.evaluations]
        table = [
            [step, tokens, scores.get("bits_per_byte"), scores.get("loss")] for step, tokens, scores in results
        ]
        columns = ["step", "tokens", "bits per byte", "loss"]
        sections.append(Table("On held-out documents", "留出集评测", table, columns))
    if samples := read_samples(run)[-12:]:
        sections.append(Dialogues("Samples", "样例", [(f"step {step}", messages) for step, messages in samples]))
    sections.append(Table("Recipe", "训练配置", rows(run.recipe)))
    sections.append(Table("Environment", "运行环境", rows({**run.environment, "command": None})))
    return write_report(path, f"MiniMind · {run.name}", sections)


def rows(values: dict[str, Any]) -> list[list[Any]]:
    return [[key, value] for key, value in values.items() if value not in (None, "", [])]
