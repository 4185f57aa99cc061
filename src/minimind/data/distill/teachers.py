"""Who answers: a model behind a server, asked again where that may help, or one in this process."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import Protocol

from minimind.api import Model
from minimind.errors import UserError
from minimind.infer.conversation import TooLong, assistant_message, chat_prompt, extend
from minimind.infer.events import End, Token
from minimind.infer.remote import Server, ServerError, request_body
from minimind.infer.sampler import SamplingParams
from minimind.tokenizer.messages import Message, split_reasoning

UNFIT = (400, 413, 422)
"""statuses of a request that this server never answers: too long, or not allowed"""


class NotAsked(UserError):
    """This one prompt cannot be answered by this teacher; others can."""


@dataclass
class Usage:
    """What answers cost."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add(self, other: Usage) -> None:
        self.requests += other.requests
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass
class Answer:
    """One answer, and all that getting it cost."""

    message: Message
    stop_reason: str
    usage: Usage


class Teacher(Protocol):
    """Somebody who can be asked, by several threads at once."""

    name: str

    def ask(self, messages: list[Message], params: SamplingParams, think: bool) -> Answer:
        """NotAsked where this prompt gets no answer, UserError where none does."""


@dataclass
class RemoteTeacher:
    """A model behind an OpenAI-compatible server.

    retries  how often a request is sent again that failed for a moment
    stop     set when nobody waits for the answer any more
    """

    server: Server
    name: str
    retries: int = 5
    stop: threading.Event = field(default_factory=threading.Event)

    def ask(self, messages: list[Message], params: SamplingParams, think: bool) -> Answer:
        usage = Usage()
        while True:
            usage.requests += 1
            try:
                answer = self._ask(messages, params, think)
            except ServerError as error:
                if error.status in UNFIT:
                    raise NotAsked(str(error)) from None
                again = error.passes and usage.requests <= self.retries
                if not again or self.stop.wait(error.wait(usage.requests)):
                    raise
            else:
                answer.usage.add(usage)
                return answer

    def _ask(self, messages: list[Message], params: SamplingParams, think: bool) -> Answer:
        body = request_body(self.name, messages, [], params, think)
        message: Message = {"role": "assistant", "content": ""}
        count = 0  # of tokens, or where the server does not tell of parts
        for event in self.server.stream({**body, "stream_options": {"include_usage": True}}):
            extend(message, event)
            count += len(event.tokens)
            if isinstance(event, End):
                usage = Usage(0, *(event.usage or (0, count)))
                return Answer(split_reasoning(message), event.stop_reason, usage)
        raise AssertionError("a stream ends with its End")


@dataclass
class LocalTeacher:
    """A model in this process. Threads that ask at once share every step of its engine."""

    model: Model
    name: str

    def ask(self, messages: list[Message], params: SamplingParams, think: bool) -> Answer:
        tokenizer, engine = self.model.tokenizer, self.model.engine
        params = replace(params, stop_ids=tokenizer.stop_ids)
        try:
            prompt = chat_prompt(
                tokenizer, messages, engine.context, params.max_tokens, open_thinking=think, trim=False
            )
        except TooLong as error:
            raise NotAsked(str(error)) from None
        *tokens, end = engine.stream(prompt, params)
        assert isinstance(end, End)
        ids = [token.id for token in tokens if isinstance(token, Token)]
        usage = Usage(1, len(prompt), len(ids))
        return Answer(assistant_message(ids, tokenizer, think), end.stop_reason, usage)
