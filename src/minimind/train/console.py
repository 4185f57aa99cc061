"""The lines a person watches during a training, on standard error."""

from __future__ import annotations

import shutil
import sys
from typing import Any

from minimind.util.units import duration, size_text


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
            f"step {line['step']:,}/{total_steps:,} {part:4.0%}  {duration(line['seconds_left'])} left  "
            f"loss {line['loss']:.3f}  {line['tokens_per_second']:,.0f} tokens/s  "
            f"{size_text(1e9 * line['memory_gb'])}  |grad| {line['grad_norm']:.2f}  rate {line['lr']:.1e}  "
            f"mfu {line['mfu']:.0%}"
        )
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
