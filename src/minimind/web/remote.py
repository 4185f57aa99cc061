"""The words of a model behind a server, `minimind serve` or another that speaks OpenAI's chat API."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any

from minimind.infer.remote import Server
from minimind.infer.sampler import SamplingParams
from minimind.tools.loop import Message
from minimind.web.session import LIKELIEST, Answer, ShownToken


def speak(
    server: Server,
    model: str,
    answer: Answer,
    sampling: dict[str, Any],
    think: bool,
    messages: Sequence[Message],
    tools: list[dict[str, Any]],
) -> Generator[Message, None, Message]:
    """The assistant's next message by a model of a server, longer at each step. UserError where none comes."""
    params = SamplingParams(**sampling, top_logprobs=LIKELIEST)
    message: Message = {}
    with closing(server.answer(model, messages, tools, params, think)) as replies:
        for reply in replies:
            answer.pieces += [ShownToken(*one) for one in reply.logprobs]
            answer.tokens += reply.tokens
            answer.note = "length" if reply.finish_reason == "length" else ""
            message = dict(reply.message)
            yield message
    return message
