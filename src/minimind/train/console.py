"""The lines a person watches during a training, on standard error."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from minimind.util.units import duration, size_text

LINE = (
    "loss {loss:.3f}",
    "{tokens_per_second:,.0f} tokens/s",
    "{memory}",
    "|grad| {grad_norm:.2f}",
    "rate {lr:.1e}",
    "mfu {mfu:.0%}",
)
"""what a step's line shows of what metrics.jsonl says of it; `held_out` is the latest evaluation's first score"""


class TrainingConsole:
    """One line that is rewritten on a terminal; elsewhere a line every tenth of the run."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.live = sys.stderr.isatty()
        self._last_tenth = -1

    def say(self, text: str) -> None:
        """A line that stays."""
        if not self.quiet:
            self._clear()
            print(text, file=sys.stderr, flush=True)

    def step(self, line: dict[str, Any], total_steps: int, shown: Sequence[str] = LINE) -> None:
        """A step; `shown` are its parts, of which those are left out whose values the line does not have."""
        if self.quiet:
            return
        part = line["step"] / total_steps
        values = line | {"memory": size_text(1e9 * line["memory_gb"])}
        progress = f"step {line['step']:,}/{total_steps:,} {part:4.0%}  {duration(line['seconds_left'])} left"
        text = "  ".join([progress, *_filled(shown, values)])
        if self.live:
            self._clear()
            width = shutil.get_terminal_size().columns - 1  # what wraps could not be cleared
            print(text[:width], end="", file=sys.stderr, flush=True)
        elif int(part * 10) != self._last_tenth:
            self._last_tenth = int(part * 10)
            print(text, file=sys.stderr, flush=True)

    def _clear(self) -> None:
        if self.live:
            print("\r\x1b[2K", end="", file=sys.stderr)


def _filled(parts: Sequence[str], values: dict[str, Any]) -> Iterator[str]:
    for part in parts:
        with contextlib.suppress(KeyError):
            yield part.format_map(values)
