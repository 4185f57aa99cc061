"""The record schemas people have, turned into MiniMind's published one.

text        {"text": "…"}
chat        {"conversations": [{"role", "content", "reasoning_content"?, "tools"?, "tool_calls"?}, …]}
preference  {"chosen": [messages], "rejected": [messages]}, or with a "prompt" what follows it; each may be text
unpaired    {"prompt", "completion", "label": true|false}, or a chat with "label"
rl          a chat with "gt" (what a verifier checks; beside it "check": how, "count", and "source"), or whose last
            assistant turn is empty
prompt      {"prompt": "…"}, {"prompt": [messages]} or {"question": "…"} alone: nobody has answered it
openai      {"messages": [{"role", "content", "tool_calls"?, "weight"?}, …], "tools"?}
sharegpt    {"conversations": [{"from": "human|gpt|system|function_call|observation", "value"}, …]}
alpaca      {"instruction", "input"?, "output", "system"?, "history"?: [[question, answer], …]}
qa          {"question", "answer", "system"?}, also as prompt and response or completion, 问题 and 答案, …

A key that is not read is counted by name, unless it is empty.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from minimind.data.sources.turns import (
    SchemaError,
    is_empty_answer,
    json_text,
    messages_of,
    sharegpt_turn,
    text_of,
    type_name,
    unread_keys,
)
from minimind.tokenizer import chat
from minimind.tokenizer.messages import Message

# Names of a question and its answer, in any case.
ASKS = ("question", "prompt", "query", "q", "问题", "提问", "问")
ANSWERS = ("answer", "response", "completion", "a", "答案", "回答", "答")


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
    gt        what a verifier checks the answer against; check: how, count: how many of gt it must have, source: the
              skill or the data that it is of
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
    check: str = ""
    count: int = 0
    source: str = ""
    unread: list[str] = field(default_factory=list)


def normalize(record: Any) -> Content:
    """A decoded JSON record in the published shape; SchemaError or ChatError when it cannot be."""
    if not isinstance(record, dict):
        raise SchemaError(f"not a JSON object: {type_name(record)}")
    answer = next((key for key in ("completion", "conversations", "messages") if key in record), None)
    if answer is not None and isinstance(record.get("label"), bool):
        return _unpaired(record, answer)
    if isinstance(record.get("conversations"), list):
        turns = record["conversations"]
        if any(isinstance(turn, dict) and "from" in turn for turn in turns):
            return _chat(record, "sharegpt", [sharegpt_turn(turn) for turn in turns], ("conversations",))
        return _chat(record, "chat", turns, ("conversations",))
    if isinstance(record.get("messages"), list):
        return _chat(record, "openai", record["messages"], ("messages",))
    if "chosen" in record and "rejected" in record:
        unread = unread_keys(record, ("prompt", "chosen", "rejected", "tools"))
        chosen, rejected = (_answered(record, side, unread) for side in ("chosen", "rejected"))
        return Content(
            "preference", "preference", chosen=chosen, rejected=rejected, tools=_tools(record), unread=unread
        )
    if "instruction" in record and "output" in record:
        return _chat(record, "alpaca", _alpaca_turns(record), ("instruction", "input", "output", "history"))
    if "text" in record:
        text = text_of(record, "text")
        if not text.strip():
            raise SchemaError("empty text")
        return Content("pretrain", "text", text=text, unread=unread_keys(record, ("text",)))
    names = {str(key).strip().casefold(): key for key in record}
    question, answer = (next((names[one] for one in known if one in names), None) for known in (ASKS, ANSWERS))
    if question is not None and answer is not None:
        turns = _one_turn(text_of(record, question), text_of(record, answer))
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
        is_whole = isinstance(answer, list) and answer[:1] and text_of(answer[0], "role") != "assistant"
        if is_whole and answer[: len(prompt)] != prompt and "prompt" not in unread:
            unread.append("prompt")
        messages = answer if is_whole else [*messages_of(prompt, []), *messages_of(answer, [])]
    messages = messages_of(messages, unread)
    chat.validate(messages)
    chat.normalize(messages, _tools(record))
    return messages


def _unpaired(record: dict, key: str) -> Content:
    unread = unread_keys(record, ("prompt", key, "label", "tools"))
    messages, tools = _answered(record, key, unread), _tools(record)
    return Content("unpaired", "unpaired", messages=messages, label=record["label"], tools=tools, unread=unread)


def _chat(record: dict, schema: str, turns: list[Any], keys: tuple[str, ...]) -> Content:
    gt = record.get("gt")
    verified = ("gt",) if gt is None else ("gt", "check", "count", "source", "skill")
    unread = unread_keys(record, (*keys, "system", "tools", "functions", *verified))
    messages = messages_of(turns, unread)
    if system := record.get("system"):
        if messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": text_of(record, "system")})
        elif system != messages[0]["content"]:
            unread.append("system")
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
        **({} if gt is None else _verification(record)),
    )


def _verification(record: dict) -> dict[str, Any]:
    """What stands beside the ground truth."""
    count = record.get("count", 0)
    if type(count) is not int or count < 0:
        raise SchemaError(f"count is no number of answers: {json_text(count)}")
    source = next((key for key in ("source", "skill") if record.get(key)), None)
    return {
        "check": text_of(record, "check") if record.get("check") else "",
        "count": count,
        "source": text_of(record, source) if source else "",
    }


def _tools(record: dict) -> str | None:
    """Tools beside the messages, which OpenAI called functions once."""
    tools = record.get("tools")
    if not tools and isinstance(record.get("functions"), list):
        tools = [{"type": "function", "function": function} for function in record["functions"]]
    return json_text(tools) if tools else None


def _alpaca_turns(record: dict) -> list[Message]:
    history = record.get("history") or []
    turns = []
    for pair in history if isinstance(history, list) else [None]:
        if not (isinstance(pair, list) and len(pair) == 2):
            raise SchemaError("history is not a list of [question, answer] pairs")
        turns += _one_turn(*pair)
    question = text_of(record, "instruction")
    if record.get("input"):
        question += "\n" + text_of(record, "input")
    return [*turns, *_one_turn(question, text_of(record, "output"))]


def _one_turn(question: Any, answer: Any) -> list[Message]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
