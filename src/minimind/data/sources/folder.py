"""A folder in the place of files: all in it that can be read."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from minimind.data.sources.encodings import say
from minimind.data.sources.files import EXTENSIONS
from minimind.errors import UserError

NAMED = 5


def data_files(paths: Iterable[str | Path]) -> list[Path]:
    """Each path that is a file, and the readable files of each that is a folder, sorted; what is left out is told.

    UserError for a folder without any.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            found.append(path)
            continue
        files, left_out = find_files(path)
        if not files:
            raise UserError(f"{path} is a folder with no file that can be read; known are {', '.join(EXTENSIONS)}")
        if left_out:
            named = ", ".join(str(file.relative_to(path)) for file in left_out[:NAMED])
            more = f" and {len(left_out) - NAMED:,} more" if len(left_out) > NAMED else ""
            others = f"{len(left_out):,} are empty or of no known type"
            say(f"{path}: {len(files):,} files are read, {others}: {named}{more}")
        found += files
    return found


def find_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """The files of a folder and its folders that can be read, and those of no known type or empty; each sorted.

    Hidden ones, which begin with a dot, are neither.
    """
    readable, others = list[Path](), list[Path]()
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in (Path(place, name) for name in names if not name.startswith(".")):
            is_known = file.name.lower().endswith(EXTENSIONS) and file.is_file() and file.stat().st_size
            (readable if is_known else others).append(file)
    return sorted(readable), sorted(others)
