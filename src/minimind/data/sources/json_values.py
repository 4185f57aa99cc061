"""JSON that is not one object per line: an array, indented objects, objects without anything between them."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator

UTF8 = ("utf-8", "surrogateescape")  # bytes that are no UTF-8 come out as they went in

_decoder = json.JSONDecoder()
_between = re.compile(r"[\s,\[\]\ufeff]*")  # what may stand between two values of an array, or of a file
_joined = re.compile(rb"\}\s*(?:\xef\xbb\xbf)?\s*\{")  # within one value this stands in a string only


def is_one_per_line(block: bytes) -> bool:
    """Whether a file that begins with `block` has a value per line; so has one whose first line is plainly bad."""
    text = block.decode(*UTF8)
    start = _start(text, 0)
    if "[" in text[:start]:
        return False
    line = text[start:].partition("\n")[0].rstrip()
    try:
        return _decoder.raw_decode(text, start)[1] == start + len(line)
    except (ValueError, RecursionError):  # bad, or longer than the block
        return line != "{"


def split_joined(line: bytes) -> list[bytes]:
    """The objects of a line, several where files were put together of which one had no last line end."""
    if not _joined.search(line):
        return [line]
    text, place, values = line.decode(*UTF8), 0, list[bytes]()
    try:
        while (start := _start(text, place)) < len(text):
            place = _decoder.raw_decode(text, start)[1]
            values.append(text[start:place].encode(*UTF8))
    except (ValueError, RecursionError):
        return [line]
    return values


def json_values(blocks: Iterable[bytes], longest: int) -> Iterator[tuple[int, bytes | None]]:
    """Each value of a file and the line it begins at; what is no value goes up to the end of its line.

    None stands for a value of more than `longest` characters. Few times as many are in memory.
    """
    decoder = codecs.getincrementaldecoder(UTF8[0])(UTF8[1])
    texts = (decoder.decode(block) for block in blocks)
    text, place, line, more = "", 0, 1, True
    while True:
        start = _start(text, place)
        line += text.count("\n", place, start)
        end = _end(text, start, more)
        if end is None and more and len(text) - start < longest:
            parts = [text[start:]]
            size = len(parts[0])
            while size <= 2 * len(parts[0]) and (more := (part := next(texts, None)) is not None):
                parts.append(part or "")
                size += len(parts[-1])
            text, place = "".join(parts), 0
            continue
        if start == len(text):
            return
        too_long = end is None or end - start > longest
        if not end:
            newline = text.find("\n", start)
            end = newline if newline >= 0 else len(text)
        yield line, None if too_long else text[start:end].encode(*UTF8)
        line += text.count("\n", start, end)
        place = end


def _start(text: str, place: int) -> int:
    match = _between.match(text, place)
    assert match
    return match.end()


def _end(text: str, start: int, more: bool) -> int | None:
    """Where the value at `start` ends; 0 where there is none, None where it may go on in the text to come."""
    try:
        end = _decoder.raw_decode(text, start)[1]
        return end if end < len(text) or not more else None
    except json.JSONDecodeError as error:
        cut_off = error.msg.startswith("Unterminated") or error.pos > len(text) - 16
        return None if more and cut_off else 0
    except (ValueError, RecursionError):  # a number of thousands of digits; nesting
        return 0
