"""The cache of prepared data sets: found by the content of their sources, written whole or not at all."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from minimind.errors import UserError
from minimind.util.files import flush, write_text
from minimind.util.system import is_alive

_serial = itertools.count()


def default_cache() -> Path:
    """$MINIMIND_CACHE/shards or ~/.cache/minimind/shards."""
    root = os.environ.get("MINIMIND_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "minimind") / "shards"


def signature(path: Path) -> list[int]:
    """What changes when a file is written to: size, times of change in nanoseconds, inode."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def source_hash(path: Path, cache: Path, on_read: Callable[[int], None] = lambda size: None) -> str:
    """sha256 of a file's bytes; remembered in the cache, so that an unchanged file is not read again."""
    memo = cache / "sources" / f"{hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32]}.json"
    before = signature(path)
    try:
        known = json.loads(memo.read_text())
        if known["signature"] == before:
            return known["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no memo, or an unreadable one: it is only there to save time
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
            on_read(len(chunk))
    # A file written a moment ago could change again within the resolution of its timestamp.
    if signature(path) == before and time.time_ns() - before[1] > 2e9:
        write_text(memo, json.dumps({"signature": before, "sha256": digest.hexdigest()}))
    return digest.hexdigest()


@contextmanager
def partial_directory(final: Path) -> Iterator[Path]:
    """A directory to write in that becomes `final` when the block ends well, and vanishes otherwise."""
    final.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(final.parent)
    partial = final.parent / f"partial.{socket.gethostname()}.{os.getpid()}.{next(_serial)}"
    partial.mkdir()
    try:
        yield partial
        for path in partial.iterdir():
            flush(path)
        try:
            partial.rename(final)
        except OSError:
            if not final.exists():
                raise
            # Another process was quicker with the same data.
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove_abandoned(cache: Path) -> None:
    """Delete what processes of this machine were writing when they were killed."""
    for partial in cache.glob(f"partial.{socket.gethostname()}.*"):
        pid = int(partial.name.split(".")[-2])
        if pid != os.getpid() and not is_alive(pid):
            shutil.rmtree(partial, ignore_errors=True)


def make_cache(cache: Path) -> None:
    """Make the cache directory; UserError when that cannot be."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the cache directory {cache} cannot be made ({error.strerror}); name another with --cache"
        ) from None
