"""Text while it is being generated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from minimind.errors import UserError
from minimind.tokenizer import Tokenizer
from minimind.tokenizer.parse import (
    CALL,
    END_CALL,
    END_THINK,
    MARKERS,
    THINK,
    Piece,
    marker_ids,
    read_call,
    split_markers,
)

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


class TextStream:
    """Ids to text, one at a time, up to the first stop string, which may begin in one token and end in another.

    Neither the stop string nor a beginning of it is ever handed out, and characters come whole. Where several stop
    strings are found, the one that ends first counts: so the text does not depend on the borders of tokens.
    UserError for an empty stop string.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = (), skip_special: bool = True) -> None:
        if "" in stop:
            raise UserError("a stop string is empty; every answer would end before it begins")
        self.decoder = StreamDecoder(tokenizer, skip_special)
        self.stop = tuple(stop)
        self.held = ""  # the end of the text so far, where it may be the beginning of a stop string
        self.stopped = False
        """whether a stop string was found; nothing comes after it"""

    def push(self, token: int) -> str:
        """The text that is certain after one more token."""
        return self.push_text(self.decoder.push(token))

    def flush(self) -> str:
        """What was held back, when no more tokens come."""
        text = self.push_text(self.decoder.flush())
        text, self.held = text + self.held, ""
        return text

    def push_text(self, new: str) -> str:
        """The text that is certain after more of it, for somebody who decodes himself."""
        if self.stopped:
            return ""
        text = self.held + new
        found = [(at + len(stop), at) for stop in self.stop if (at := text.find(stop)) >= 0]
        if found:
            self.stopped, self.held = True, ""
            return text[: min(found)[1]]
        kept = max((_overlap(text, stop) for stop in self.stop), default=0)
        self.held = text[len(text) - kept :]
        return text[: len(text) - kept]


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of the text are a beginning of the stop string."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)


@dataclass(frozen=True)
class Part:
    """A piece of an answer: some text, or a whole tool call."""

    text: str
    thinking: bool = False
    call: dict[str, Any] | None = None
    """`{"name": str, "arguments": dict}`, of a server perhaps with text as arguments; then there is no text"""


def stream_parts(ids: Iterable[int], tokenizer: Tokenizer, open_thinking: bool = False) -> Iterator[Part]:
    """An assistant's ids as they come, as text, thinking apart from content; tool calls are text."""
    answer = AnswerStream(tokenizer, open_thinking)
    for token in ids:
        yield from answer.push(token)
    yield from answer.flush()


class AnswerStream:
    """What an assistant says, one id at a time: thinking, content up to a stop string, tool calls.

    All that comes out, joined, is what `parse_assistant` makes of all ids. But what is out stays: thinking stands
    at the beginning, and a later `<think>`, or a `</think>` that closes nothing, is text.

    open_thinking  the prompt ended in `<think>`, so the ids begin inside the thinking
    calls          whether to look for tool calls; else they are text
    open_call      the prompt ended in `<tool_call>`, so the ids begin inside a call, which ends with them
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        open_thinking: bool = False,
        stop: Sequence[str] = (),
        calls: bool = False,
        open_call: bool = False,
    ) -> None:
        self.pieces = PieceStream(tokenizer)
        self.content = TextStream(tokenizer, stop)
        self.calls = calls
        self.open_call = open_call
        self.call: list[Piece] = [CALL] if open_call else []  # a tool call that has not ended
        self.thinking = open_thinking
        self.may_open = not open_thinking
        self.blank = True  # nothing of the thinking, or of the content, was shown yet
        self.newlines = ""  # line ends held back: they go where thinking ends or a call begins

    @property
    def stopped(self) -> bool:
        """Whether a stop string was found; nothing comes after it."""
        return self.content.stopped

    def push(self, token: int) -> list[Part]:
        """The parts that are certain after one more token."""
        return self._read(self.pieces.push(token))

    def flush(self) -> list[Part]:
        """What was held back, when no more tokens come."""
        parts = self._read([*self.pieces.flush(), *([END_CALL] if self.open_call else [])])
        unfinished, self.call = self.call, []
        parts += self._say("".join(piece.text for piece in unfinished))
        if not self.thinking:
            parts += self._show(self.content.flush()) + self._show("", last=True)
        return parts

    def _read(self, pieces: list[Piece]) -> list[Part]:
        return [part for piece in pieces for part in self._read_piece(piece)]

    def _read_piece(self, piece: Piece) -> list[Part]:
        if self.call:
            self.call.append(piece)
            return self._end_call() if piece == END_CALL else []
        opens = piece == THINK and self.may_open and self.blank
        if opens or (piece == END_THINK and self.thinking):
            self.thinking, self.may_open, self.blank, self.newlines = opens, False, True, ""
            return []
        if piece == CALL and self.calls and not self.thinking:
            self.call, self.may_open = [piece], False
            return []
        return self._say(piece.text)

    def _end_call(self) -> list[Part]:
        """The call that the pieces spell; else they are text, but a call may have begun again inside them."""
        pieces, self.call = self.call, []
        for begin, piece in enumerate(pieces):
            call = read_call("".join(p.text for p in pieces[begin + 1 : -1])) if piece == CALL else None
            if call is not None:
                parts = self._say("".join(p.text for p in pieces[:begin])) + self._show(self.content.flush())
                self.newlines = ""
                return parts if self.stopped else [*parts, Part("", call=call)]
        return self._say("".join(piece.text for piece in pieces))

    def _say(self, text: str) -> list[Part]:
        text = text.lstrip("\n") if self.blank else text
        self.blank = self.blank and not text
        return self._show(text if self.thinking else self.content.push_text(text))

    def _show(self, text: str, last: bool = False) -> list[Part]:
        text = self.newlines + text
        kept = 0
        if not last and (self.thinking or self.calls):
            kept = len(text) - len(text.rstrip("\n"))
            kept = kept if self.thinking else min(kept, 1)
        self.newlines = text[len(text) - kept :]
        text = text[: len(text) - kept]
        return [Part(text, self.thinking)] if text else []


class PieceStream:
    """Ids to text, one at a time, cut at the markers of thinking and tool calls."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.decoder = StreamDecoder(tokenizer)
        self.markers = marker_ids(tokenizer)
        self.held = ""  # where markers are spelled out: the end of the text, if one may begin there

    def push(self, token: int) -> list[Piece]:
        """The pieces that are certain after one more token."""
        if token in self.markers:
            return [*self.flush(), self.markers[token]]
        text = self.decoder.push(token)
        if self.markers:
            return [Piece(text, False)] if text else []
        text = self.held + text
        kept = max(_overlap(text, marker) for marker in MARKERS)
        self.held = text[len(text) - kept :]
        return split_markers(text[: len(text) - kept])

    def flush(self) -> list[Piece]:
        """What was held back, when no more tokens come."""
        text = self.held + self.decoder.flush()
        self.held = ""
        return [Piece(text, False)] if text else []
