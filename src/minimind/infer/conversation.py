"""A conversation with a model: messages in, streamed answers out, the oldest turns forgotten when it gets long."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any

from minimind.errors import UserError
from minimind.infer.engine import Engine
from minimind.infer.sampler import SamplingParams
from minimind.infer.text import Part, stream_parts
from minimind.tokenizer import Tokenizer, parse_assistant


def chat_prompt(
    tokenizer: Tokenizer,
    messages: Sequence[dict[str, Any]],
    context: int,
    max_tokens: int,
    tools: Any = None,
    open_thinking: bool = False,
) -> list[int]:
    """Ids of the conversation, up to where the assistant speaks.

    Where it leaves less room than the answer may need (at most half of the context is kept free), the oldest
    turns are left out; the system message and the last turn always stay. UserError where those are too long.
    """
    limit = context - min(max_tokens, context // 2)
    turns = list(messages)
    while True:
        ids, _ = tokenizer.encode_chat(turns, tools, add_generation_prompt=True, open_thinking=open_thinking)
        starts = [index for index, message in enumerate(turns) if message["role"] == "user"]
        if len(ids) <= limit or len(starts) < 2:
            break
        del turns[starts[0] : starts[1]]
    if len(ids) >= context:
        raise UserError(
            f"the message is too long: with the system message it takes {len(ids)} tokens, and the model's context "
            f"is {context}; shorten it"
        )
    return ids


def assistant_message(ids: Sequence[int], tokenizer: Tokenizer, open_thinking: bool) -> dict[str, Any]:
    """The message that generated ids spell; reasoning_content and tool_calls only where it has some."""
    parsed = parse_assistant(ids, tokenizer, open_thinking)
    extras = {key: parsed[key] for key in ("reasoning_content", "tool_calls") if parsed[key]}
    return {"role": "assistant", "content": parsed["content"], **extras}


class Conversation:
    """Turns of one user with one model."""

    def __init__(
        self, engine: Engine, tokenizer: Tokenizer, params: SamplingParams, system: str = "", think: bool = False
    ) -> None:
        self.engine = engine
        self.tokenizer = tokenizer
        self.params = params
        self.system = system
        self.think = think
        """whether the model thinks before it answers"""
        self.messages: list[dict[str, Any]] = []
        """user and assistant turns so far"""
        self.answer_ids: list[int] = []
        """ids of the last answer"""

    def say(self, text: str) -> Generator[Part, None, None]:
        """Answer one user turn piece by piece; an answer that is broken off is kept as far as it came."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        turns = [*self.messages, {"role": "user", "content": text}]
        limits = (self.engine.context, self.params.max_tokens)
        prompt = chat_prompt(self.tokenizer, [*system, *turns], *limits, open_thinking=self.think)
        self.answer_ids = []
        think = self.think
        stream = self.engine.stream(prompt, self.params)
        try:
            yield from stream_parts(self._remember(stream), self.tokenizer, think)
        finally:
            stream.close()
            self.messages = [*turns, assistant_message(self.answer_ids, self.tokenizer, think)]

    def _remember(self, ids: Iterator[int]) -> Iterator[int]:
        for token in ids:
            self.answer_ids.append(token)
            yield token
