"""What a file is written in: UTF-8, what a byte order mark or the user names, or something to be named.

A guess is never acted upon, since a wrong one trains on nonsense: the file is refused, and the guess is what the
user is told to name.
"""

from __future__ import annotations

import codecs
import logging
import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path

from minimind.errors import UserError
from minimind.util.suggest import did_you_mean

log = logging.getLogger("minimind")

BLOCK = 2**20  # bytes that are looked at together
BOM = codecs.BOM_UTF8
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",  # first, as its mark begins like UTF-16's
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
WIDE = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
NARROW = ("gb18030", "big5", "cp932", "euc-jp", "cp949")
SPOKEN = {"gb18030": "GBK", "cp932": "Shift-JIS", "cp949": "EUC-KR"}
SEVERAL = 3  # lines that are not UTF-8, and most of those beyond ASCII, make a file that is not

# Characters that no text of some length is without: the right guess finds them and a wrong one does not.
COMMON = re.compile(
    r"[ -~\sÀ-ÿА-яЁё、。，！？：；「」‘’“”ぁ-ヶ"
    "的一是不了在有人我他这個个們们中来來上大为為和国國地到以说說時时要就出会會可也你对對生能而子那得于於着著下自之年过過"
    "发發後后作里裡本文字好用多所学學家小天心日月行前开開事고하지도이다는을의에가를은서로한그나인사기어리자]"
)


def text_blocks(chunks: Iterable[bytes], path: Path, encoding: str | None) -> Iterator[bytes]:
    """A file's bytes as UTF-8, in blocks; `encoding` is what the user named. UserError where that is needed."""
    blocks = _blocks(chunks)
    first = next(blocks, b"")
    blocks = chain([first], blocks)
    if encoding is None:
        encoding = next((name for mark, name in MARKS.items() if first.startswith(mark)), None)
        if encoding is None:
            return _checked(blocks, path)
        say(f"{path} is read as {encoding.upper()}, as its byte order mark says")
    return blocks if codec_name(encoding) == "utf-8" else _decoded(blocks, path, encoding)


def codec_name(encoding: str) -> str:
    """Python's name of an encoding; UserError where there is none."""
    try:
        codec = codecs.lookup(encoding)
        if codec._is_text_encoding:
            return codec.name
    except (LookupError, ValueError):
        pass
    known = (
        *NARROW,
        *WIDE,
        "utf-8",
        "utf-16",
        "utf-32",
        "gbk",
        "gb2312",
        "shift-jis",
        "euc-kr",
        "cp1252",
        "latin-1",
    )
    raise UserError(f"there is no encoding {encoding!r}; {did_you_mean(encoding, known, 'for example gb18030')}")


@cache
def say(sentence: str) -> None:
    """Warn once, however often a file is read."""
    log.warning("%s", sentence)


def _blocks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    parts, size = list[bytes](), 0
    for chunk in chunks:
        parts.append(chunk)
        size += len(chunk)
        if size >= BLOCK:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)


# What the named encoding cannot read becomes a byte that is no UTF-8 either: its line is a bad line.
codecs.register_error("minimind.no_text", lambda error: ("\udc80", error.end))  # type: ignore[attr-defined]


def _decoded(blocks: Iterable[bytes], path: Path, encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)("minimind.no_text")
    try:
        for block in blocks:
            yield decoder.decode(block).encode("utf-8", "surrogateescape")
        yield decoder.decode(b"", final=True).encode("utf-8", "surrogateescape")
    except UnicodeError as error:
        raise UserError(f"{path} is not {encoding} ({error}); name another --encoding") from None


def _checked(blocks: Iterable[bytes], path: Path) -> Iterator[bytes]:
    """The blocks, of which the first that is not plain ASCII has to be UTF-8."""
    known = False
    for number, block in enumerate(blocks):
        known = known or _is_utf8(block, number == 0, path)
        yield block


def _is_utf8(block: bytes, is_first: bool, path: Path) -> bool:
    """False while there is only ASCII. UserError for a file that is not UTF-8, with what it looks like.

    A few lines that are not UTF-8 are no reason: they are bad lines.
    """
    if b"\0" not in block and block.isascii():
        return False
    lines = block.split(b"\n")
    if len(block) >= BLOCK:  # it may begin and end within a line
        lines = lines[not is_first : -1] or lines[:is_first]
    good, bad = 0, list[bytes]()
    for line in lines:
        try:
            codecs.utf_8_decode(line, "strict", len(block) < BLOCK)
            good += not line.isascii()
        except UnicodeDecodeError:
            bad.append(line)
    guess = None
    if len(bad) > good:
        guess = _guess(b"\n".join(bad), NARROW) or _guess(block, WIDE)
    elif b"\0" in block:
        guess = _guess(block, WIDE)
    if guess:
        spoken = SPOKEN.get(guess, guess.upper())
        raise UserError(
            f"{path} is not UTF-8 but looks like {spoken}; name its encoding with --encoding {guess}, or convert"
            f" it: iconv -f {guess} -t utf-8 {path} > NEW"
        )
    if len(bad) > max(good, SEVERAL):
        raise UserError(
            f"{path} is not UTF-8; name its encoding with --encoding NAME (cp1252 for Western languages, cp1251 for"
            " Cyrillic, gb18030 for Chinese), or convert it to UTF-8"
        )
    return good + len(bad) > 0


def _guess(sample: bytes, encodings: Iterable[str]) -> str | None:
    """The encoding in which most characters are common ones; None where few are."""
    sample = sample[: 2**16]
    shares = {}
    for encoding in encodings:
        text = sample.decode(encoding, "replace")
        beyond = [character for character in text if not " " <= character <= "~" and character not in "\t\n\r"]
        common = sum(COMMON.match(character) is not None for character in beyond)
        if "\0" not in text and 20 * text.count("\ufffd") <= len(beyond) <= 10 * common:
            plain = len(text) - len(beyond)
            shares[encoding] = (plain + common) / max(len(text), 1)
    return max(shares, key=lambda encoding: shares[encoding], default=None)
