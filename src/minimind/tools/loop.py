"""One turn of an assistant that has tools: it is asked, its calls are run, it is asked again, until it answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

from minimind.tokenizer.messages import Message
from minimind.tools.toolbox import Toolbox
from minimind.util.json_files import loads

Ask = Callable[[list[Message], list[dict[str, Any]]], Generator[Any, Any, Message] | Message]


@dataclass(frozen=True)
class ToolResult:
    """A call that was answered; name and arguments as the model wrote them."""

    name: str
    arguments: Any
    content: str


@dataclass(frozen=True)
class Call:
    """What a model wrote as a call of a tool."""

    name: str
    arguments: Any
    id: str | None = None
    unreadable: str = ""
    """why it is no proper call"""


def run_turn(ask: Ask, messages: list[Message], tools: Toolbox) -> Generator[Any, Any, None]:
    """Let the assistant speak until it calls no more tools; `messages` grows by all that is said.

    ask   takes the messages and the schemas of the tools, and gives the assistant's next message. It may be a
          generator that returns the message: what it yields is passed on, and what is sent comes back to it. So a
          caller can show an answer as it comes, or drive many turns at once and generate for all in one batch. The
          message may stand in `messages` already, where it grows while it comes.

    After every call a ToolResult is yielded. Calls are run one after the other, in their order; failures and
    unreadable calls are answered with an error that the model reads. After `tools.limits.rounds` rounds of calls
    it is asked once more; if it calls again, these calls are refused and the turn ends there.
    """
    for rounds_left in range(tools.limits.rounds, -1, -1):
        asked = ask(messages, tools.schemas)
        message = (yield from asked) if isinstance(asked, Generator) else asked
        if messages[-1] is not message:
            messages.append(message)
        calls = calls_of(message) if tools.tools else []
        if not calls:
            return
        for call in calls:
            content = answer(call, tools, rounds_left)
            # An id is what servers of OpenAI's API know a call by; local models need none.
            of_call = {} if call.id is None else {"tool_call_id": call.id}
            messages.append({"role": "tool", "content": content, **of_call})
            yield ToolResult(call.name, call.arguments, content)


def answer(call: Call, tools: Toolbox, rounds_left: int) -> str:
    """The result of a call as the model reads it, or {"error": why there is none}; never raises."""
    if not rounds_left:
        return json.dumps({"error": f"not run: {tools.limits.rounds} rounds of calls are the limit of one turn"})
    if call.unreadable:
        return json.dumps({"error": call.unreadable}, ensure_ascii=False)
    return tools.call(call.name, call.arguments)


def calls_of(message: Message) -> list[Call]:
    """All calls in an assistant's message, those that cannot be read last."""
    return [*_calls(message), *_unreadable_calls(message)]


def _calls(message: Message) -> Iterator[Call]:
    """The message's tool calls, ours (`name`, `arguments`) or OpenAI's (`id`, `function`)."""
    for call in message.get("tool_calls") or ():
        function = call.get("function", call)
        yield Call(function.get("name") or "", function.get("arguments", {}), call.get("id"))


def _unreadable_calls(message: Message) -> Iterator[Call]:
    """What stands between the marks of a call in the text: only what was no call is left there."""
    for match in re.finditer(r"<tool_call>(.*?)(?:</tool_call>|$)", message.get("content") or "", re.DOTALL):
        try:
            loads(match[1])
            why = 'it must have "name", a text, and "arguments", an object'
        except ValueError as error:
            why = f"it is not JSON ({error})"
        yield Call("", match[1].strip(), unreadable=f"this tool call cannot be read: {why}")
