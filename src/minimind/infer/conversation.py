"""A conversation with a model: messages in, streamed answers out, the oldest turns forgotten when it gets long."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from minimind.errors import UserError
from minimind.infer.engine import Engine
from minimind.infer.sampler import SamplingParams
from minimind.infer.text import AnswerStream, Part
from minimind.tokenizer import Tokenizer, parse_assistant
from minimind.tools import Toolbox, ToolResult, run_turn
from minimind.tools.loop import Message


class TooLong(UserError):
    """The messages alone fill the model's context."""


def chat_prompt(
    tokenizer: Tokenizer,
    messages: Sequence[dict[str, Any]],
    context: int,
    max_tokens: int,
    tools: Any = None,
    open_thinking: bool = False,
    forget: bool = True,
) -> list[int]:
    """Ids of the conversation, up to where the assistant speaks.

    Where it leaves less room than the answer may need (at most half of the context is kept free), as few of the
    oldest turns as possible are left out, unless `forget` is False; the system message and the last turn always
    stay. TooLong where those have no room.
    """
    limit = context - min(max_tokens, context // 2)
    starts = [index for index, message in enumerate(messages) if message["role"] == "user"][: None if forget else 1]

    def encode(left_out: int) -> list[int]:
        turns = [*messages[: starts[0]], *messages[starts[left_out] :]] if left_out else list(messages)
        return tokenizer.encode_chat(turns, tools, add_generation_prompt=True, open_thinking=open_thinking)[0]

    ids = encode(0)
    if len(ids) > limit and len(starts) > 1:
        ids = encode(bisect_left(range(1, len(starts) - 1), True, key=lambda n: len(encode(n)) <= limit) + 1)
    if len(ids) >= context:
        rest = ("system message" if forget else "conversation before it") + (" and the tools" if tools else "")
        raise TooLong(
            f"the message is too long: with the {rest} it takes {len(ids)} tokens, and the model's context is "
            f"{context}; shorten it"
        )
    return ids


def assistant_message(ids: Sequence[int], tokenizer: Tokenizer, open_thinking: bool) -> dict[str, Any]:
    """The message that generated ids spell; reasoning_content and tool_calls only where it has some."""
    parsed = parse_assistant(ids, tokenizer, open_thinking)
    extras = {key: parsed[key] for key in ("reasoning_content", "tool_calls") if parsed[key]}
    return {"role": "assistant", "content": parsed["content"], **extras}


@dataclass(kw_only=True)
class Conversation(ABC):
    """Turns of one user with one model, which may call tools. Subclasses say which model."""

    params: SamplingParams
    system: str = ""
    """the system message; "" for none"""
    think: bool = False
    """whether the model thinks before it answers"""
    tools: Toolbox = field(default_factory=Toolbox)
    messages: list[Message] = field(default_factory=list)
    """user, assistant and tool messages so far"""
    answer_tokens: int = field(default=0, init=False)
    """tokens of the last answer, its tool calls included"""

    def say(self, text: str) -> Generator[Part | ToolResult, None, None]:
        """Answer one user turn piece by piece; an answer that is broken off is kept as far as it came."""
        before = list(self.messages)
        self.messages.append({"role": "user", "content": text})
        self.answer_tokens = 0
        try:
            yield from run_turn(self._ask, self.messages, self.tools)
        except UserError:
            self.messages = before
            raise

    def _ask(self, messages: list[Message], schemas: list[dict[str, Any]]) -> Generator[Part, None, Message]:
        """The assistant's next message, in pieces."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        message: Message = {"role": "assistant", "content": ""}
        try:
            yield from self._speak(message, [*system, *messages], schemas)
        except BaseException:  # broken off by the user or by an error, which `say` takes back
            messages.append(message)
            raise
        return message

    @abstractmethod
    def _speak(
        self, message: Message, messages: list[Message], schemas: list[dict[str, Any]]
    ) -> Generator[Part, None, None]:
        """Fill the assistant's next message, also when the generator is closed early; count `answer_tokens`."""


@dataclass
class LocalConversation(Conversation):
    """Turns of one user with a model in this process."""

    engine: Engine
    tokenizer: Tokenizer

    def _speak(
        self, message: Message, messages: list[Message], schemas: list[dict[str, Any]]
    ) -> Generator[Part, None, None]:
        limits = (self.engine.context, self.params.max_tokens)
        think, ids = self.think, []
        prompt = chat_prompt(self.tokenizer, messages, *limits, schemas, think)
        answer = AnswerStream(self.tokenizer, think, calls=bool(schemas))
        with closing(self.engine.stream(prompt, self.params)) as stream:
            try:
                for token in stream:
                    ids.append(token)
                    self.answer_tokens += 1
                    yield from answer.push(token)
                yield from answer.flush()
            finally:
                message.update(assistant_message(ids, self.tokenizer, think))
