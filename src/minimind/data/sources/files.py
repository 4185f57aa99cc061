"""Source files as a stream of numbered records: .jsonl, .json, .txt, each also .gz or .zst, and .parquet.

A record is the bytes of one document in UTF-8, not yet looked at: a JSON object, or a paragraph of plain text. Only
a few megabytes of a file are in memory at a time, whatever its size and compression.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, starmap
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from minimind.data.sources.encodings import BOM, say, text_blocks
from minimind.data.sources.json_values import is_one_per_line, json_values, split_joined
from minimind.errors import UserError, missing_extra
from minimind.util.files import check_input

EXTENSIONS = tuple(kind + packed for kind in (".jsonl", ".json", ".txt") for packed in ("", ".gz", ".zst"))
EXTENSIONS += (".parquet",)
MAX_RECORD = 32 * 2**20  # bytes; a longer JSON object is reported as bad, so that it cannot fill the memory
# Lines that separate the documents of a .txt, as in TinyStories, whose stories have blank lines inside.
ENDS = (b"<|endoftext|>", b"<|end_of_text|>", b"</s>")

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
    if os.path.isdir(path):
        raise UserError(f"{path} is a directory; name the files in it, for example {path}/*.jsonl")
    check_input(path)
    if not path.name.lower().endswith(EXTENSIONS):
        raise UserError(f"{path}: unknown file type; known are {', '.join(EXTENSIONS)}")
    if not path.stat().st_size:
        raise UserError(f"{path} is empty; it should hold one document per line")


def read_records(
    path: Path, on_read: Callable[[int], None] = lambda size: None, encoding: str | None = None
) -> Iterator[Record]:
    """All records of a file in order; blank lines are skipped but counted.

    `on_read` is told how many bytes of the file were consumed, for progress; `encoding` is what the user named, of
    text files. UserError for a file that cannot be read at all, and where a compressed one turns out to be damaged.
    """
    check_file(path)
    if path.name.lower().endswith(".parquet"):
        yield from _parquet_records(path, on_read)
        return
    split = _plain_text if is_plain_text(path) else _json_text
    line = 0
    try:
        for record in split(text_blocks(_chunks(path, on_read), path, encoding), path):
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


def _json_text(blocks: Iterator[bytes], path: Path) -> Iterator[Record]:
    """A value per line, or what else JSON files look like."""
    first = next(blocks, b"")
    blocks = chain([first], blocks)
    if not is_one_per_line(first):
        yield from starmap(Record, json_values(blocks, MAX_RECORD))
        return
    for line, data in _lines(blocks):
        if data is None:
            yield Record(line, None)
        elif data.strip():
            for value in split_joined(data):
                yield Record(line, value)


def _plain_text(blocks: Iterator[bytes], path: Path) -> Iterator[Record]:
    """Documents separated by lines such as `<|endoftext|>`, or else by blank lines."""
    blocks = _line_feeds(blocks)
    first = next(blocks, b"")
    separator = next((end for end in ENDS if re.search(re.escape(end) + rb"[ \t]*(\n|$)", first)), None)
    if separator:
        say(f"{path}: documents are separated by {separator.decode()}, and blank lines belong to them")
    document, start, size = list[bytes](), 0, 0

    def end() -> Iterator[Record]:
        nonlocal size
        while document and _is_blank(document[-1]):
            document.pop()
        if document:
            yield Record(start, b"\n".join(document))
        document.clear()
        size = 0

    for line, data in _lines(chain([first], blocks), cut=True):
        assert data is not None
        for number, text in enumerate(data.split(separator) if separator else [data]):
            if number or (separator is None and _is_blank(text)):
                yield from end()
            if size and size + len(text) >= MAX_RECORD:
                say(f"{path}:{line}: a text of more than {MAX_RECORD >> 20} MiB is cut into several documents")
                yield from end()
            if document or not _is_blank(text):
                start = start if document else line
                document.append(text)
                size += len(text) + 1
    yield from end()


def _line_feeds(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """CR and CRLF as LF, the way that Python opens text."""
    held = b""
    for block in blocks:
        block = held + block
        held = block[-1:] if block.endswith(b"\r") else b""
        yield block[: len(block) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    yield held and b"\n"


def _is_blank(line: bytes) -> bool:
    """Whether there is nothing but white space, an ideographic space (U+3000) for example."""
    rest = line.strip()
    return not rest or (rest[0] >= 0x80 and not rest.decode("utf-8", "replace").strip())


def _lines(blocks: Iterable[bytes], cut: bool = False) -> Iterator[Record]:
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
                    yield Record(number, json.dumps(_without_nulls(row), default=_plain).encode())
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedFile(f"{path} is damaged after row {number} ({error}); get the file again") from None


def _without_nulls(value: Any) -> Any:
    """A row without what Arrow fills in so that all rows have the same keys; pandas writes it as NaN."""
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None and inner == inner}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _plain(value: object) -> str:
    """Column types that JSON has not: bytes are taken for UTF-8 text, dates and numbers for what they print."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
