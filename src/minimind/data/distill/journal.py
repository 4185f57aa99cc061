"""What was answered so far, line by line on disk, so that a kill loses nothing and nothing is asked twice.

Beside the data, in NAME.answers.jsonl: the settings in the first line, then what every prompt was answered, in the
order in which the answers came. It stays as the record of who said what.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from minimind.errors import UserError
from minimind.util.files import flush, refuse_link
from minimind.util.json_files import loads
from minimind.util.system import lock


class Journal:
    """The lines of an open journal by the keys of their prompts; they stay on disk."""

    def __init__(self, path: Path, file: IO[bytes], settings: dict[str, Any]) -> None:
        self.path = path
        self._file = file
        self._places: dict[str, int] = {}
        begun, end = self._read()
        file.truncate(end)  # what a kill left of a line
        file.seek(end)
        if begun is None:
            self._write({"settings": settings})
        for name, value in settings.items():
            if begun is not None and begun.get(name) != value:
                raise UserError(
                    f"{path} was begun with {name} = {begun.get(name)!r}, not {value!r}; give the same again, or "
                    "another --out"
                )

    def _read(self) -> tuple[dict[str, Any] | None, int]:
        """The settings in the first line, if there are any, and where the last whole line ends."""
        begun, end = None, 0
        for number, line in enumerate(self._file):
            try:
                content = loads(line.decode("utf-8")) if line.endswith(b"\n") else None
            except ValueError:
                content = None
            if number == 0 and content is not None:
                begun = content.get("settings") if isinstance(content, dict) else None
                if not isinstance(begun, dict):
                    raise UserError(f"{self.path} is no journal of `minimind data distill`; choose another --out")
            elif isinstance(content, dict) and "key" in content:
                self._places[content["key"]] = end
            if line.endswith(b"\n"):
                end += len(line)
        return begun, end if begun is not None else 0

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __getitem__(self, key: str) -> dict[str, Any]:
        self._file.seek(self._places[key])
        return json.loads(self._file.readline())

    def records(self) -> Iterator[dict[str, Any]]:
        return (self[key] for key in self._places)

    def append(self, record: dict[str, Any]) -> None:
        """Keep what the prompt `record["key"]` was answered."""
        self._places[record["key"]] = self._file.seek(0, 2)
        self._write(record)

    def _write(self, content: dict[str, Any]) -> None:
        self._file.write(json.dumps(content, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
        self._file.flush()


@contextmanager
def open_journal(path: Path, settings: dict[str, Any]) -> Iterator[Journal]:
    """Go on with a journal, or begin one; UserError where another process has it, or for other settings."""
    refuse_link(path)
    with path.open("a+b") as locked, path.open("r+b") as file:
        if not lock(locked):
            raise UserError(f"{path} is being written by another process; stop that one, or choose another --out")
        yield Journal(path, file, settings)
        flush(path)
