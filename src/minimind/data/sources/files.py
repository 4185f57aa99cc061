"""Source files as a stream of numbered records: .jsonl, .jsonl.gz, .jsonl.zst, .parquet, .txt.

A record is the bytes of one document, not yet looked at: a JSON object, or a paragraph of plain text. Only
a few megabytes of a file are in memory at a time, whatever its size and compression.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from minimind.errors import UserError, missing_extra

EXTENSIONS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet", ".txt", ".txt.gz", ".txt.zst")
MAX_RECORD = 32 * 2**20  # bytes; a longer one is reported as bad, so that it cannot fill the memory

CHUNK = 2**20
# Compressed bytes per step: one byte can unfold to thousands, and each step is unfolded whole.
COMPRESSED_CHUNK = 2**14


class DamagedFile(UserError):
    """A compressed file or a .parquet that breaks off or makes no sense."""


class Record(NamedTuple):
    """One document's bytes and the line it begins at (in .parquet the row), from 1. None = too long."""

    line: int
    data: bytes | None


def is_plain_text(path: Path) -> bool:
    """Whether records of this file are text rather than JSON."""
    return path.name.lower().removesuffix(".gz").removesuffix(".zst").endswith(".txt")


def check_file(path: Path) -> None:
    """UserError unless `path` is a file we can read: it exists, is not empty, has a known extension."""
    if path.is_dir():
        raise UserError(f"{path} is a directory; name the files in it, for example {path}/*.jsonl")
    if not path.exists():
        raise UserError(f"{path} does not exist; check the path")
    if not path.name.lower().endswith(EXTENSIONS):
        hint = "; write one JSON object per line and call it .jsonl" if ".json" in path.suffixes else ""
        raise UserError(f"{path}: unknown file type; known are {', '.join(EXTENSIONS)}{hint}")
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise UserError(f"{path} is empty; it should hold one document per line")
    except PermissionError:
        raise UserError(f"{path} may not be read; check its permissions") from None


def read_records(path: Path, on_read: Callable[[int], None] = lambda size: None) -> Iterator[Record]:
    """All records of a file in order; blank lines are skipped but counted.

    `on_read` is told how many bytes of the file were consumed, for progress. UserError for a file that
    cannot be read at all, and where a compressed one turns out to be damaged.
    """
    check_file(path)
    if path.name.lower().endswith(".parquet"):
        yield from _parquet_records(path, on_read)
        return
    split = _paragraphs if is_plain_text(path) else _nonblank
    line = 0
    try:
        for record in split(_lines(_chunks(path, on_read))):
            line = record.line
            yield record
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DamagedFile(f"{path} is damaged or cut off after line {line} ({error}); get the file again") from None


def _chunks(path: Path, on_read: Callable[[int], None]) -> Iterator[bytes]:
    """The file's bytes, decompressed, in pieces."""
    name = path.name.lower()
    with path.open("rb") as file:
        source: Iterator[bytes]
        if name.endswith(".gz"):
            unzipped = gzip.GzipFile(fileobj=file)
            source = iter(lambda: unzipped.read(CHUNK), b"")
        elif name.endswith(".zst"):
            source = _unzstd(file)
        else:
            source = iter(lambda: file.read(CHUNK), b"")
        position = 0
        for chunk in source:
            on_read(file.tell() - position)
            position = file.tell()
            yield chunk


def _unzstd(file: BinaryIO) -> Iterator[bytes]:
    """Decompressed frames. Not zstandard's stream_reader, which takes a cut-off file for a whole one."""
    try:
        import zstandard
    except ImportError:
        raise missing_extra("zstandard", "data") from None
    decompressor = zstandard.ZstdDecompressor(max_window_size=2**31)
    frame = decompressor.decompressobj()
    inside = False
    try:
        while data := file.read(COMPRESSED_CHUNK):
            while data:
                yield frame.decompress(data)
                inside = not frame.eof
                data = frame.unused_data if frame.eof else b""
                if frame.eof:
                    frame = decompressor.decompressobj()
    except zstandard.ZstdError as error:
        raise EOFError(str(error)) from None
    if inside:
        raise EOFError("the last frame has no end")


def _lines(chunks: Iterator[bytes]) -> Iterator[Record]:
    """Numbered lines without their newline; one longer than MAX_RECORD is passed over as None."""
    line, parts, size = 1, list[bytes](), 0
    first = True
    for chunk in chunks:
        if first:
            chunk, first = chunk.removeprefix(b"\xef\xbb\xbf"), False  # a byte order mark
        head, *rest = chunk.split(b"\n")
        size += len(head)
        if size <= MAX_RECORD:
            parts.append(head)
        else:
            parts = []
        if rest:
            yield Record(line, b"".join(parts) if size <= MAX_RECORD else None)
            for number, whole in enumerate(rest[:-1], line + 1):
                yield Record(number, whole)
            line += len(rest)
            parts, size = [rest[-1]], len(rest[-1])
    yield Record(line, b"".join(parts) if size <= MAX_RECORD else None)


def _nonblank(lines: Iterator[Record]) -> Iterator[Record]:
    return (record for record in lines if record.data is None or record.data.strip())


def _paragraphs(lines: Iterator[Record]) -> Iterator[Record]:
    """Plain text: documents are separated by blank lines."""
    start, parts, size = 0, list[bytes](), 0
    for line, data in lines:
        if data is None or data.strip():
            if not size:
                start = line
            size += MAX_RECORD + 1 if data is None else len(data) + 1
            if data is not None and size <= MAX_RECORD:
                parts.append(data.removesuffix(b"\r"))
            else:
                parts = []
        elif size:
            yield Record(start, b"\n".join(parts) if size <= MAX_RECORD else None)
            parts, size = [], 0
    if size:
        yield Record(start, b"\n".join(parts) if size <= MAX_RECORD else None)


def _parquet_records(path: Path, on_read: Callable[[int], None]) -> Iterator[Record]:
    """Rows as JSON objects, so that everything after the reader knows one form only."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise missing_extra("pyarrow", "data") from None
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            bytes_per_row = path.stat().st_size / max(1, file.metadata.num_rows)
            for batch in file.iter_batches(batch_size=256):
                on_read(int(bytes_per_row * len(batch)))
                for row in batch.to_pylist():
                    number += 1
                    yield Record(number, json.dumps(row, default=_plain).encode())
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedFile(f"{path} is damaged after row {number} ({error}); get the file again") from None


def _plain(value: object) -> str:
    """Column types that JSON has not: bytes are taken for UTF-8 text, dates and numbers for what they print."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
