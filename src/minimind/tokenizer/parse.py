"""Take a generated assistant turn apart: thinking, content, tool calls."""

import json
import re
from collections.abc import Sequence
from typing import Any

from minimind.tokenizer.reserved import EOS
from minimind.tokenizer.tokenizer import Tokenizer

_CALL = re.compile(r"\n?<tool_call>(.*?)</tool_call>", re.DOTALL)


def parse_assistant(
    output: str | Sequence[int], tokenizer: Tokenizer | None = None, open_thinking: bool = False
) -> dict[str, Any]:
    """Split what a model wrote after the generation prompt (text, or ids with their tokenizer).

    Returns `content` (str), `reasoning_content` (str, empty for none) and `tool_calls`, a list of
    `{"name": str, "arguments": dict}`. The `<think>` that opens the thinking may be in the output or have been in
    the prompt; say `open_thinking=True` where the prompt had it, so that thinking cut off before `</think>` is
    known as such. A tool call that is not a JSON object with name and arguments stays in the content as text.
    """
    if not isinstance(output, str):
        if tokenizer is None:
            raise ValueError("ids can only be parsed with their tokenizer")
        output = tokenizer.decode(output, skip_special=False)
    text = output.rstrip("\n").removesuffix(EOS)
    opened = open_thinking or text.lstrip("\n").startswith("<think>")
    reasoning, closed, content = text.partition("</think>")
    if not closed and not opened:
        reasoning, content = "", text
    calls: list[dict] = []

    def take(match: re.Match[str]) -> str:
        call = _read_call(match[1])
        if call is None:
            return match[0]
        calls.append(call)
        return ""

    content = _CALL.sub(take, content.lstrip("\n"))
    return {
        "content": content,
        "reasoning_content": reasoning.lstrip("\n").removeprefix("<think>").strip("\n"),
        "tool_calls": calls,
    }


def _read_call(text: str) -> dict | None:
    try:
        call = json.loads(text)
        arguments = call["arguments"]
        # OpenAI's form: the arguments are JSON text themselves.
        arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
        name = call["name"]
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return None
    return {"name": name, "arguments": arguments}
