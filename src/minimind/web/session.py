"""An answer while it is being written, tool calls included; and the words of a model in this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minimind.errors import UserError
from minimind.infer.conversation import assistant_message, chat_prompt
from minimind.infer.engine import Request
from minimind.infer.sampler import SamplingParams
from minimind.infer.text import StreamDecoder
from minimind.tokenizer import ChatError, Tokenizer
from minimind.tools import Toolbox, ToolResult, run_turn
from minimind.tools.loop import Ask, Message
from minimind.web.library import Loaded, load

LIKELIEST = 5  # tokens that are kept beside each token of an answer


@dataclass(frozen=True)
class ShownToken:
    """One token, or several where only they together are a whole character.

    logprob    of all of them, in nats
    likeliest  (text, logprob) of the tokens that were likeliest there
    """

    text: str
    logprob: float
    likeliest: tuple[tuple[str, float], ...] = ()


@dataclass
class Answer:
    """What one model says to one turn of the user."""

    messages: list[Message] = field(default_factory=list)
    """assistant and tool messages; the last one may still be growing"""
    pieces: list[ShownToken] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0
    note: str = ""
    """why it did not end by itself: the engine's reason, or a sentence about what went wrong"""
    steps: Generator[None] | None = None
    """every `next` makes the answer a little longer; None: it is finished"""

    lock: threading.Lock = field(default_factory=threading.Lock)
    """held during a step: after a click Streamlit runs the page anew before its last run has quite ended"""

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
        if steps is not None and self.lock.acquire(blocking=False):
            steps.close()
            self.lock.release()


def converse(answer: Answer, ask: Ask, before: Sequence[Message], tools: Toolbox) -> Generator[None]:
    """The steps of an answer: the model speaks, the tools it calls run, it sees the results and speaks again.

    before  the conversation up to the user's turn
    """
    conversation = [*before]
    for step in run_turn(ask, conversation, tools):
        growing = [] if isinstance(step, ToolResult) else [step]
        answer.messages = [*conversation[len(before) :], *growing]
        yield


def speak(
    path: Path,
    answer: Answer,
    sampling: dict[str, Any],
    think: bool,
    messages: Sequence[Message],
    tools: list[dict[str, Any]],
) -> Generator[Message, None, Message]:
    """The assistant's next message by the model in a directory, longer by a token at each step."""
    loaded = load(path)
    params = loaded.model.sampling_params(**sampling, top_logprobs=LIKELIEST)
    tokenizer, context = loaded.model.tokenizer, loaded.model.engine.context
    prompt = chat_prompt(tokenizer, messages, context, params.max_tokens, tools or None, open_thinking=think)
    pieces, done = Pieces(tokenizer), 0
    message: Message = {"role": "assistant", "content": ""}
    for request in generate(loaded, prompt, params):
        new = slice(done, len(request.ids))
        for token in zip(request.ids[new], request.logprobs[new], request.top_logprobs[new]):
            answer.pieces += pieces.push(*token)
        answer.tokens, done = answer.tokens + new.stop - new.start, new.stop
        answer.note = request.stop_reason if request.stop_reason not in (None, "stop") else ""
        message = assistant_message(request.ids, tokenizer, think)
        yield message
    return message


def generate(loaded: Loaded, prompt: Sequence[int], params: SamplingParams) -> Generator[Request]:
    """The request after every step; closing the generator ends it. Others may use the same engine meanwhile."""
    engine = loaded.model.engine
    with loaded.lock:
        request = engine.submit(prompt, params)
    try:
        while request.stop_reason is None:
            with loaded.lock:
                if request.stop_reason is None:
                    engine.step()
            yield request
        yield request  # its last tokens may have come by the step of another
    finally:
        with loaded.lock:
            engine.cancel([request])


class Pieces:
    """Tokens as pieces of text; those that are no whole character wait for the next ones."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.decoder = StreamDecoder(tokenizer, skip_special=False)
        self.waiting: list[ShownToken] = []

    def push(self, token: int, logprob: float, likeliest: Sequence[tuple[int, float]]) -> Iterator[ShownToken]:
        texts = ((self.tokenizer.decode([other], skip_special=False), theirs) for other, theirs in likeliest)
        self.waiting.append(ShownToken("", logprob, tuple(texts)))
        if text := self.decoder.push(token):
            total = sum(piece.logprob for piece in self.waiting)
            yield ShownToken(text, total, self.waiting[0].likeliest if len(self.waiting) == 1 else ())
            self.waiting = []
