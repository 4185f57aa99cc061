import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minimind.tokenizer import Tokenizer, parse_assistant


def parsed(content: str = "", reasoning: str = "", calls: list | None = None) -> dict:
    return {"content": content, "reasoning_content": reasoning, "tool_calls": calls or []}


CALL = '<tool_call>\n{"name": "f", "arguments": {"x": [1, "你"]}}\n</tool_call>'
CALLED = {"name": "f", "arguments": {"x": [1, "你"]}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hello", parsed("hello")),
        ("", parsed()),
        ("hello<|im_end|>\n", parsed("hello")),
        ("<think>\n\n</think>\n\nhello", parsed("hello")),
        ("<think>\nhm\nso\n</think>\n\nhello\n", parsed("hello\n", "hm\nso")),
        ("hm\n</think>\n\nhello", parsed("hm\n</think>\n\nhello")),  # closes nothing
        ("a <think>b</think> c", parsed("a <think>b</think> c")),
        ("<think>a</think> b</think> <think>c</think>", parsed(" b</think> <think>c</think>", "a")),
        ("<think>a<think>b</think>c", parsed("c", "a<think>b")),
        ("<think>\nhm", parsed("", "hm")),  # cut off
        (CALL, parsed(calls=[CALLED])),
        (f"look:\n{CALL}\n{CALL}", parsed("look:", calls=[CALLED, CALLED])),
        (f"<think>hm</think>\n\n{CALL}<|im_end|>", parsed(reasoning="hm", calls=[CALLED])),
        (f"{CALL} done", parsed(" done", calls=[CALLED])),
        (
            '<tool_call>{"name": "f", "arguments": "{\\"x\\": 1}"}</tool_call>',
            parsed(calls=[{"name": "f", "arguments": {"x": 1}}]),
        ),
        (f"<think>\n{CALL}\n</think>\n\nno", parsed("no", CALL)),  # thought of, not called
    ],
)
def test_text(text: str, expected: dict):
    assert parse_assistant(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>\n{nonsense\n</tool_call>",
        '<tool_call>\n{"name": "f"}\n</tool_call>',
        '<tool_call>\n{"name": 3, "arguments": {}}\n</tool_call>',
        '<tool_call>\n{"name": "f", "arguments": [1]}\n</tool_call>',
        "<tool_call>\n[]\n</tool_call>",
        '<tool_call>\n{"name": "f", "arguments": {"x": "\\ud800"}}\n</tool_call>',
        "<tool_call>\n" + "[" * 100_000 + "\n</tool_call>",
        '<tool_call>\n{"name": "f", "arguments": {}}',
        '<tool_call>\n{"name": "f", "arguments": {"x": NaN}}\n</tool_call>',
        '<tool_call>\n{"name": "f", "arguments": {"x": 1e999}}\n</tool_call>',
        '<tool_call>\n{"name": "f", "arguments": "{\\"x\\": -Infinity}"}\n</tool_call>',
        '<tool_call>\n{"name": "f", "arguments": {"x": 1, "x": 2}}\n</tool_call>',
        '<tool_call>\n{"name": "f", "arguments": {"x": ' + "1" * 10_000 + "}}\n</tool_call>",
        "</tool_call> <tool_call>",
    ],
)
def test_a_malformed_call_is_text(text: str):
    assert parse_assistant(f"a\n{text}") == parsed(f"a\n{text}")
    assert parse_assistant(f"{text}\n{CALL}") == parsed(text, calls=[CALLED])


def test_thinking_that_was_cut_off():
    assert parse_assistant("so far", open_thinking=True) == parsed("", "so far")
    assert parse_assistant("so far</think>\n\nyes", open_thinking=True) == parsed("yes", "so far")


def test_ids(tokenizer: Tokenizer):
    ids = [*tokenizer.encode("hm\n"), 26, *tokenizer.encode("\n\nlook:\n"), 21]
    ids += [*tokenizer.encode('\n{"name": "f", "arguments": {"x": [1, "你"]}}\n'), 22, 2]
    assert parse_assistant(ids, tokenizer, open_thinking=True) == parsed("look:", "hm", [CALLED])
    assert parse_assistant([25, *ids], tokenizer) == parsed("look:", "hm", [CALLED])
    assert parse_assistant(ids, tokenizer) == parsed("hm\n</think>\n\nlook:", calls=[CALLED])
    quoted = tokenizer.encode(f"like {CALL}</think>")
    assert parse_assistant(quoted, tokenizer) == parsed(f"like {CALL}</think>")
    with pytest.raises(ValueError, match="tokenizer"):
        parse_assistant(ids)


words = st.text(alphabet='ab你 .{}"\n', max_size=8)
names = st.text(alphabet="abc_", min_size=1, max_size=4)


@given(
    words.map(lambda text: text.strip("\n")),
    words,
    st.lists(st.tuples(names, st.dictionaries(words, words)), max_size=2),
)
@settings(max_examples=100, deadline=None)
def test_parsing_undoes_rendering(tokenizer: Tokenizer, reasoning: str, content: str, calls: list):
    expected = parsed(
        content.lstrip("\n"), reasoning, [{"name": name, "arguments": given} for name, given in calls]
    )
    if not any(expected.values()):
        return
    ids, mask = tokenizer.encode_chat([{"role": "user", "content": "q"}, {"role": "assistant", **expected}])
    written = [index for index, flag in zip(ids, mask) if flag]
    assert parse_assistant(written, tokenizer) == expected
    assert parse_assistant(tokenizer.decode(written, skip_special=False)) == expected
