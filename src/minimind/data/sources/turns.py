"""The turns of a conversation as people write them, turned into messages of MiniMind's published schema."""

from __future__ import annotations

import json
from typing import Any

from minimind.tokenizer.messages import Message
from minimind.util.json_files import loads


class SchemaError(ValueError):
    """Why a record is not usable; what is particular to this one stands after a colon."""


def messages_of(turns: Any, unread: list[str]) -> list[Message]:
    """The messages of a record; the keys of them that are not read are added to `unread`."""
    if not isinstance(turns, list):
        raise SchemaError(f"not a list of messages: {type_name(turns)}")
    if not turns:
        raise SchemaError("empty conversation")
    return [_message(turn, unread) for turn in turns]


# OpenAI's names for roles that the published schema has under another name.
ROLES = {"developer": "system", "function": "tool"}
KEYS = {"assistant": ("reasoning_content", "tool_calls", "function_call"), "system": ("tools",)}

# MiniMind's data of early 2025 (r1_mix_1024), and others after DeepSeek-R1, put the answer in tags, too; after the
# end of the thinking they say nothing new.
ANSWER = ("<answer>", "</answer>")

# How others say whether an answer is trained on (0, 1, false or true): OpenAI and Mistral by weight, axolotl by
# train or training, ms-swift and XTuner by loss; torchtune by masked, which says the opposite.
TRAINED = ("weight", "train", "training", "trainable", "loss")
NOT_TRAINED = ("masked", "mask")


def _message(turn: Any, unread: list[str]) -> Message:
    if not isinstance(turn, dict):
        raise SchemaError(f"a message is not a JSON object: {type_name(turn)}")
    role = text_of(turn, "role")
    role = ROLES.get(role, role)
    message: Message = {"role": role, "content": _content(turn)}
    unread += unread_keys(turn, ("role", "content", *KEYS.get(role, ()), *TRAINED, *NOT_TRAINED), "message.")
    trained = _is_trained(turn)
    if role == "assistant":
        thinking, closed, answer = message["content"].partition("</think>")
        answer = answer.strip()
        if thinking.lstrip().startswith("<think>") and answer.startswith(ANSWER[0]) and answer.endswith(ANSWER[1]):
            answer = answer.removeprefix(ANSWER[0]).removesuffix(ANSWER[1]).strip("\n")
            message["content"] = f"{thinking}{closed}\n{answer}"
            unread.append("message.<answer>")
        if turn.get("reasoning_content") is not None:
            message["reasoning_content"] = text_of(turn, "reasoning_content")
        if calls := turn.get("tool_calls") or turn.get("function_call"):
            calls = [calls] if isinstance(calls, dict) else calls
            message["tool_calls"] = calls if isinstance(calls, str) else json_text(_calls(calls))
        if trained is False:
            message["train"] = False
    elif trained:
        unread.append(f"message.{next(key for key in (*TRAINED, *NOT_TRAINED) if turn.get(key) is not None)}")
    if role == "system" and turn.get("tools"):
        message["tools"] = json_text(turn["tools"])
    return message


def _is_trained(turn: dict) -> bool | None:
    """What a message says about it; None for nothing."""
    given = {key: turn[key] for key in (*TRAINED, *NOT_TRAINED) if turn.get(key) is not None}
    for key, value in given.items():
        if value not in (0, 1):
            raise SchemaError(f"{key} of a message is neither 0 or false nor 1 or true: {json_text(value)}")
    return all(bool(value) == (key in TRAINED) for key, value in given.items()) if given else None


def _content(turn: dict) -> str:
    """The text of a message; OpenAI's may be null (beside tool calls) or a list of parts."""
    content = turn.get("content")
    if isinstance(content, list):
        texts = [part.get("text") if isinstance(part, dict) else part for part in content]
        if not all(isinstance(text, str) for text in texts):
            raise SchemaError("content with parts that are not text")
        return "".join(map(str, texts))
    if content is None and any(turn.get(key) for key in KEYS["assistant"]):
        return ""
    return text_of(turn, "content")


def _calls(calls: Any) -> list[dict]:
    """OpenAI's {"id", "type", "function": {"name", "arguments": JSON text}} as {"name", "arguments": {…}}."""
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise SchemaError(f"tool_calls is not a list of objects: {type_name(calls)}")
    plain = []
    for call in calls:
        function = call.get("function", call)
        if not isinstance(function, dict):
            raise SchemaError("a tool call has no function")
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            try:
                arguments = loads(arguments.strip() or "{}")
            except ValueError as error:
                raise SchemaError(f"the arguments of a tool call are not JSON: {error}") from None
        plain.append({"name": function.get("name"), "arguments": arguments})
    return plain


SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
}


def sharegpt_turn(turn: Any) -> Message:
    """A turn of ShareGPT's as the published schema has it, but for what it holds besides."""
    if not isinstance(turn, dict):
        raise SchemaError(f"a message is not a JSON object: {type_name(turn)}")
    speaker, value = text_of(turn, "from"), text_of(turn, "value")
    more = {key: inner for key, inner in turn.items() if key not in ("from", "value", "role", "content")}
    if speaker == "function_call":
        try:
            call = loads(value)
        except ValueError:
            raise SchemaError("the function_call is not JSON") from None
        calls = _calls(call if isinstance(call, list) else [call])
        return {**more, "role": "assistant", "content": "", "tool_calls": json_text(calls)}
    if speaker not in SHAREGPT_ROLES:
        raise SchemaError(f"unknown speaker: from is {speaker!r}; expected {', '.join(SHAREGPT_ROLES)}")
    return {**more, "role": SHAREGPT_ROLES[speaker], "content": value}


def is_empty_answer(message: Message) -> bool:
    """An assistant turn that says, thinks and calls nothing."""
    said = (message.get(key) for key in ("content", "reasoning_content", "tool_calls"))
    return message["role"] == "assistant" and not any(text and text.strip() for text in said)


def unread_keys(record: dict, keys: tuple[str, ...], prefix: str = "") -> list[str]:
    """Which of a record's keys are not among `keys` and say something."""
    return [
        f"{prefix}{key}" for key, value in record.items() if key not in keys and value not in (None, "", [], {})
    ]


def text_of(record: dict, key: str) -> str:
    """The text under a key; SchemaError for anything else."""
    value = record.get(key)
    if not isinstance(value, str):
        raise SchemaError(f"wrong type: {key} is {type_name(value)}, expected text")
    return value


def json_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def type_name(value: Any) -> str:
    """What a value is, for people."""
    names = {type(None): "missing", bool: "true or false", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), "a number")
