"""`minimind runs`: list, show, compare, plot and report what was trained."""

from __future__ import annotations

import argparse
import json
import math
import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from minimind.commands.verbs import Verbs
from minimind.errors import UserError
from minimind.runs import plots
from minimind.runs.html import Plots, write_report
from minimind.runs.read import default_directory, differences, find_runs, named_run
from minimind.runs.svg import grid, short
from minimind.util.files import write_text

RUN = "a run directory, or a name from `minimind runs list`"
AS_JSON = "print JSON instead of text"


def run(argv: list[str]) -> None:
    verbs = Verbs(
        "runs",
        "Look at what was trained. Runs are looked for in ./runs, or in $MINIMIND_RUNS.",
        "examples:\n  minimind runs list\n  minimind runs plot pretrain sft --out curves.html",
    )
    child = verbs.add("list", list_, "name the runs in a directory, the last started first", "minimind runs list")
    child.add_argument("directory", nargs="?", metavar="DIR", type=Path, help="where to look (default: runs)")
    child.add_argument("--json", action="store_true", help=AS_JSON)

    child = verbs.add("show", show, "what one run did, and how to go on", "minimind runs show pretrain")
    child.add_argument("names", nargs=1, metavar="RUN", help=RUN)
    child.add_argument("--json", action="store_true", help=AS_JSON)

    child = verbs.add(
        "compare", compare, "settings that differ, and results side by side", "minimind runs compare runs/a runs/b"
    )
    child.add_argument("names", nargs="+", metavar="RUN", help=RUN)
    child.add_argument("--json", action="store_true", help=AS_JSON)

    child = verbs.add(
        "plot", plot, "draw loss, rate, gradient norm and speed", "minimind runs plot a b --out ab.html"
    )
    child.add_argument("names", nargs="+", metavar="RUN", help=RUN)
    child.add_argument(
        "--out", type=Path, metavar="FILE", help=".svg or .html (default: plots.svg in the run; of several, here)"
    )

    child = verbs.add("report", report, "write one run's report as an HTML page", "minimind runs report pretrain")
    child.add_argument("names", nargs=1, metavar="RUN", help=RUN)
    child.add_argument("--out", type=Path, metavar="FILE", help="the page (default: report.html in the run)")
    verbs.call(argv)


def list_(arguments: argparse.Namespace) -> None:
    directory = arguments.directory or default_directory()
    if arguments.directory and not directory.is_dir():
        raise UserError(f"{directory} is no directory; name the one that holds the runs")
    summaries = [one.summary() for one in find_runs(directory)]
    if arguments.json:
        print_json(summaries)
    elif not summaries:
        print(f"no runs in {directory}/ yet; `minimind quickstart` or `minimind train` makes one")
    else:
        header = ("run", "stage", "status", "steps", "tokens", "loss", "bits/byte", "tokens/s", "size")
        print_columns([header, *map(list_row, summaries)], right_from=3)


def list_row(values: dict[str, Any]) -> tuple[str, ...]:
    total = values["total_steps"]
    return (
        values["name"],
        values["stage"],
        values["status"],
        f"{values['steps']}/{total}" if total and total != values["steps"] else str(values["steps"]),
        short(values["tokens"]),
        number(values["loss"]),
        number(values["bits_per_byte"]),
        number(values["tokens_per_second"]),
        size(values["size_bytes"]),
    )


def show(arguments: argparse.Namespace) -> None:
    one = named_run(arguments.names[0])
    values = one.summary()
    command = plots.command_of(one)
    if arguments.json:
        print_json({**values, "command": command, "recipe": one.recipe, "environment": one.environment})
        return
    steps, total = values["steps"], values["total_steps"]
    planned = f" of {total:,}" if total and total != steps else ""
    started = values["started"]
    facts = {
        "stage": f"{one.stage} ({one.status})",
        "started": datetime.fromtimestamp(started).isoformat(" ", "seconds") if started else None,
        "trained": f"{steps:,}{planned} steps, {short(values['tokens'])} tokens",
        "time": f"{values['seconds'] / 60:.1f} minutes" if values["seconds"] else None,
        "loss": number(values["loss"]),
        "bits per byte": number(values["bits_per_byte"], values["best_bits_per_byte"]),
        "tokens/s": number(values["tokens_per_second"]),
        "data": ", ".join(one.recipe.get("data") or []),
        "preset": one.recipe.get("preset"),
        "started from": one.recipe.get("init_from"),
        "machine": one.environment.get("cuda") or one.environment.get("processor"),
        "size": f"{size(values['size_bytes'])} in {one.path}",
    }
    print_columns([(name, value) for name, value in facts.items() if value not in (None, "", "-")])
    print("", *plots.sparklines(one), "", sep="\n")
    if one.status in ("stopped", "interrupted", "failed") and command:
        print(f"continue it:   {command}")
    if any((one.path / part).exists() for part in ("model", "best", "checkpoints")):
        print(f"talk to it:    minimind chat {shlex.quote(str(one.path))}")
    print(f"its report:    minimind runs report {shlex.quote(str(one.path))}")


def compare(arguments: argparse.Namespace) -> None:
    runs = [named_run(name) for name in arguments.names]
    if len(runs) < 2:
        raise UserError("name at least two runs to compare")
    settings, summaries = differences(runs), [one.summary() for one in runs]
    results = {key: [values[key] for values in summaries] for key in summaries[0] if key not in ("name", "path")}
    if arguments.json:
        print_json({"runs": [one.name for one in runs], "settings": settings, "results": results})
        return
    results.pop("started")
    results["size"] = [size(count) for count in results.pop("size_bytes")]
    header = ("", *(one.name for one in runs))
    table = [(key, *map(number, values)) for key, values in settings.items()] or [("(the same settings)",)]
    table += [(), *((key.replace("_", " "), *map(number, values)) for key, values in results.items())]
    print_columns([header, *table], right_from=1)


def plot(arguments: argparse.Namespace) -> None:
    runs = [named_run(name) for name in arguments.names]
    out = arguments.out or (runs[0].path if len(runs) == 1 else Path()) / "plots.svg"
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


def report(arguments: argparse.Namespace) -> None:
    one = named_run(arguments.names[0])
    print(f"written: {plots.report(one, arguments.out or one.path / 'report.html')}")


# ----------------------------------------------------------------------------------------------- printing


def number(value: Any, best: float | None = None) -> str:
    """A cell: four digits of a fraction, a dash for nothing; a best value beside it if it differs."""
    if best is not None and best != value:
        return f"{number(value)} (best {number(best)})"
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10000 else f"{value:,.0f}"
    return str(value)


def size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def print_columns(rows: Sequence[Sequence[str]], right_from: int | None = None) -> None:
    """Rows as columns two spaces apart, those from `right_from` on aligned to the right."""
    from rich.cells import cell_len  # a Chinese character is two columns wide

    widths = [max(cell_len(row[i]) for row in rows if i < len(row)) for i in range(max(map(len, rows)))]
    for row in rows:
        padding = [" " * (width - cell_len(text)) for text, width in zip(row, widths)]
        to_right = [right_from is not None and i >= right_from for i in range(len(row))]
        print("  ".join(p + t if right else t + p for t, p, right in zip(row, padding, to_right)).rstrip())


def print_json(values: Any) -> None:
    print(json.dumps(finite(values), indent=2, ensure_ascii=False))


def finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
