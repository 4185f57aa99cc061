"""Take a generated assistant turn apart: thinking, content, tool calls."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from minimind.tokenizer.reserved import EOS
from minimind.tokenizer.tokenizer import Tokenizer
from minimind.util.json_files import loads


class Fragment(NamedTuple):
    text: str
    is_marker: bool


THINK, END_THINK, CALL, END_CALL = (
    Fragment(marker, True) for marker in ("<think>", "</think>", "<tool_call>", "</tool_call>")
)
MARKERS = {fragment.text for fragment in (THINK, END_THINK, CALL, END_CALL)}


def parse_assistant(
    output: str | Sequence[int], tokenizer: Tokenizer | None = None, open_thinking: bool = False
) -> dict[str, Any]:
    """Split what a model wrote after the generation prompt: text, or ids with their tokenizer.

    Returns `content` (str), `reasoning_content` (str, empty for none) and `tool_calls`, a list of
    `{"name": str, "arguments": dict}`. The `<think>` that opens the thinking may be in the output or have been in
    the prompt; say `open_thinking=True` where the prompt had it. Only what stands at the head is thinking: a later
    `<think>`, and a `</think>` that closes nothing, is text. So is a tool call that is not a JSON object with name
    and arguments.
    With ids, only the marker tokens count: a model that merely quotes `<tool_call>` calls nothing.
    """
    if isinstance(output, str):
        fragments = _split_text(output)
    elif tokenizer is None:
        raise ValueError("ids can only be parsed with their tokenizer")
    else:
        fragments = _split_ids(output, tokenizer)
    written = [fragment for fragment in fragments if fragment.text.strip("\n")]
    thinking, answer = [], fragments
    if open_thinking or written[:1] == [THINK]:
        end = fragments.index(END_THINK) if END_THINK in fragments else len(fragments)
        thinking, answer = fragments[:end], fragments[end + 1 :]
    content, calls = _split_calls(answer)
    return {
        "content": content,
        "reasoning_content": _join(thinking).lstrip("\n").removeprefix(THINK.text).strip("\n"),
        "tool_calls": calls,
    }


def marker_ids(tokenizer: Tokenizer) -> dict[int, Fragment]:
    """The markers that are single tokens; none for a vocabulary that spells them out."""
    reserved = tokenizer.reserved
    ids = {reserved[marker]: Fragment(marker, True) for marker in MARKERS if marker in reserved}
    return ids if len(ids) == len(MARKERS) else {}


def split_markers(text: str) -> list[Fragment]:
    """Text cut at the markers in it."""
    pattern = "(" + "|".join(sorted(MARKERS)) + ")"
    return [Fragment(part, part in MARKERS) for part in re.split(pattern, text) if part]


def _split_text(text: str) -> list[Fragment]:
    body, closing, rest = text.rpartition(EOS)
    if closing and not rest.strip("\n"):
        text = body
    return split_markers(text)


def _split_ids(ids: Sequence[int], tokenizer: Tokenizer) -> list[Fragment]:
    markers = marker_ids(tokenizer)
    if not markers:
        return _split_text(tokenizer.decode(ids))
    fragments: list[Fragment] = []
    run: list[int] = []
    for index in [*ids, None]:
        if index is not None and index not in markers:
            run.append(index)
            continue
        if run:
            fragments.append(Fragment(tokenizer.decode(run), False))
            run = []
        if index is not None:
            fragments.append(markers[index])
    return fragments


def _split_calls(fragments: list[Fragment]) -> tuple[str, list[dict]]:
    """The content, and the well-formed calls taken out of it with the line end before each."""
    content, calls = "", []
    while fragments:
        fragment, *rest = fragments
        if fragment == CALL and END_CALL in rest:
            end = rest.index(END_CALL)
            call = read_call(_join(rest[:end]))
            if call is not None:
                calls.append(call)
                content = content.removesuffix("\n")
                fragments = rest[end + 1 :]
                continue
        content += fragment.text
        fragments = rest
    return content.lstrip("\n"), calls


def read_call(text: str) -> dict[str, Any] | None:
    """`{"name", "arguments"}` of the text between two tool call markers; None if it is no proper call."""
    try:
        call = loads(text)
        name, arguments = call["name"], call["arguments"]
        if isinstance(arguments, str):  # OpenAI's form: JSON text within JSON
            arguments = loads(arguments)
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return None
    return {"name": name, "arguments": arguments}


def _join(fragments: list[Fragment]) -> str:
    return "".join(fragment.text for fragment in fragments)
