"""`minimind runs`: list, show, compare, plot and report what was trained."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from minimind.commands.options import add_json
from minimind.commands.output import print_columns, print_json
from minimind.commands.subcommands import Subcommands
from minimind.errors import UserError
from minimind.runs import plots
from minimind.runs.html import Plots, write_report
from minimind.runs.read import default_directory, differences, find_runs, named_run, readable
from minimind.runs.svg import grid
from minimind.util.files import write_text
from minimind.util.units import number_text, short, size_text

RUN = "a run directory, or a name from `minimind runs list`"


def run(argv: list[str]) -> None:
    subcommands = Subcommands(
        "runs",
        "Look at what was trained. Runs are looked for in ./runs, or in $MINIMIND_RUNS.",
        "examples:\n  minimind runs list\n  minimind runs plot pretrain sft --out curves.html",
    )
    child = subcommands.add(
        "list", list_, "name the runs in a directory, the last started first", "minimind runs list"
    )
    child.add_argument("directory", nargs="?", metavar="DIR", type=Path, help="where to look (default: runs)")
    add_json(child)

    child = subcommands.add("show", show, "what one run did, and how to go on", "minimind runs show pretrain")
    child.add_argument("names", nargs=1, metavar="RUN", help=RUN)
    add_json(child)

    child = subcommands.add(
        "compare", compare, "settings that differ, and results side by side", "minimind runs compare runs/a runs/b"
    )
    child.add_argument("names", nargs="+", metavar="RUN", help=RUN)
    add_json(child)

    child = subcommands.add(
        "plot",
        plot,
        "draw what was measured: loss, scores, rewards",
        "minimind runs plot a b --out ab.html",
    )
    child.add_argument("names", nargs="+", metavar="RUN", help=RUN)
    child.add_argument(
        "--out", type=Path, metavar="FILE", help=".svg or .html (default: plots.svg in the run; of several, here)"
    )

    child = subcommands.add(
        "report", report, "write one run's report as an HTML page", "minimind runs report pretrain"
    )
    child.add_argument("names", nargs=1, metavar="RUN", help=RUN)
    child.add_argument("--out", type=Path, metavar="FILE", help="the page (default: report.html in the run)")
    subcommands.call(argv)


def list_(options: argparse.Namespace) -> None:
    directory = options.directory or default_directory()
    if options.directory and not directory.is_dir():
        raise UserError(f"{directory} is no directory; name the one that holds the runs")
    summaries = [one.summary() for one in find_runs(directory)]
    if options.json:
        print_json(summaries, indent=2)
    elif not summaries:
        print(f"no runs in {directory}/ yet; `minimind quickstart` or `minimind train` makes one")
    else:
        header = ("run", "stage", "status", "steps", "tokens", "loss", "bits/byte", "tokens/s", "size")
        print_columns([header, *map(list_row, summaries)], right_from=3)


def list_row(values: dict[str, Any]) -> tuple[str, ...]:
    steps, total = number(values["steps"]), values["total_steps"]
    return (
        values["name"],
        values["stage"],
        values["status"],
        f"{steps}/{number(total)}" if total and total != values["steps"] else steps,
        short(values["tokens"]),
        number(values["loss"]),
        number(values["bits_per_byte"]),
        number(values["tokens_per_second"]),
        size_text(values["size_bytes"]),
    )


def show(options: argparse.Namespace) -> None:
    one = named_run(options.names[0])
    values = one.summary()
    shown = readable(values)
    command = plots.command_of(one)
    if options.json:
        print_json({**values, "command": command, "recipe": one.recipe, "environment": one.environment}, indent=2)
        return
    steps, total = values["steps"], values["total_steps"]
    planned = f" of {total:,}" if total and total != steps else ""
    facts = {
        "stage": f"{one.stage} ({one.status})",
        "started": shown["started"],
        "trained": f"{steps:,}{planned} steps, {short(values['tokens'])} tokens",
        "time": shown["time"],
        "loss": number(values["loss"]),
        "bits per byte": number(values["bits_per_byte"], values["best_bits_per_byte"]),
        "reward": number(values["reward"]),
        "score": number(values["score"], values["best_score"]),
        "tokens/s": number(values["tokens_per_second"]),
        "data": ", ".join(one.data),
        "preset": one.recipe.get("preset"),
        "started from": one.recipe.get("init_from"),
        "machine": one.environment.get("cuda") or one.environment.get("processor"),
        "size": f"{shown['size']} in {one.path}",
    }
    print_columns([(name, str(value)) for name, value in facts.items() if value not in (None, "", "-")])
    print("", *plots.sparklines(one), "", sep="\n")
    if one.status in ("stopped", "interrupted", "failed") and command:
        print(f"continue it:   {command}")
    if any((one.path / part).exists() for part in ("model", "best", "checkpoints")):
        print(f"talk to it:    minimind chat {shlex.quote(str(one.path))}")
    print(f"its report:    minimind runs report {shlex.quote(str(one.path))}")


def compare(options: argparse.Namespace) -> None:
    runs = [named_run(name) for name in options.names]
    if len(runs) < 2:
        raise UserError("name at least two runs to compare")
    settings, summaries = differences(runs), [one.summary() for one in runs]
    if options.json:
        results = side_by_side(summaries)
        print_json({"runs": [one.name for one in runs], "settings": settings, "results": results}, indent=2)
        return
    results = side_by_side([readable(one) for one in summaries])
    header = ("", *(one.name for one in runs))
    table = [(key, *("-" if value is None else str(value) for value in values)) for key, values in settings.items()]
    table = table or [("(the same settings)",)]
    measured = {name: values for name, values in results.items() if any(value is not None for value in values)}
    table += [(), *((name, *map(number, values)) for name, values in measured.items())]
    print_columns([header, *table], right_from=1)


def side_by_side(summaries: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {key: [one[key] for one in summaries] for key in summaries[0] if key not in ("name", "path")}


def plot(options: argparse.Namespace) -> None:
    runs = [named_run(name) for name in options.names]
    out = options.out or (runs[0].path if len(runs) == 1 else Path()) / "plots.svg"
    drawn = plots.plots(runs)
    if not drawn:
        raise UserError(f"nothing to draw: {' and '.join(one.name for one in runs)} wrote no metrics yet")
    if out.suffix == ".svg":
        write_text(out, grid(drawn))
    elif out.suffix == ".html":
        write_report(out, " · ".join(one.name for one in runs), [Plots("Curves", "曲线", drawn)])
    else:
        raise UserError(f"cannot draw {out}: end its name in .svg or .html")
    for one in runs:
        print(one.name, *(f"  {line}" for line in plots.sparklines(one)), sep="\n")
    print(f"drawn in {out}")


def report(options: argparse.Namespace) -> None:
    one = named_run(options.names[0])
    print(f"written: {plots.report(one, options.out or one.path / 'report.html')}")


# ----------------------------------------------------------------------------------------------- printing


def number(value: Any, best: float | None = None) -> str:
    """A cell: a figure for people, text as it is, a dash for nothing; a best value beside it if it differs."""
    if best is not None and best != value:
        return f"{number(value)} (best {number(best)})"
    if value is None:
        return "-"
    return number_text(value) if isinstance(value, int | float) else str(value)
