"""Text while it is being generated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from minimind.errors import UserError
from minimind.infer.events import End, ModelEvent, Text, Thinking, Token, ToolCall
from minimind.tokenizer import Tokenizer
from minimind.tokenizer.parse import (
    CALL,
    END_CALL,
    END_THINK,
    MARKERS,
    THINK,
    Fragment,
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


class StopStrings:
    """Text up to the first stop string, which may begin in one part of it and end in another.

    Neither the stop string nor a beginning of it ever comes out. Where several match, the one that ends first
    counts: so the text does not depend on the borders of tokens. UserError for an empty stop string.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        if "" in stop:
            raise UserError("a stop string is empty; every answer would end before it begins")
        self.stop = tuple(stop)
        self.held = ""  # the end of the text so far, where it may be the beginning of a stop string
        self.stopped = False
        """whether a stop string came; nothing comes after it"""

    def push(self, text: str) -> str:
        """The text that is certain after more of it."""
        if self.stopped:
            return ""
        text = self.held + text
        matches = [(at + len(stop), at) for stop in self.stop if (at := text.find(stop)) >= 0]
        if matches:
            self.stopped, self.held = True, ""
            return text[: min(matches)[1]]
        kept = max((_overlap(text, stop) for stop in self.stop), default=0)
        self.held = text[len(text) - kept :]
        return text[: len(text) - kept]

    def flush(self) -> str:
        """What was held back, when no more text comes."""
        rest, self.held = self.held, ""
        return rest


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of the text are a beginning of the stop string."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)


class TextStream:
    """The tokens of a text as events, one at a time, up to a stop string."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self.decoder = StreamDecoder(tokenizer)
        self.content = StopStrings(stop)

    def push(self, news: Token | End) -> list[ModelEvent]:
        """The text that is certain after one more token, with the token; or the last text and the end."""
        if isinstance(news, End):
            text = self.content.push(self.decoder.flush()) + self.content.flush()
            return [Text(text), End("stop") if self.content.stopped else news]
        return [Text(self.content.push(self.decoder.push(news.id)), tokens=(news,))]


class AnswerStream:
    """An assistant's tokens as events, one at a time: thinking, text up to a stop string, tool calls, the end.

    All text that comes out, joined, is what `parse_assistant` makes of all ids. But what is out stays: thinking
    stands at the beginning, and a later `<think>`, or a `</think>` that closes nothing, is text.

    open_thinking  the prompt ended in `<think>`, so the ids begin inside the thinking
    calls          whether to look for tool calls; else they are text
    open_call      the prompt ended in `<tool_call>`, so the ids begin inside a call, which ends with them
    open_content   the prompt ended inside the answer, so the ids go on from there
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        open_thinking: bool = False,
        stop: Sequence[str] = (),
        calls: bool = False,
        open_call: bool = False,
        open_content: bool = False,
    ) -> None:
        self.fragments = FragmentStream(tokenizer)
        self.content = StopStrings(stop)
        self.calls = calls
        self.open_call = open_call
        self.call: list[Fragment] = [CALL] if open_call else []  # a tool call that has not ended
        self.thinking = open_thinking
        self.may_open = not open_thinking and not open_content
        self.blank = not open_content  # nothing of the thinking, or of the content, was shown yet
        self.newlines = ""  # line ends held back: they go where thinking ends or a call begins

    def push(self, news: Token | End) -> list[ModelEvent]:
        """What is certain after one more token, at least an event with the token itself; or the last events."""
        if isinstance(news, End):
            return [*self._flush(), End("stop") if self.content.stopped else news]
        kind = Thinking if self.thinking else Text
        first, *others = self._parse(self.fragments.push(news.id)) or [kind("")]
        return [replace(first, tokens=(news,)), *others]

    def _flush(self) -> list[ModelEvent]:
        events = self._parse([*self.fragments.flush(), *([END_CALL] if self.open_call else [])])
        unfinished, self.call = self.call, []
        events += self._say("".join(fragment.text for fragment in unfinished))
        if not self.thinking:
            events += self._show(self.content.flush()) + self._show("", last=True)
        return events

    def _parse(self, fragments: list[Fragment]) -> list[ModelEvent]:
        return [event for fragment in fragments for event in self._parse_one(fragment)]

    def _parse_one(self, fragment: Fragment) -> list[ModelEvent]:
        if self.call:
            self.call.append(fragment)
            return self._end_call() if fragment == END_CALL else []
        opens = fragment == THINK and self.may_open and self.blank
        if opens or (fragment == END_THINK and self.thinking):
            self.thinking, self.may_open, self.blank, self.newlines = opens, False, True, ""
            return []
        if fragment == CALL and self.calls and not self.thinking:
            self.call, self.may_open = [fragment], False
            return []
        return self._say(fragment.text)

    def _end_call(self) -> list[ModelEvent]:
        """The call that the fragments spell; else they are text, but a call may have begun again inside them."""
        fragments, self.call = self.call, []
        texts = [fragment.text for fragment in fragments]
        for begin, fragment in enumerate(fragments):
            call = read_call("".join(texts[begin + 1 : -1])) if fragment == CALL else None
            if call is not None:
                events = self._say("".join(texts[:begin])) + self._show(self.content.flush())
                self.newlines = ""
                return events if self.content.stopped else [*events, ToolCall(call["name"], call["arguments"])]
        return self._say("".join(texts))

    def _say(self, text: str) -> list[ModelEvent]:
        text = text.lstrip("\n") if self.blank else text
        self.blank = self.blank and not text
        return self._show(text if self.thinking else self.content.push(text))

    def _show(self, text: str, last: bool = False) -> list[ModelEvent]:
        text = self.newlines + text
        kept = 0
        if not last and (self.thinking or self.calls):
            kept = len(text) - len(text.rstrip("\n"))
            kept = kept if self.thinking else min(kept, 1)
        self.newlines = text[len(text) - kept :]
        text = text[: len(text) - kept]
        kind = Thinking if self.thinking else Text
        return [kind(text)] if text else []


class FragmentStream:
    """Ids to text, one at a time, cut at the markers of thinking and tool calls."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.decoder = StreamDecoder(tokenizer)
        self.markers = marker_ids(tokenizer)
        self.held = ""  # where markers are spelled out: the end of the text, if one may begin there

    def push(self, token: int) -> list[Fragment]:
        """The fragments that are certain after one more token."""
        if token in self.markers:
            return [*self.flush(), self.markers[token]]
        text = self.decoder.push(token)
        if self.markers:
            return [Fragment(text, False)] if text else []
        text = self.held + text
        kept = max(_overlap(text, marker) for marker in MARKERS)
        self.held = text[len(text) - kept :]
        return split_markers(text[: len(text) - kept])

    def flush(self) -> list[Fragment]:
        """What was held back, when no more tokens come."""
        text = self.held + self.decoder.flush()
        self.held = ""
        return [Fragment(text, False)] if text else []
