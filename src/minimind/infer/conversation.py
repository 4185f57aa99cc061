"""Conversations: messages in, events out, whatever backend speaks; and the backend for a model in this process."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from minimind.errors import UserError
from minimind.infer.engine import Engine
from minimind.infer.events import End, Event, ModelEvent, Text, Thinking, Token, ToolCall
from minimind.infer.sampler import SamplingParams
from minimind.infer.text import AnswerStream, StreamDecoder
from minimind.tokenizer import Tokenizer, parse_assistant
from minimind.tokenizer.messages import Message
from minimind.tools import Toolbox, run_turn


class Backend(Protocol):
    """A model that can be asked for the assistant's next message."""

    def speak(
        self, messages: list[Message], schemas: list[dict[str, Any]], params: SamplingParams, think: bool
    ) -> Generator[ModelEvent, None, None]:
        """The message as it comes, an End last; closing the generator ends it. UserError where none comes.

        schemas  of the tools that the model may call
        think    whether it thinks before it answers
        """


@dataclass
class Conversation:
    """Turns of one user with one model, which may call tools."""

    backend: Backend
    params: SamplingParams = field(default_factory=SamplingParams)
    system: str = ""
    """the system message; "" for none"""
    think: bool = False
    """whether the model thinks before it answers"""
    tools: Toolbox = field(default_factory=Toolbox)
    messages: list[Message] = field(default_factory=list)
    """user, assistant and tool messages so far; the last one may still be growing"""
    answer_tokens: int = field(default=0, init=False)
    """tokens of the last answer, its tool calls included"""

    def say(self, text: str) -> Generator[Event, None, None]:
        """Answer one user turn, event by event. An answer that is broken off is kept as far as it came; a turn that
        ends in a UserError is taken back."""
        before = list(self.messages)
        self.messages.append({"role": "user", "content": text})
        self.answer_tokens = 0
        try:
            yield from run_turn(self._ask, self.messages, self.tools)
        except UserError:
            self.messages = before
            raise

    def _ask(self, messages: list[Message], schemas: list[dict[str, Any]]) -> Generator[ModelEvent, None, Message]:
        system = [{"role": "system", "content": self.system}] if self.system else []
        prompt = [*system, *messages]
        message: Message = {"role": "assistant", "content": ""}
        messages.append(message)
        with closing(self.backend.speak(prompt, schemas, self.params, self.think)) as events:
            for event in events:
                extend(message, event)
                self.answer_tokens += len(event.tokens)
                yield event
        return message


def extend(message: Message, event: ModelEvent) -> None:
    """Add to the assistant's message what an event brought."""
    match event:
        case Thinking(text) if text:
            message["reasoning_content"] = message.get("reasoning_content", "") + text
        case Text(text):
            message["content"] += text
        case ToolCall(name, arguments, id):
            call = {"id": id, "name": name, "arguments": arguments}
            message.setdefault("tool_calls", []).append(call if id else {"name": name, "arguments": arguments})


def message_of(ids: Sequence[int], tokenizer: Tokenizer, open_thinking: bool = False) -> Message:
    """The message that an answer's ids spell, through the events in which it would have come."""
    answer = AnswerStream(tokenizer, open_thinking, calls=True)
    tokens: list[Token | End] = [*map(Token, ids), End("stop")]
    message: Message = {"role": "assistant", "content": ""}
    for event in (event for token in tokens for event in answer.push(token)):
        extend(message, event)
    return message


@dataclass
class Transcript:
    """A conversation token by token, as the model saw and wrote it: what reinforcement learning trains on.

    Sampled ids are never rendered anew: a prompt is all ids so far and the rendering of what is new.

    mask      1 where the model sampled the token, 0 in prompts and results of tools
    logprobs  of the sampled tokens, in nats, at the temperature of sampling; elsewhere 0
    """

    ids: list[int] = field(default_factory=list)
    mask: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    def prompt(self, tokenizer: Tokenizer, messages: Sequence[Message], tools: Any, think: bool) -> list[int]:
        """All ids up to where the assistant speaks next. Only messages after its last turn are rendered."""
        rendered, turns = tokenizer.encode_chat(messages, tools, add_generation_prompt=True, open_thinking=think)
        if not self.ids:
            return rendered
        end = len(turns) - turns[::-1].index(1)  # after the token that closes the assistant's last turn
        closed = self.ids[-1] == rendered[end - 1]  # a turn that was cut off is closed here
        return self.ids + rendered[end if closed else end - 1 :]

    def record(self, prompt: list[int], news: Token | End) -> None:
        """Grow to the prompt, where it is new, and by what the model sampled after it."""
        token = news if isinstance(news, Token) else news.token
        self.extend(prompt, [] if token is None else [token.id], [] if token is None else [token.logprob])

    def extend(self, prompt: list[int], sampled: Sequence[int], logprobs: Sequence[float]) -> None:
        """Grow to the prompt, where it is new, and by tokens that the model sampled after it."""
        new = prompt[len(self.ids) :]
        self.ids += [*new, *sampled]
        self.mask += [0] * len(new) + [1] * len(sampled)
        self.logprobs += [0.0] * len(new) + list(logprobs)


@dataclass
class LocalBackend:
    """A model in this process.

    transcript  records the one conversation that the backend then serves. No old turns are left out, so where it
                outgrows the context it ends in a UserError, and the transcript stays as far as it came.
    adapter     the engine's adapter that answers; None: the base alone
    """

    engine: Engine
    tokenizer: Tokenizer
    transcript: Transcript | None = None
    adapter: str | None = None

    def speak(
        self, messages: list[Message], schemas: list[dict[str, Any]], params: SamplingParams, think: bool
    ) -> Generator[ModelEvent, None, None]:
        transcript = self.transcript
        if transcript is None:
            prompt = chat_prompt(self.tokenizer, messages, self.engine.context, params.max_tokens, schemas, think)
        else:
            prompt = transcript.prompt(self.tokenizer, messages, schemas, think)
        answer = AnswerStream(self.tokenizer, think, calls=bool(schemas))
        decoder = StreamDecoder(self.tokenizer, skip_special=False)
        with closing(self.engine.stream(prompt, params, self.adapter)) as stream:
            for news in stream:
                if transcript is not None:
                    transcript.record(prompt, news)
                if params.top_logprobs and isinstance(news, Token):
                    news = self._spell(news, decoder)
                yield from answer.push(news)

    def _spell(self, token: Token, decoder: StreamDecoder) -> Token:
        top = [replace(one, text=self.tokenizer.decode([one.id], skip_special=False)) for one in token.top_logprobs]
        return replace(token, text=decoder.push(token.id), top_logprobs=tuple(top))


class TooLong(UserError):
    """The messages alone fill the model's context."""


def chat_prompt(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    context: int,
    max_tokens: int,
    tools: Any = None,
    open_thinking: bool = False,
    trim: bool = True,
) -> list[int]:
    """Ids of the conversation, up to where the assistant speaks.

    Where it leaves less room than the answer may need (at most half of the context is kept free), as few of the
    oldest turns as possible are left out, unless `trim` is False; the system message and the last turn always stay.
    TooLong where those have no room.
    """
    limit = context - min(max_tokens, context // 2)
    starts = [index for index, message in enumerate(messages) if message["role"] == "user"][: None if trim else 1]

    def encode(left_out: int) -> list[int]:
        turns = [*messages[: starts[0]], *messages[starts[left_out] :]] if left_out else list(messages)
        return tokenizer.encode_chat(turns, tools, add_generation_prompt=True, open_thinking=open_thinking)[0]

    ids = encode(0)
    if len(ids) > limit and len(starts) > 1:
        ids = encode(bisect_left(range(1, len(starts) - 1), True, key=lambda n: len(encode(n)) <= limit) + 1)
    if len(ids) >= context:
        rest = ("system message" if trim else "conversation before it") + (" and the tools" if tools else "")
        raise TooLong(
            f"the message is too long: with the {rest} it takes {len(ids)} tokens, and the model's context is "
            f"{context}; shorten it"
        )
    return ids


def assistant_message(ids: Sequence[int], tokenizer: Tokenizer, open_thinking: bool) -> Message:
    """The message that generated ids spell; reasoning_content and tool_calls only where it has some."""
    parsed = parse_assistant(ids, tokenizer, open_thinking)
    extras = {key: parsed[key] for key in ("reasoning_content", "tool_calls") if parsed[key]}
    return {"role": "assistant", "content": parsed["content"], **extras}
