"""The lines a person watches during a training, on standard error."""

from __future__ import annotations

import sys
from typing import Any


def duration(seconds: float) -> str:
    """3725 -> '1:02:05'."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


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

    def step(self, line: dict[str, Any], total_steps: int) -> None:
        if self.quiet:
            return
        part = line["step"] / total_steps
        text = (
            f"step {line['step']:,}/{total_steps:,} {part:4.0%}  loss {line['loss']:.3f}  "
            f"rate {line['lr']:.1e}  |grad| {line['grad_norm']:.2f}  "
            f"{line['tokens_per_second']:,.0f} tok/s  mfu {line['mfu']:.0%}  "
            f"{line['memory_gb']:.1f} GB  {duration(line['seconds_left'])} left"
        )
        if self.live:
            self._clear()
            print(text, end="", file=sys.stderr, flush=True)
        elif int(part * 10) != self._last_tenth:
            self._last_tenth = int(part * 10)
            print(text, file=sys.stderr, flush=True)

    def _clear(self) -> None:
        if self.live:
            print("\r\x1b[2K", end="", file=sys.stderr)
