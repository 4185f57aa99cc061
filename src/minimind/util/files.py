"""Files and directories that appear whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minimind.errors import UserError


def check_input(path: Path, missing: str = "check the path") -> None:
    """UserError unless `path` is a file that can be read: no directory, and no pipe or device, which may never end.

    `missing` says what to do where there is no such file.
    """
    check_name(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            path.open("rb").close()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path} does not exist; {missing}") from None
    except PermissionError:
        raise UserError(f"{path} may not be read; check its permissions") from None
    except (OSError, ValueError) as error:  # a name too long, links in a circle, a null character
        raise UserError(
            f"{str(path)[:100]!r} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None
    if stat.S_ISDIR(mode):
        raise UserError(f"{path} is a directory; name a file")
    if not stat.S_ISREG(mode):
        raise UserError(f"{path} is no file but a pipe, socket or device; write its content to a file first")


def check_name(path: Path) -> None:
    """UserError for a name that is no text, which no file of ours could mention."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError(f"the name {str(path)!a} is not UTF-8; choose another") from None


def write_text(path: Path, text: str) -> Path:
    """Write a file that appears under its name only when it is complete."""
    with whole_file(path, f"{os.getpid()}.partial") as partial:  # several processes may write the same
        partial.write_text(text, encoding="utf-8", newline="\n")
    return path


def write_json(path: Path, content: object) -> Path:
    """Write a JSON file for people to read as well, whole or not at all."""
    return write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def whole_file(path: Path, mark: str = "partial") -> Iterator[Path]:
    """Give a path to write a file at: it takes the place of `path` when the block ends well, else it vanishes.

    What a killed process leaves there, the next one replaces, unless each of them has a `mark` of its own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{mark}")
    refuse_link(partial)
    try:
        yield partial
        flush(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_directory(directory: Path) -> Iterator[Path]:
    """A new directory to write in: it takes the place of `directory` when the block ends well, else it vanishes."""
    partial = directory.with_name(directory.name + ".partial")
    for path in (directory, partial):
        refuse_link(path)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        for path in [*partial.rglob("*"), partial]:
            flush(path)
        replace_directory(partial, directory)
        flush(directory.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def replace_directory(partial: Path, directory: Path) -> None:
    """Put a finished directory in the place of an older one; at no instant is there a half-written one."""
    old = _make_way(directory) if directory.exists() else None
    partial.rename(directory)
    if old:
        shutil.rmtree(old, ignore_errors=True)


def remove_directory(directory: Path) -> None:
    """Delete a directory; a kill on the way leaves no half of it under its name."""
    refuse_link(directory)
    shutil.rmtree(_make_way(directory))


def _make_way(directory: Path) -> Path:
    """Rename a directory to a name that marks it as left over."""
    old = directory.with_name(directory.name + ".old.partial")  # a user may well have an `.old` of their own
    refuse_link(old)
    shutil.rmtree(old, ignore_errors=True)
    return directory.rename(old)


def remove_leftovers(directory: Path) -> None:
    """Delete what was being written or removed (all `.partial`) in a directory when its process died."""
    for path in directory.glob("*.partial"):
        refuse_link(path)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def refuse_link(path: Path) -> None:
    """UserError for a symbolic link where we write or delete: what it leads to is not ours."""
    if path.is_symlink():
        raise UserError(f"{path} is a symbolic link, which is not followed here; remove it, or choose another path")


def flush(path: Path) -> None:
    """Bring a file, or the names in a directory, to the disk now (Windows has no such call for directories)."""
    if path.is_dir() and os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
