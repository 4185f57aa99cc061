"""What comes of a model while it speaks: one protocol for a model in this process and one behind a server.

A message of the assistant is a stream of Thinking, Text and ToolCall, closed by an End. In a conversation the
results of the tools stand between one message and the next. Chat, server, web pages and evaluation read these
events and differ only in how they show them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from minimind.tools.loop import ToolResult

StopReason = Literal["stop", "length", "loop", "error"]
"""it ended by itself; max_tokens or the context was full; it repeated itself (see Engine's max_repeats); an error
ended it (see Request)"""


@dataclass(frozen=True)
class Token:
    """One token of an answer, as far as the backend tells.

    id            −1 of a server, which names tokens by their text
    text          "" where nobody asked for it; a character spread over several tokens comes with the last of them
    logprob       in nats, temperature-scaled and untruncated; nan where a server gives none
    top_logprobs  the likeliest tokens in its place, as many as asked for
    """

    id: int = -1
    text: str = ""
    logprob: float = math.nan
    top_logprobs: tuple[Token, ...] = ()


@dataclass(frozen=True)
class ModelEvent:
    """`tokens`: what the model sampled since the event before; their text may be certain only in a later event."""

    tokens: tuple[Token, ...] = field(default=(), kw_only=True, compare=False)


@dataclass(frozen=True)
class Thinking(ModelEvent):
    """Some of what the model thinks before it answers."""

    text: str


@dataclass(frozen=True)
class Text(ModelEvent):
    """Some of the answer."""

    text: str


@dataclass(frozen=True)
class ToolCall(ModelEvent):
    """A whole call; `arguments` is an object, or of a server text that is none."""

    name: str
    arguments: Any
    id: str | None = None


@dataclass(frozen=True)
class End(ModelEvent):
    """The message is whole. `stop_reason`: a StopReason, or what else a server says.

    token  the one that ended the answer: sampled, but no part of the text
    usage  tokens of the prompt and of the answer, where a server was asked for them and tells
    """

    stop_reason: str
    token: Token | None = None
    usage: tuple[int, int] | None = field(default=None, compare=False)


Event = ModelEvent | ToolResult
