"""Source files as a stream of numbered records: .jsonl, .json, .txt, .csv, .tsv, .md, .html, each also .gz or .zst,
.parquet and .pdf.

A record is the bytes of one document in UTF-8, not yet looked at: a JSON object, a paragraph of plain text, or a
whole page. Only a few megabytes of a file are in memory at a time, whatever its size and compression; .md, .html
and .pdf are read whole.
"""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, starmap
from pathlib import Path
from typing import BinaryIO

from minimind.data.sources import records
from minimind.data.sources.encodings import BOM, say, text_blocks
from minimind.data.sources.json_values import UTF8, is_one_per_line, json_values, split_joined
from minimind.data.sources.pages import html_charset, html_text, markdown_text, pdf_text
from minimind.data.sources.records import DamagedFile, Record, line_feeds, lines
from minimind.data.sources.tables import read_csv, read_parquet
from minimind.errors import UserError, missing_extra
from minimind.util.files import check_input

CONTAINERS = {"markdown": "md", "htm": "html", "jsonl": "json"}  # endings that mean the same as another
STREAMED = (".jsonl", ".json", ".txt", ".csv", ".tsv", ".md", ".markdown", ".html", ".htm")
EXTENSIONS = tuple(kind + packed for kind in STREAMED for packed in ("", ".gz", ".zst"))
EXTENSIONS += (".parquet", ".pdf")
# Lines that separate the documents of a .txt, as in TinyStories, whose stories have blank lines inside.
ENDS = (b"<|endoftext|>", b"<|end_of_text|>", b"</s>")

CHUNK = 2**20
# Compressed bytes per step: one byte can unfold to thousands, and each step is unfolded whole.
COMPRESSED_CHUNK = 2**14


def container(path: Path) -> str:
    """What a file is by its ending: json, txt, csv, tsv, md, html, parquet or pdf."""
    ending = path.name.lower().removesuffix(".gz").removesuffix(".zst").rpartition(".")[2]
    return CONTAINERS.get(ending, ending)


def is_plain_text(path: Path) -> bool:
    """Whether records of this file are text rather than JSON."""
    return container(path) in ("txt", "md", "html", "pdf")


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
    kind = container(path)
    if kind == "parquet":
        yield from read_parquet(path, on_read)
        return
    if kind == "pdf":
        on_read(path.stat().st_size)
        yield _pdf_record(path)
        return
    split = SPLITTERS.get(kind, _json_text)
    line = 0
    try:
        chunks = _chunks(path, on_read)
        if kind == "html" and encoding is None:
            first = next(chunks, b"")
            encoding, chunks = html_charset(first), chain([first], chunks)
        for record in split(text_blocks(chunks, path, encoding), path):
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
        yield from starmap(Record, json_values(blocks, records.MAX_RECORD))
        return
    for line, data in lines(blocks):
        if data is None:
            yield Record(line, None)
        elif data.strip():
            for value in split_joined(data):
                yield Record(line, value)


def _plain_text(blocks: Iterator[bytes], path: Path) -> Iterator[Record]:
    """Documents separated by lines such as `<|endoftext|>`, or else by blank lines."""
    blocks = line_feeds(blocks)
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

    for line, data in lines(chain([first], blocks), cut=True):
        assert data is not None
        for number, text in enumerate(data.split(separator) if separator else [data]):
            if number or (separator is None and _is_blank(text)):
                yield from end()
            if size and size + len(text) >= records.MAX_RECORD:
                most = records.MAX_RECORD >> 20
                say(f"{path}:{line}: a text of more than {most} MiB is cut into several documents")
                yield from end()
            if document or not _is_blank(text):
                start = start if document else line
                document.append(text)
                size += len(text) + 1
    yield from end()


def _page(blocks: Iterator[bytes], convert: Callable[[str], str]) -> Iterator[Record]:
    """A whole file as one document."""
    data = b"".join(line_feeds(blocks))
    too_long = len(data) > records.MAX_RECORD
    yield Record(1, None if too_long else convert(data.removeprefix(BOM).decode(*UTF8)).encode(*UTF8))


def _pdf_record(path: Path) -> Record:
    try:
        return Record(1, pdf_text(path).encode("utf-8", "replace"))
    except ValueError as error:
        raise DamagedFile(f"{path} is no PDF that can be read ({error}); print it to a PDF anew") from None


def _is_blank(line: bytes) -> bool:
    """Whether there is nothing but white space, an ideographic space (U+3000) for example."""
    rest = line.strip()
    return not rest or (rest[0] >= 0x80 and not rest.decode("utf-8", "replace").strip())


SPLITTERS: dict[str, Callable[[Iterator[bytes], Path], Iterator[Record]]] = {
    "txt": _plain_text,
    "md": lambda blocks, path: _page(blocks, markdown_text),
    "html": lambda blocks, path: _page(blocks, html_text),
    "csv": partial(read_csv, delimiters=",;\t"),
    "tsv": partial(read_csv, delimiters="\t"),
}
