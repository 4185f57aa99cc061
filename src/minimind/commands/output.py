"""How commands print their results: tables, columns, JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any


def print_table(rows: Iterable[Sequence[str]]) -> None:
    """Print a ruled table; its first row is the header."""
    from rich.console import Console
    from rich.table import Table

    header, *body = rows
    table = Table(*header)
    for row in body:
        table.add_row(*row)
    Console().print(table)


def print_columns(rows: Sequence[Sequence[str]], right_from: int | None = None) -> None:
    """Print rows as columns two spaces apart, those from `right_from` on aligned to the right."""
    from rich.cells import cell_len  # a Chinese character is two columns wide

    widths = [max(cell_len(row[i]) for row in rows if i < len(row)) for i in range(max(map(len, rows)))]
    for row in rows:
        padding = [" " * (width - cell_len(text)) for text, width in zip(row, widths)]
        to_right = [right_from is not None and i >= right_from for i in range(len(row))]
        print("  ".join(p + t if right else t + p for t, p, right in zip(row, padding, to_right)).rstrip())


def print_json(values: Any, indent: int | None = None) -> None:
    """Print JSON, in one line unless it is indented."""
    print(json.dumps(finite(values), indent=indent, ensure_ascii=False))


def say_stopped(stop: BaseException) -> int:
    """Say how a run of several steps that was interrupted goes on; returns its exit code."""
    from minimind.quickstart import Stopped

    print("\nstopped; the same command again goes on from here", file=sys.stderr)
    return stop.outcome.exit_code if isinstance(stop, Stopped) else 130


def finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON has not, by null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
