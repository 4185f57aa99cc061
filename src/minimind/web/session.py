"""An answer while it is being written, tool calls included: a conversation that goes on event by event."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from minimind.errors import UserError
from minimind.infer.conversation import Conversation, LocalBackend
from minimind.infer.events import End, Event, Token
from minimind.infer.remote import RemoteBackend, Server
from minimind.infer.sampler import SamplingParams
from minimind.infer.text import REPLACEMENT
from minimind.tokenizer import ChatError
from minimind.tokenizer.messages import Message
from minimind.tools import ToolResult
from minimind.web.library import load

ALTERNATIVES = 5  # likeliest tokens that are kept beside each token of an answer

STOPPED = "stopped"

# why an answer ended that had not ended by itself
REASONS = {
    "length": "cut off: it reached its longest length",
    "loop": "cut off: it repeated itself",
    STOPPED: "stopped",
}

Speaker = Callable[[dict[str, Any]], Conversation]
"""begins a conversation with one model, given the fields of SamplingParams that a person sets"""


def local(path: Path, sampling: dict[str, Any]) -> Conversation:
    """With the model in a directory. UserError where there is none."""
    model = load(path)
    params = model.sampling_params(**sampling, top_logprobs=ALTERNATIVES)
    return Conversation(LocalBackend(model.engine, model.tokenizer), params)


def remote(server: Server, model: str, sampling: dict[str, Any]) -> Conversation:
    """With a model of a server."""
    return Conversation(RemoteBackend(server, model), SamplingParams(**sampling, top_logprobs=ALTERNATIVES))


@dataclass
class Answer:
    """What one model says to one turn of the user."""

    messages: list[Message] = field(default_factory=list)
    """assistant and tool messages; the last one may still be growing"""
    shown: list[Token] = field(default_factory=list)
    """its tokens with their texts; those that only together are a whole character as one"""
    tokens: int = 0
    seconds: float = 0.0
    note: str = ""
    """why it did not end by itself: one of REASONS, or a sentence about what went wrong"""
    steps: Generator[None] | None = None
    """every `next` makes the answer a little longer; None: it is finished"""

    lock: threading.Lock = field(default_factory=threading.Lock)
    """held during a step: after a click Streamlit runs the page anew before its last run has quite ended"""
    waiting: list[Token] = field(default_factory=list)
    """tokens of a character that is not whole yet"""

    def begin(
        self, speaker: Speaker, sampling: dict[str, Any], before: Sequence[Message], text: str, **settings: Any
    ) -> None:
        """Make the steps of an answer to a text after the messages `before`. `settings` are Conversation's."""

        def steps() -> Generator[None]:
            conversation = speaker(sampling)
            conversation.messages = list(before)
            vars(conversation).update(settings)
            for event in conversation.say(text):
                self.receive(event)
                self.messages = conversation.messages[len(before) + 1 :]
                yield

        self.steps = steps()

    def receive(self, event: Event) -> None:
        if isinstance(event, ToolResult):
            return
        if isinstance(event, End):
            self.note = event.stop_reason if event.stop_reason in REASONS else ""
        self.tokens += len(event.tokens)
        for token in event.tokens:
            self.waiting += [] if math.isnan(token.logprob) else [token]
            if token.text and self.waiting:
                total = sum(one.logprob for one in self.waiting)
                alternatives = token.top_logprobs if len(self.waiting) == 1 else ()
                self.shown.append(replace(token, logprob=total, top_logprobs=alternatives))
                self.waiting = []

    def advance(self) -> None:
        """Go on by one step. A mistake ends the answer and is kept as its note."""
        with self.lock:
            steps, start = self.steps, time.perf_counter()
            if steps is None:
                return
            try:
                next(steps)
            except StopIteration:
                self.steps = None
            except (UserError, ChatError) as error:
                self.steps, self.note = None, str(error)
            self.seconds += time.perf_counter() - start
            if self.steps is None:  # perhaps stopped meanwhile
                steps.close()

    def stop(self) -> None:
        """End it as far as it came, without waiting for a step under way, which will be the last."""
        steps, self.steps = self.steps, None
        if steps is None:
            return
        self.note = STOPPED
        if self.lock.acquire(blocking=False):
            steps.close()
            self.lock.release()

    @property
    def text(self) -> str:
        """What it says to the user, without thinking and tools."""
        said = (message["content"] for message in self.messages if message["role"] == "assistant")
        return "\n\n".join(filter(None, said)).rstrip(REPLACEMENT)

    @property
    def says_something(self) -> bool:
        return any(
            message.get(part)
            for message in self.messages
            for part in ("content", "reasoning_content", "tool_calls")
        )
