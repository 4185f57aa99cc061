"""Thinking, content and tool calls while they are being generated, against `parse_assistant` of the whole."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minimind.infer.events import End, Text, Thinking, Token, ToolCall
from minimind.infer.text import AnswerStream
from minimind.tokenizer import Tokenizer, parse_assistant

CALL = '<tool_call>\n{"name": "sees", "arguments": {"a": [1, "山"]}}\n</tool_call>'
OTHER = '<tool_call>{"name": "finds", "arguments": {}}</tool_call>'
SNIPPETS = [
    CALL,
    OTHER,
    "<tool_call>",
    "</tool_call>",
    "red",
    "\n",
    "\n\n",
    " 🙂",
    "{",
    "<think>",
    "<tool_",
    "</th",
]


@pytest.fixture(scope="module")
def tokenizer(tokenizer_directory: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_directory)


@pytest.fixture(scope="module")
def spelled_out(tokenizer: Tokenizer) -> Tokenizer:
    """A tokenizer for which markers are ordinary text."""
    plain = Tokenizer.__new__(Tokenizer)
    plain.__dict__ = {**tokenizer.__dict__, "reserved": {}}
    return plain


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    """Markers as tokens where the tokenizer has them."""
    return (
        tokenizer.backend.encode(text, add_special_tokens=False).ids
        if tokenizer.reserved
        else tokenizer.encode(text)
    )


def collect(tokenizer: Tokenizer, text: str, **options: Any) -> tuple[dict[str, Any], End]:
    answer = AnswerStream(tokenizer, **options)
    ids = ids_of(tokenizer, text)
    events = [event for one in [*map(Token, ids), End("length")] for event in answer.push(one)]
    assert [token.id for event in events for token in event.tokens] == ids
    calls = [event for event in events if isinstance(event, ToolCall)]
    joined = {
        "content": "".join(event.text for event in events if isinstance(event, Text)),
        "reasoning_content": "".join(event.text for event in events if isinstance(event, Thinking)),
        "tool_calls": [{"name": call.name, "arguments": call.arguments} for call in calls],
    }
    return joined, events[-1]


@pytest.mark.parametrize("markers", ["tokens", "text"])
@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    thinking=st.sampled_from(["", "<think>\nold\n</think>\n\n", "<think>\n\n</think>", "\n<think>\nred\n\n"]),
    snippets=st.lists(st.sampled_from(SNIPPETS), max_size=8),
    opened=st.booleans(),
)
def test_all_that_comes_out_is_what_the_whole_says(
    tokenizer: Tokenizer, spelled_out: Tokenizer, markers: str, thinking: str, snippets: list[str], opened: bool
) -> None:
    tok = tokenizer if markers == "tokens" else spelled_out
    text = thinking + "".join(snippets)
    if opened:
        text = text.replace("<think>", "", 1) if thinking else "old</think>" + text
    found, _ = collect(tok, text, open_thinking=opened, calls=True)
    assert found == parse_assistant(ids_of(tok, text), tok, open_thinking=opened)


def test_parts_come_as_soon_as_they_are_certain(tokenizer: Tokenizer) -> None:
    answer = AnswerStream(tokenizer, calls=True)
    shown = [answer.push(Token(token)) for token in ids_of(tokenizer, "red\n" + CALL + "\n" + OTHER)]
    moments = [index for index, parts in enumerate(shown) if any(isinstance(part, ToolCall) for part in parts)]
    ends = [i for i, token in enumerate(ids_of(tokenizer, "red\n" + CALL + "\n" + OTHER))
            if token == tokenizer.reserved["</tool_call>"]]  # fmt: skip
    assert moments == ends
    assert shown[0][0].text.startswith("r")


def test_a_stop_string_ends_the_content_only(tokenizer: Tokenizer) -> None:
    text = "<think>\nred tree\n</think>\n\nblue red tree" + CALL
    found, end = collect(tokenizer, text, stop=["d tr"], calls=True)
    assert found == {"content": "blue re", "reasoning_content": "red tree", "tool_calls": []}
    assert end == End("stop")


def test_a_stop_string_may_be_a_line_end(tokenizer: Tokenizer) -> None:
    found, end = collect(tokenizer, "\n\nred\nblue", stop=["\n"], calls=True)
    assert found["content"] == "red"
    assert end == End("stop")


def test_a_call_that_the_prompt_opened(tokenizer: Tokenizer) -> None:
    call = {"name": "sees", "arguments": {"a": 1}}
    found, _ = collect(tokenizer, json.dumps(call), open_call=True)
    assert found == {"content": "", "reasoning_content": "", "tool_calls": [call]}
    cut_off, _ = collect(tokenizer, json.dumps(call)[:-3], open_call=True)
    assert cut_off["tool_calls"] == []


def test_without_tools_a_call_is_text(tokenizer: Tokenizer) -> None:
    assert collect(tokenizer, OTHER)[0]["content"] == OTHER
