"""What a file is read into: numbered records, from lines of any kind of end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from minimind.data.sources.encodings import BOM
from minimind.errors import UserError

MAX_RECORD = 32 * 2**20  # bytes; a longer JSON object is reported as bad, so that it cannot fill the memory


class DamagedFile(UserError):
    """A compressed file or a .parquet that breaks off or makes no sense."""


class Record(NamedTuple):
    """One document's bytes and the line it begins at (in .parquet the row), from 1. None = too long."""

    line: int
    data: bytes | None


def line_feeds(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """CR and CRLF as LF, the way that Python opens text."""
    held = b""
    for block in blocks:
        block = held + block
        held = block[-1:] if block.endswith(b"\r") else b""
        yield block[: len(block) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    yield held and b"\n"


def lines(blocks: Iterable[bytes], cut: bool = False) -> Iterator[Record]:
    """Numbered lines without their line feed, and without a byte order mark, which concatenated files have inside.

    A line longer than MAX_RECORD is passed over as None, or with `cut` comes in several parts.
    """
    line, parts, size = 1, list[bytes](), 0
    for block in blocks:
        head, *rest = block.split(b"\n")
        size += len(head)
        if size <= MAX_RECORD or cut:
            parts.append(head)
        else:
            parts = []
        while cut and size > MAX_RECORD:
            joined = b"".join(parts)
            place = MAX_RECORD
            while joined[place] & 0xC0 == 0x80:  # within a character
                place -= 1
            yield Record(line, joined[:place].removeprefix(BOM))
            parts, size = [joined[place:]], size - place
        if rest:
            yield Record(line, b"".join(parts).removeprefix(BOM) if size <= MAX_RECORD else None)
            for number, whole in enumerate(rest[:-1], line + 1):
                yield Record(number, whole.removeprefix(BOM))
            line += len(rest)
            parts, size = [rest[-1]], len(rest[-1])
    yield Record(line, b"".join(parts).removeprefix(BOM) if size <= MAX_RECORD else None)
