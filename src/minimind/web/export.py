"""A conversation as a file: to be read, or to be trained on."""

from __future__ import annotations

import json
import re
from typing import Any

from minimind.tokenizer.messages import Message
from minimind.web.history import Chat, closed


def jsonl(chat: Chat) -> str:
    """A line for each model, in the chat format that `minimind train sft` reads.

    An answer that did not end by itself is there to be read on from, and its weight of 0 says not to learn it.
    """
    lines = [json.dumps(record(chat, model), ensure_ascii=False) + "\n" for model in chat.models]
    return "".join(lines)


def record(chat: Chat, model: str) -> dict[str, Any]:
    system, schemas = chat.settings.get("system"), chat.settings.get("schemas")
    tools = {"tools": json.dumps(schemas, ensure_ascii=False)} if schemas else {}
    messages: list[Message] = [{"role": "system", "content": system, **tools}] if system else []
    for text, answer in chat.exchanges(model):
        messages.append({"role": "user", "content": text})
        messages += [published(message, bool(answer.note)) for message in closed(answer.messages)]
    return {"conversations": messages, **({} if system else tools)}


def published(message: Message, is_cut: bool) -> Message:
    """A message in the published schema, where tool calls are JSON text."""
    message = dict(message)
    if message.get("tool_calls"):
        message["tool_calls"] = json.dumps(message["tool_calls"], ensure_ascii=False)
    return {**message, "weight": 0} if is_cut and message["role"] == "assistant" else message


def markdown(chat: Chat) -> str:
    parts = [f"# {chat.title}"]
    if system := chat.settings.get("system"):
        parts.append(f"> {'> '.join(str(system).splitlines(keepends=True))}")
    for turn in chat.turns:
        parts.append(f"## 🧑\n\n{turn.text}")
        for name, answer in turn.answers.items():
            parts.append(f"## 🤖 {name}" + (f" ({answer.note})" if answer.note else ""))
            parts += [part for message in answer.messages for part in sections(message)]
    return "\n\n".join(parts) + "\n"


def sections(message: Message) -> list[str]:
    """A message's thinking as a quotation, its text, and tool calls or a tool's result as code."""
    if message["role"] == "tool":
        return [fenced(message["content"])]
    thinking = message.get("reasoning_content") or ""
    parts = [
        "\n".join(f"> {line}" for line in thinking.strip().split("\n")) if thinking else "",
        message["content"],
    ]
    for call in message.get("tool_calls") or []:
        arguments = call["arguments"]
        arguments = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        parts.append(fenced(f"{call['name']} {arguments}"))
    return [part for part in parts if part]


def fenced(text: str) -> str:
    """Code in a fence that is longer than any in it."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
    return f"{fence}\n{text}\n{fence}"
