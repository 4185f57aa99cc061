"""A progress bar on stderr: how far the work is, how fast, and how long it still takes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Bar:
    """What is told to a bar while the work goes on."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar, self._task, self._documents = bar, task, 0

    def __call__(self, amount: float = 0, documents: int = 0) -> None:
        """So much more of the total is done, with so many more documents."""
        self._documents += documents
        count = f"{self._documents:,} documents, " if self._documents else ""
        self._bar.update(self._task, advance=amount, count=count)

    def reach(self, completed: float) -> None:
        """So much of the total is done by now."""
        self._bar.update(self._task, completed=completed)

    def say(self, label: str) -> None:
        """Show what is being done."""
        self._bar.update(self._task, description=label)


@contextmanager
def progress(label: str, total: float, unit: str = "bytes") -> Iterator[Bar]:
    """Show a bar with the time left; `unit` bytes also shows their number and MB/s, tokens shows tokens/s.

    Nothing is shown when stderr is not a terminal.
    """
    from rich import progress as rich
    from rich.console import Console
    from rich.text import Text

    class TokenSpeedColumn(rich.ProgressColumn):
        def render(self, task: rich.Task) -> Text:
            return Text(f"{task.speed or 0:,.0f} tokens/s,")

    rates: dict[str, list[rich.ProgressColumn]] = {
        "bytes": [rich.DownloadColumn(), rich.TransferSpeedColumn()],
        "tokens": [TokenSpeedColumn()],
    }
    console = Console(stderr=True)
    with rich.Progress(
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        *rates.get(unit, [rich.TimeElapsedColumn()]),
        rich.TextColumn("{task.fields[count]}left"),
        rich.TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        redirect_stdout=sys.stdout.isatty(),  # print above the bar, but never turn what goes to a file to it
    ) as bar:
        yield Bar(bar, bar.add_task(label, total=total, count=""))
