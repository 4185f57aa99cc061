"""Text while it is being generated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from minimind.tokenizer import Tokenizer

REPLACEMENT = "\ufffd"  # how a decoder shows bytes that are no character


class StreamDecoder:
    """Ids to text, one at a time. A character whose bytes are spread over several tokens comes out whole."""

    def __init__(self, tokenizer: Tokenizer, skip_special: bool = True) -> None:
        self.tokenizer = tokenizer
        self.skip_special = skip_special
        self.pending: list[int] = []  # the last ids, whose last character may not be complete
        self.shown = 0  # characters of the pending text that were handed out

    def push(self, token: int) -> str:
        """The text that is certain after one more token; often empty in the middle of a character."""
        self.pending.append(token)
        text = self._decode()
        # An unfinished character shows as one U+FFFD at the end; all before it is final.
        new = text.removesuffix(REPLACEMENT)[self.shown :]
        if text.endswith(REPLACEMENT):
            self.pending = self.pending[-3:]  # an unfinished character has at most three bytes
            self.shown = len(self._decode()) - 1
        else:
            self.pending, self.shown = [], 0
        return new

    def flush(self) -> str:
        """What was held back, when no more tokens come."""
        rest = self._decode()[self.shown :]
        self.pending, self.shown = [], 0
        return rest

    def _decode(self) -> str:
        return self.tokenizer.decode(self.pending, self.skip_special)


@dataclass(frozen=True)
class Part:
    """A piece of an answer."""

    text: str
    thinking: bool


def stream_parts(ids: Iterable[int], tokenizer: Tokenizer, open_thinking: bool = False) -> Iterator[Part]:
    """An assistant's ids as they come, as text, thinking apart from content.

    open_thinking  the prompt ended in `<think>`, so the ids begin inside the thinking

    As in `parse_assistant`, thinking stands at the beginning; a later `<think>` is text.
    """
    begin, end = tokenizer.reserved.get("<think>"), tokenizer.reserved.get("</think>")
    decoder = StreamDecoder(tokenizer)
    thinking, may_open = open_thinking, not open_thinking
    blank = True  # nothing of the thinking, or of the content, was shown yet
    for token in ids:
        opens, closes = token == begin and may_open and blank, token == end and thinking
        border = opens or closes
        text = decoder.flush() if border else decoder.push(token)
        text = text.lstrip("\n") if blank else text
        if text:
            yield Part(text, thinking)
            blank = False
        if border:
            thinking, may_open, blank = opens, False, True
    if rest := decoder.flush():
        yield Part(rest, thinking)
