"""The record schemas people have, turned into MiniMind's published one.

text        {"text": "…"}
chat        {"conversations": [{"role", "content", "reasoning_content"?, "tools"?, "tool_calls"?}, …]}
preference  {"chosen": [messages], "rejected": [messages]}, or with a "prompt" what follows it; each may be text
unpaired    {"prompt", "completion", "label": true|false}, or a chat with "label"
rl          a chat with "gt" (what a verifier checks), or whose last assistant turn is empty
prompt      {"prompt": "…"}, {"prompt": [messages]} or {"question": "…"} alone: nobody has answered it
openai      {"messages": [{"role", "content", "tool_calls"?, "weight"?}, …], "tools"?}
sharegpt    {"conversations": [{"from": "human|gpt|system|function_call|observation", "value"}, …]}
alpaca      {"instruction", "input"?, "output", "system"?, "history"?: [[question, answer], …]}
qa          {"question", "answer", "system"?}, also as prompt and response or completion, 问题 and 答案, …

A key that is not read is counted by name, unless it is empty.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from minimind.tokenizer import chat
from minimind.tokenizer.messages import Message
from minimind.util.json_files import loads

# Names of a question and its answer, in any case.
ASKS = ("question", "prompt", "query", "q", "问题", "提问", "问")
ANSWERS = ("answer", "response", "completion", "a", "答案", "回答", "答")


class SchemaError(ValueError):
    """Why a record is not usable; what is particular to this one stands after a colon."""


@dataclass
class Content:
    """What a record says, in the published shape.

    kind      "pretrain", "chat", "preference", "unpaired" or "rl"
    schema    the schema it came in, one of the names above
    text      of a pretrain document
    messages  of a chat, or of an RL prompt without its empty last turn: role, content and, where they
              are, reasoning_content, tools (JSON text, on a system message), tool_calls (JSON text), and
              train: False where an answer is not to be learned
    tools     JSON text of tools that stood beside the messages
    chosen, rejected   the two conversations of a preference
    label     of an unpaired answer: whether it is a good one
    gt        what a verifier checks the answer against
    unread    names of keys of the record and (`message.name`) of its messages that were not read
    """

    kind: str
    schema: str
    text: str = ""
    messages: list[Message] = field(default_factory=list)
    tools: str | None = None
    chosen: list[Message] = field(default_factory=list)
    rejected: list[Message] = field(default_factory=list)
    label: bool | None = None
    gt: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


def normalize(record: Any) -> Content:
    """A decoded JSON record in the published shape; SchemaError or ChatError when it cannot be."""
    if not isinstance(record, dict):
        raise SchemaError(f"not a JSON object: {_kind_of(record)}")
    answer = next((key for key in ("completion", "conversations", "messages") if key in record), None)
    if answer is not None and isinstance(record.get("label"), bool):
        return _unpaired(record, answer)
    if isinstance(record.get("conversations"), list):
        turns = record["conversations"]
        if any(isinstance(turn, dict) and "from" in turn for turn in turns):
            return _chat(record, "sharegpt", [_sharegpt_turn(turn) for turn in turns], ("conversations",))
        return _chat(record, "chat", turns, ("conversations",))
    if isinstance(record.get("messages"), list):
        return _chat(record, "openai", record["messages"], ("messages",))
    if "chosen" in record and "rejected" in record:
        unread = _unread(record, ("prompt", "chosen", "rejected", "tools"))
        chosen, rejected = (_answered(record, side, unread) for side in ("chosen", "rejected"))
        return Content(
            "preference", "preference", chosen=chosen, rejected=rejected, tools=_tools(record), unread=unread
        )
    if "instruction" in record and "output" in record:
        return _chat(record, "alpaca", _alpaca_turns(record), ("instruction", "input", "output", "history"))
    if "text" in record:
        text = _string(record, "text")
        if not text.strip():
            raise SchemaError("empty text")
        return Content("pretrain", "text", text=text, unread=_unread(record, ("text",)))
    names = {str(key).strip().casefold(): key for key in record}
    question, answer = (next((names[one] for one in known if one in names), None) for known in (ASKS, ANSWERS))
    if question is not None and answer is not None:
        turns = _one_turn(_string(record, question), _string(record, answer))
        if not turns[-1]["content"].strip():
            raise SchemaError("a question without an answer")
        return _chat(record, "qa", turns, (question, answer))
    if "prompt" in record or (question is not None and len(record) == 1):
        key = "prompt" if "prompt" in record else question
        turns = [{"role": "user", "content": record[key]}] if isinstance(record[key], str) else record[key]
        if isinstance(turns, list) and turns:
            return _chat(record, "prompt", [*turns, {"role": "assistant", "content": ""}], (str(key),))
    keys = ", ".join(sorted(map(str, record))[:6]) or "none"
    raise SchemaError(
        f"unknown schema: its keys are {keys}; expected text, conversations, messages, chosen + rejected,"
        " instruction + output or question + answer"
    )


def _answered(record: dict, key: str, unread: list[str]) -> list[Message]:
    """The conversation that ends in the answer under this key: the whole of it, or what follows the record's
    prompt; prompt and answer may be text."""
    prompt, messages = record.get("prompt") or [], record[key]
    if prompt:
        prompt = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        answer = [{"role": "assistant", "content": messages}] if isinstance(messages, str) else messages
        is_whole = isinstance(answer, list) and answer[:1] and _string(answer[0], "role") != "assistant"
        if is_whole and answer[: len(prompt)] != prompt and "prompt" not in unread:
            unread.append("prompt")
        messages = answer if is_whole else [*_messages(prompt, []), *_messages(answer, [])]
    messages = _messages(messages, unread)
    chat.validate(messages)
    chat.normalize(messages, _tools(record))
    return messages


def _unpaired(record: dict, key: str) -> Content:
    unread = _unread(record, ("prompt", key, "label", "tools"))
    messages, tools = _answered(record, key, unread), _tools(record)
    return Content("unpaired", "unpaired", messages=messages, label=record["label"], tools=tools, unread=unread)


def _chat(record: dict, schema: str, turns: list[Any], keys: tuple[str, ...]) -> Content:
    unread = _unread(record, (*keys, "system", "tools", "functions", "gt"))
    messages = _messages(turns, unread)
    if system := record.get("system"):
        if messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": _string(record, "system")})
        elif system != messages[0]["content"]:
            unread.append("system")
    gt = record.get("gt")
    if len(messages) > 1 and is_empty_answer(messages[-1]):
        messages.pop()
        is_rl = is_prompt = True
    else:
        is_rl = gt is not None
        is_prompt = is_rl and messages[-1]["role"] != "assistant"
    tools = _tools(record)
    if tools and messages[0].get("tools"):
        unread.append("message.tools")
    chat.validate(messages, prompt=is_prompt)
    chat.normalize(messages, tools)  # that tools and tool calls are what a template can use
    return Content(
        kind="rl" if is_rl else "chat",
        schema="rl" if is_rl and schema == "chat" else schema,
        messages=messages,
        tools=tools,
        gt=[] if gt is None else [str(answer) for answer in (gt if isinstance(gt, list) else [gt])],
        unread=unread,
    )


def _unread(record: dict, keys: tuple[str, ...], prefix: str = "") -> list[str]:
    """Which of a record's keys are not among `keys` and say something."""
    return [
        f"{prefix}{key}" for key, value in record.items() if key not in keys and value not in (None, "", [], {})
    ]


def _tools(record: dict) -> str | None:
    """Tools beside the messages, which OpenAI called functions once."""
    tools = record.get("tools")
    if not tools and isinstance(record.get("functions"), list):
        tools = [{"type": "function", "function": function} for function in record["functions"]]
    return _json_text(tools) if tools else None


def is_empty_answer(message: Message) -> bool:
    """An assistant turn that says, thinks and calls nothing."""
    said = (message.get(key) for key in ("content", "reasoning_content", "tool_calls"))
    return message["role"] == "assistant" and not any(text and text.strip() for text in said)


def _messages(turns: Any, unread: list[str]) -> list[Message]:
    if not isinstance(turns, list):
        raise SchemaError(f"not a list of messages: {_kind_of(turns)}")
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
        raise SchemaError(f"a message is not a JSON object: {_kind_of(turn)}")
    role = _string(turn, "role")
    role = ROLES.get(role, role)
    message: Message = {"role": role, "content": _content(turn)}
    unread += _unread(turn, ("role", "content", *KEYS.get(role, ()), *TRAINED, *NOT_TRAINED), "message.")
    trained = _is_trained(turn)
    if role == "assistant":
        thinking, closed, answer = message["content"].partition("</think>")
        answer = answer.strip()
        if thinking.lstrip().startswith("<think>") and answer.startswith(ANSWER[0]) and answer.endswith(ANSWER[1]):
            answer = answer.removeprefix(ANSWER[0]).removesuffix(ANSWER[1]).strip("\n")
            message["content"] = f"{thinking}{closed}\n{answer}"
            unread.append("message.<answer>")
        if turn.get("reasoning_content") is not None:
            message["reasoning_content"] = _string(turn, "reasoning_content")
        if calls := turn.get("tool_calls") or turn.get("function_call"):
            calls = [calls] if isinstance(calls, dict) else calls
            message["tool_calls"] = calls if isinstance(calls, str) else _json_text(_calls(calls))
        if trained is False:
            message["train"] = False
    elif trained:
        unread.append(f"message.{next(key for key in (*TRAINED, *NOT_TRAINED) if turn.get(key) is not None)}")
    if role == "system" and turn.get("tools"):
        message["tools"] = _json_text(turn["tools"])
    return message


def _is_trained(turn: dict) -> bool | None:
    """What a message says about it; None for nothing."""
    given = {key: turn[key] for key in (*TRAINED, *NOT_TRAINED) if turn.get(key) is not None}
    for key, value in given.items():
        if value not in (0, 1):
            raise SchemaError(f"{key} of a message is neither 0 or false nor 1 or true: {_json_text(value)}")
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
    return _string(turn, "content")


def _calls(calls: Any) -> list[dict]:
    """OpenAI's {"id", "type", "function": {"name", "arguments": JSON text}} as {"name", "arguments": {…}}."""
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise SchemaError(f"tool_calls is not a list of objects: {_kind_of(calls)}")
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


def _sharegpt_turn(turn: Any) -> Message:
    if not isinstance(turn, dict):
        raise SchemaError(f"a message is not a JSON object: {_kind_of(turn)}")
    speaker, value = _string(turn, "from"), _string(turn, "value")
    more = {key: inner for key, inner in turn.items() if key not in ("from", "value", "role", "content")}
    if speaker == "function_call":
        try:
            call = loads(value)
        except ValueError:
            raise SchemaError("the function_call is not JSON") from None
        calls = _calls(call if isinstance(call, list) else [call])
        return {**more, "role": "assistant", "content": "", "tool_calls": _json_text(calls)}
    if speaker not in SHAREGPT_ROLES:
        raise SchemaError(f"unknown speaker: from is {speaker!r}; expected {', '.join(SHAREGPT_ROLES)}")
    return {**more, "role": SHAREGPT_ROLES[speaker], "content": value}


def _alpaca_turns(record: dict) -> list[Message]:
    history = record.get("history") or []
    turns = []
    for pair in history if isinstance(history, list) else [None]:
        if not (isinstance(pair, list) and len(pair) == 2):
            raise SchemaError("history is not a list of [question, answer] pairs")
        turns += _one_turn(*pair)
    question = _string(record, "instruction")
    if record.get("input"):
        question += "\n" + _string(record, "input")
    return [*turns, *_one_turn(question, _string(record, "output"))]


def _one_turn(question: Any, answer: Any) -> list[Message]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _string(record: dict, key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str):
        raise SchemaError(f"wrong type: {key} is {_kind_of(value)}, expected text")
    return value


def _json_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _kind_of(value: Any) -> str:
    names = {type(None): "missing", bool: "true or false", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), "a number")
