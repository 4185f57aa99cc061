"""A progress bar on stderr for work on files."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Advance(Protocol):
    def __call__(self, size: int = 0, documents: int = 0) -> None:
        """So many more bytes of the sources were read, so many more documents are done."""


@contextmanager
def progress(label: str, total_bytes: int) -> Iterator[Advance]:
    """Bar, MB/s, time left and number of documents; nothing is shown when stderr is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("{task.fields[documents]:,} documents, left"),
        TimeRemainingColumn(),
    )
    with Bar(
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
        redirect_stdout=sys.stdout.isatty(),  # print above the bar, but never turn what goes to a file to it
    ) as bar:
        task = bar.add_task(label, total=total_bytes, documents=0)
        done = 0

        def update(size: int = 0, documents: int = 0) -> None:
            nonlocal done
            done += documents
            bar.update(task, advance=size, documents=done)

        yield update
