"""One training at a time in a run directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minimind.errors import UserError
from minimind.util.system import lock


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold `run` for this process; UserError if another one does. A lock ends with the process that holds it."""
    with (run / "lock").open("a+", encoding="utf-8", errors="replace") as file:
        if not lock(file):
            file.seek(0)
            raise UserError(
                f"{run} is being trained right now by process {file.read()}; stop that one, or choose another --out"
            )
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
