"""Chat messages in the published schema: what is allowed, and one shape for all of them."""

from collections.abc import Iterator, Sequence
from typing import Any

from minimind.errors import UserError
from minimind.util.json_files import loads

Message = dict[str, Any]
"""role, content, and by role reasoning_content, tool_calls, tool_call_id, train (False: not to be learned)"""

# Who may speak after whom; None is the beginning.
FOLLOWERS: dict[str | None, tuple[str, ...]] = {
    None: ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("tool", "assistant"),
}
ROLES = ("system", "user", "assistant", "tool")


class ChatError(UserError, ValueError):
    """A conversation that cannot be used; the message is one sentence without the conversation's file and line."""


def validate(messages: Any, prompt: bool = False) -> None:
    """Raise ChatError unless `messages` is a conversation with something to learn from.

    `prompt=True` is for a conversation that the model is to continue: it ends with the user or a tool, and
    nothing is asked of the assistant's turns.
    """
    previous = None
    for number, (message, role) in enumerate(_with_roles(messages), 1):
        if role not in FOLLOWERS[previous]:
            if previous is None:
                raise ChatError(f"the conversation begins with the {role}, not with the system or the user")
            raise ChatError(f"message {number}: {role} cannot follow {previous}")
        if role == "assistant" and not prompt and not _says_something(message):
            raise ChatError(f"message {number}: the assistant says nothing")
        previous = role
    if prompt and previous not in ("user", "tool"):
        raise ChatError(f"a prompt ends with the user or a tool, not with the {previous}")
    if not prompt and all(message["role"] != "assistant" for message in messages):
        raise ChatError("there is nothing from the assistant to learn from")


def validate_prompt(messages: Any) -> None:
    """Raise ChatError unless a model can go on from `messages`, inside the last one where that is the assistant's.

    Clients put their roles in any order; only a tool's result needs a call before it, and a call its results.
    """
    previous = None
    for number, (_, role) in enumerate(_with_roles(messages), 1):
        if role == "tool" and previous not in ("assistant", "tool"):
            raise ChatError(f"message {number}: a tool's result needs a message of the assistant before it")
        previous = role
    if previous == "assistant" and messages[-1].get("tool_calls"):
        raise ChatError(f"message {len(messages)}: the conversation ends with tool calls; add their results")


def normalize(messages: Sequence[dict], tools: Any = None) -> tuple[list[dict], list[dict] | None]:
    """Messages and tools as templates want them: content a string, tool calls and tools lists of objects.

    `tool_calls` and `tools` may be JSON text; tools may stand on the system message. Tool calls come out as
    `{"name", "arguments"}`, from OpenAI's `{"type": "function", "function": {…}}` too. Raises ChatError.
    """
    plain = []
    for number, message in enumerate(messages, 1):
        _check_message(message, number)
        message = dict(message)
        on_message = message.pop("tools", None)
        if message["role"] == "system" and tools is None:
            tools = on_message
        message["content"] = message.get("content") or ""
        if message.get("reasoning_content") is None:
            message.pop("reasoning_content", None)
        calls = _objects(message.pop("tool_calls", None), f"message {number}: tool_calls")
        if calls:
            message["tool_calls"] = [_tool_call(call, number) for call in calls]
        plain.append(message)
    return plain, _objects(tools, "tools") or None


def split_reasoning(message: dict) -> dict:
    """An assistant message whose content begins with its thinking, taken apart as the template does it.

    Only a whole block at the head is thinking: tags elsewhere are what the assistant says.
    """
    head, closed, answer = message["content"].lstrip().partition("</think>")
    if message["role"] != "assistant" or "reasoning_content" in message or not closed:
        return message
    if not head.startswith("<think>"):
        return message
    return {
        **message,
        "reasoning_content": head.removeprefix("<think>").strip("\n"),
        "content": answer.lstrip("\n"),
    }


def _with_roles(messages: Any) -> Iterator[tuple[dict, str]]:
    if not isinstance(messages, list) or not messages:
        raise ChatError("a conversation is a list of messages and cannot be empty")
    for number, message in enumerate(messages, 1):
        yield message, _check_message(message, number)


def _check_message(message: Any, number: int) -> str:
    """The message's role, once its parts have the right types."""
    if not isinstance(message, dict):
        raise ChatError(f"message {number} is not an object with role and content")
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise ChatError(f"message {number}: unknown role {role!r}; a role is one of {', '.join(ROLES)}")
    # OpenAI writes null where an assistant only calls tools.
    if not isinstance(content, str) and not (role == "assistant" and content is None):
        raise ChatError(f"message {number}: content is not a string")
    reasoning = message.get("reasoning_content")
    if reasoning is not None and not isinstance(reasoning, str):
        raise ChatError(f"message {number}: reasoning_content is not a string")
    return role


def _says_something(message: dict) -> bool:
    return any(message.get(part) for part in ("content", "reasoning_content")) or message.get("tool_calls") not in (
        None,
        "",
        "[]",
        [],
    )


def _objects(value: Any, name: str) -> list[dict]:
    """A list of objects from JSON text, a list or a single object; empty for nothing."""
    if isinstance(value, str) and value.strip():
        try:
            value = loads(value)
        except ValueError as error:
            raise ChatError(f"{name} is not valid JSON ({error})") from error
    if not value:
        return []
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ChatError(f"{name} is not a list of objects")
    return value


def _tool_call(call: dict, number: int) -> dict:
    function = call.get("function", call)
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ChatError(f"message {number}: a tool call has no name")
    return {"name": function["name"], "arguments": _arguments(function.get("arguments"), number)}


def _arguments(arguments: Any, number: int) -> dict | str:
    """An object, or its JSON text as it stands; nothing, which clients write for no arguments, is `{}`."""
    if arguments is None or (isinstance(arguments, str) and not arguments.strip()):
        return {}
    try:
        value = loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError as error:
        raise ChatError(f"message {number}: the arguments of a tool call are not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ChatError(f"message {number}: the arguments of a tool call are no JSON object")
    return arguments
