"""Texts of any length, encoded window by window in bounded memory.

The tokenizers library keeps some 200 bytes per token while it works. So a text goes through in windows of WINDOW
characters, each of which ends at a border between two words of the tokenizer's own pre-tokenizer. BPE never joins
tokens across such a border, and a pre-tokenizer goes on from it as it would have done without the cut: the ids are
those of the whole text. Only a word that fills a whole window is cut (letters without a space; also white space, or
signs, in a row), and that is counted.
"""

import json
from collections.abc import Iterator
from typing import NamedTuple

import tokenizers
from tokenizers import models

TextSpan = tuple[int, int]

WINDOW = 2**17
# What a pre-tokenizer may look ahead, as for the letters of a contraction. Only at white space it looks further.
LOOKAHEAD = 16


class Window(NamedTuple):
    ids: list[int]
    offsets: list[TextSpan]
    """of each id, in the whole text"""
    cut: bool
    """whether its last word had to be cut"""


class Encoder:
    """Plain text to ids: a tokenizer's model, normalizer and pre-tokenizer."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        self.first = _assemble(backend.model, backend)
        self._rest: tokenizers.Tokenizer | None = None

    def windows(self, text: str) -> Iterator[Window]:
        """The whole text in windows, one after the other."""
        start, encoder = 0, self.first
        while len(text) - start > WINDOW:
            part = text[start : start + WINDOW]
            encoding = encoder.encode(part, add_special_tokens=False)
            ids, offsets = encoding.ids, encoding.offsets
            count = _last_border(encoding.word_ids, offsets, part)
            end = offsets[count][0] if count else len(part)
            count = count or len(ids)
            yield Window(ids[:count], _shifted(offsets[:count], start), end == len(part))
            start += end
            if self._rest is None:
                self._rest = _continuing(self.first)
            encoder = self._rest
        encoding = encoder.encode(text[start:], add_special_tokens=False)
        yield Window(encoding.ids, _shifted(encoding.offsets, start), False)


def _last_border(words: list[int | None], offsets: list[TextSpan], part: str) -> int:
    """The number of tokens before the last border that what follows the window cannot move; 0 for none."""
    for count in range(len(words) - 1, 0, -1):
        position = offsets[count][0]
        if words[count] == words[count - 1] or not 0 < position <= len(part) - LOOKAHEAD:
            continue
        if not (part[position - 1].isspace() and part[position].isspace()):
            return count
    return 0


def _shifted(offsets: list[TextSpan], by: int) -> list[TextSpan]:
    return [(start + by, end + by) for start, end in offsets] if by else offsets


def _assemble(model: models.Model, parts: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """A tokenizer without added tokens: what it encodes is always ordinary text."""
    plain = tokenizers.Tokenizer(model)
    for part in ("normalizer", "pre_tokenizer"):
        if getattr(parts, part) is not None:
            setattr(plain, part, getattr(parts, part))
    return plain


def _continuing(first: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """The same for text that goes on: no space is put before it, and none taken away."""
    content = json.loads(_assemble(models.BPE(), first).to_str())
    for normalizer in _members(content["normalizer"]):
        match normalizer["type"]:
            case "Prepend":
                normalizer["prepend"] = ""
            case "Strip":
                normalizer["strip_left"] = False
    for pre_tokenizer in _members(content["pre_tokenizer"])[:1]:
        match pre_tokenizer["type"]:
            case "ByteLevel":
                pre_tokenizer["add_prefix_space"] = False
            case "Metaspace":
                pre_tokenizer["prepend_scheme"] = "never"
    return _assemble(first.model, tokenizers.Tokenizer.from_str(json.dumps(content)))


def _members(part: dict | None) -> list[dict]:
    """A normalizer or pre-tokenizer as a list of simple ones."""
    if part is None:
        return []
    if part["type"] != "Sequence":
        return [part]
    members = part.get("normalizers") or part.get("pretokenizers") or []
    return [simple for member in members for simple in _members(member)]
