import contextlib
import gzip
import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from minimind.data.sources import encodings, files, records
from minimind.data.sources.documents import BadLine, Document, parse, plain_text_of, read_documents, read_texts
from minimind.errors import UserError

TEXTS = [{"text": "第一篇。\nA second line."}, {"text": "two"}, {"text": "三"}]
CHAT = {"conversations": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}
TURNS = [("user", "hi"), ("assistant", "hello")]


def jsonl(records):
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def one(record):
    """What a single record is read as."""
    return parse(json.dumps(record).encode(), "x.jsonl", 7, plain_text=False)


def turns(messages):
    return [(message["role"], message["content"]) for message in messages]


def write(path, data):
    if path.name.endswith(".gz"):
        data = gzip.compress(data)
    elif path.name.endswith(".zst"):
        data = zstandard.compress(data)
    path.write_bytes(data)
    return path


# --- containers ---


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "A.JSONL"])
def test_lines_with_their_numbers_from_every_json_container(tmp_path, name):
    data = b"\xef\xbb\xbf" + jsonl(TEXTS[:2]) + b"\n  \r\n" + jsonl(TEXTS[2:]).rstrip() + b"\r\n"
    path = tmp_path / name
    path.write_bytes(data) if name.isupper() else write(path, data)
    documents = list(read_documents(path))
    assert [(d.line, d.text) for d in documents] == [(1, TEXTS[0]["text"]), (2, "two"), (5, "三")]
    assert {d.file for d in documents} == {str(path)}


def test_archives_of_several_parts(tmp_path):
    halves = jsonl(TEXTS[:1]), jsonl(TEXTS[1:])
    (tmp_path / "a.jsonl.gz").write_bytes(b"".join(map(gzip.compress, halves)))
    (tmp_path / "a.jsonl.zst").write_bytes(b"".join(map(zstandard.compress, halves)))
    for name in ("a.jsonl.gz", "a.jsonl.zst"):
        assert [d.text for d in read_documents(tmp_path / name)] == [record["text"] for record in TEXTS]


def test_parquet_rows_with_nested_nulls(tmp_path):
    rows = [{**CHAT, "extra": None}, {"conversations": [{"role": "user", "content": "x"}]}]
    rows[1]["conversations"].append({"role": "assistant", "content": "y", "reasoning_content": "z"})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    first, second = read_documents(tmp_path / "a.parquet")
    assert turns(first.messages) == TURNS
    assert "reasoning_content" not in first.messages[1]
    assert second.messages[1]["reasoning_content"] == "z"
    assert (first.line, second.line) == (1, 2)


def test_parquet_text_stored_as_bytes(tmp_path):
    pq.write_table(pa.table({"text": ["字".encode(), b"\xff"]}), tmp_path / "a.parquet")
    good, bad = read_documents(tmp_path / "a.parquet")
    assert good.text == "字"
    assert isinstance(bad, BadLine)


def test_plain_text_is_cut_at_blank_lines(tmp_path):
    path = write(tmp_path / "a.txt.gz", "one\nmore\n\n  \n二\r\n\r\nlast".encode())
    assert [(d.line, d.text) for d in read_documents(path)] == [(1, "one\nmore"), (5, "二"), (7, "last")]


def test_lines_that_cross_read_boundaries(tmp_path, monkeypatch):
    path = write(tmp_path / "a.jsonl", jsonl(TEXTS) + b"\xff\n" + jsonl(TEXTS))
    expected = list(read_documents(path))
    for size in (1, 3, 17):
        monkeypatch.setattr(files, "CHUNK", size)
        monkeypatch.setattr(files, "COMPRESSED_CHUNK", size)
        again = [read_documents(write(tmp_path / name, path.read_bytes())) for name in ("b.jsonl", "b.jsonl.zst")]
        for documents in map(list, again):
            assert [(d.line, getattr(d, "text", None)) for d in documents] == [
                (d.line, getattr(d, "text", None)) for d in expected
            ]


def test_a_record_too_long_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "MAX_RECORD", 50)
    monkeypatch.setattr(files, "CHUNK", 20)
    monkeypatch.setattr(encodings, "BLOCK", 20)
    long = {"text": "x" * 90}
    items = list(read_documents(write(tmp_path / "a.jsonl", jsonl([TEXTS[1], long, TEXTS[1], long]))))
    assert [type(item) for item in items] == [Document, BadLine, Document, BadLine]
    assert items[1].line == 2
    assert items[1].why.startswith("longer than")


def test_a_text_too_long_is_cut_into_documents(tmp_path, monkeypatch, caplog):
    for module, name, size in [(records, "MAX_RECORD", 50), (files, "CHUNK", 20), (encodings, "BLOCK", 20)]:
        monkeypatch.setattr(module, name, size)
    text = "a\n\n" + "x" * 30 + "\n" + "y" * 30 + "\n\n" + "字" * 40 + "\n\nb\n"
    items = list(read_documents(write(tmp_path / "a.txt", text.encode())))
    assert [(item.line, item.text) for item in items] == [
        (1, "a"),
        (3, "x" * 30),
        (4, "y" * 30),
        (6, "字" * 16),
        (6, "字" * 16),
        (6, "字" * 8),
        (8, "b"),
    ]
    assert "cut into several documents" in caplog.text


# --- files that cannot be read ---


def test_files_that_are_none(tmp_path):
    write(tmp_path / "empty.jsonl", b"")
    write(tmp_path / "data.xls", b"a,b")
    for name, message in [
        ("missing.jsonl", "does not exist"),
        ("", "is a directory"),
        ("empty.jsonl", "is empty"),
        ("data.xls", "unknown file type"),
    ]:
        with pytest.raises(UserError, match=message):
            list(read_documents(tmp_path / name))


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "not one"])
def test_damaged_archives(tmp_path, name, damage):
    lines = [{"text": f"{number} {number * 7919 % 1009}"} for number in range(20_000)]
    path = write(tmp_path / name, jsonl(lines))
    data = bytearray(path.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    elif damage == "flipped":
        for place in range(len(data) // 2, len(data) // 2 + 200):
            data[place] ^= 0xFF
    else:
        data = bytearray(jsonl(TEXTS))
    path.write_bytes(data)
    with pytest.raises(UserError, match="damaged or cut off after line"):
        list(read_documents(path))


def test_a_damaged_parquet(tmp_path):
    with pytest.raises(UserError, match="damaged"):
        list(read_documents(write(tmp_path / "a.parquet", b"PAR1 nothing of the sort PAR1")))


def test_missing_extras_are_named(tmp_path):
    write(tmp_path / "a.jsonl.zst", jsonl(TEXTS))
    write(tmp_path / "a.parquet", b"x")
    program = """
import sys
from pathlib import Path
sys.modules["zstandard"] = sys.modules["pyarrow"] = None
from minimind.data.sources.documents import read_documents
for name in sys.argv[1:]:
    try:
        list(read_documents(name))
    except Exception as error:
        print(type(error).__name__, error)
"""
    names = [str(tmp_path / "a.jsonl.zst"), str(tmp_path / "a.parquet")]
    out = subprocess.run([sys.executable, "-c", program, *names], capture_output=True, text=True, check=True)
    assert out.stdout.count("UserError") == 2
    assert out.stdout.count("minimind[data]") == 2


# --- schemas ---


def test_text():
    document = one({"text": " 字 ", "source": "x"})
    assert (document.kind, document.schema, document.text) == ("pretrain", "text", " 字 ")


def test_published_chat_with_thinking_and_tools():
    tools = json.dumps([{"type": "function", "function": {"name": "f", "parameters": {}}}])
    calls = json.dumps([{"name": "f", "arguments": {"a": 1}}])
    messages = [
        {"role": "system", "content": "s", "tools": tools},
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": "", "reasoning_content": "r", "tool_calls": calls},
        {"role": "tool", "content": "t"},
        {"role": "assistant", "content": "a"},
    ]
    document = one({"conversations": messages})
    assert (document.kind, document.schema) == ("chat", "chat")
    assert document.messages == messages


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("<think>\na b\n</think>\n<answer>\nc\n\nd\n</answer>", "<think>\na b\n</think>\nc\n\nd"),
        ("<think>a</think><answer>b</answer>\n", "<think>a</think>\nb"),
        ("<think>a</think>\n\n<answer>b</answer> and c", None),
        ("<think>a</think>\nb", None),
        ("<answer>b</answer>", None),
        ("a <think>b</think>\n<answer>c</answer>", None),
    ],
)
def test_an_answer_in_tags_after_its_thinking(said, read):
    """As r1_mix_1024 has it. What the tags stand around is the answer; anything else stays as it is."""
    turns_of = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": said}]
    document = one({"conversations": turns_of})
    assert document.messages[1]["content"] == (said if read is None else read)
    assert document.unread == ([] if read is None else ["message.<answer>"])


def test_preference():
    record = {
        side: [{"role": "user", "content": "q"}, {"role": "assistant", "content": side}]
        for side in ("chosen", "rejected")
    }
    document = one(record)
    assert (document.kind, document.chosen, document.rejected) == (
        "preference",
        record["chosen"],
        record["rejected"],
    )


@pytest.mark.parametrize(("gt", "expected"), [("42", ["42"]), (["a", "b"], ["a", "b"]), (3.5, ["3.5"]), (None, [])])
def test_rl_prompt_loses_its_empty_answer(gt, expected):
    record = {"conversations": [{"role": "user", "content": "6*7?"}, {"role": "assistant", "content": ""}]}
    document = one({**record, "gt": gt} if gt is not None else record)
    assert (document.kind, document.schema, document.gt) == ("rl", "rl", expected)
    assert turns(document.messages) == [("user", "6*7?")]


def test_rl_with_an_answer_or_without_the_last_turn():
    answered = one({**CHAT, "gt": ["hello"]})
    assert (answered.kind, turns(answered.messages)) == ("rl", TURNS)
    open_ended = one({"conversations": CHAT["conversations"][:1], "gt": "hello"})
    assert (open_ended.kind, turns(open_ended.messages)) == ("rl", TURNS[:1])


def test_openai_messages():
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    document = one(
        {
            "messages": [
                {"role": "developer", "content": "s"},
                {"role": "user", "content": [{"type": "text", "text": "u"}, {"type": "text", "text": "v"}]},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "content": "t", "tool_call_id": "1"},
                {"role": "assistant", "content": "a", "refusal": None},
            ],
            "tools": tools,
        }
    )
    assert (document.kind, document.schema) == ("chat", "openai")
    assert turns(document.messages) == [
        ("system", "s"),
        ("user", "uv"),
        ("assistant", ""),
        ("tool", "t"),
        ("assistant", "a"),
    ]
    assert json.loads(document.messages[2]["tool_calls"]) == [{"name": "f", "arguments": {"a": 1}}]
    assert json.loads(document.tools) == tools


def test_sharegpt():
    document = one(
        {
            "system": "s",
            "tools": '[{"name": "f"}]',
            "conversations": [
                {"from": "human", "value": "u"},
                {"from": "function_call", "value": '{"name": "f", "arguments": {"a": 1}}'},
                {"from": "observation", "value": "t"},
                {"from": "gpt", "value": "a"},
            ],
        }
    )
    assert (document.kind, document.schema, document.tools) == ("chat", "sharegpt", '[{"name": "f"}]')
    assert [message["role"] for message in document.messages] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    assert json.loads(document.messages[2]["tool_calls"]) == [{"name": "f", "arguments": {"a": 1}}]


def test_alpaca():
    document = one(
        {"instruction": "Add.", "input": "1 2", "output": "3", "history": [["hi", "hello"]], "system": "s"}
    )
    assert (document.kind, document.schema) == ("chat", "alpaca")
    assert turns(document.messages) == [("system", "s"), *TURNS, ("user", "Add.\n1 2"), ("assistant", "3")]
    assert turns(one({"instruction": "q", "input": "", "output": "a"}).messages) == [
        ("user", "q"),
        ("assistant", "a"),
    ]


def test_what_openai_called_functions():
    call = {"name": "f", "arguments": '{"a": 1}'}
    document = one(
        {
            "functions": [{"name": "f", "parameters": {}}],
            "messages": [
                {"role": "user", "content": "u"},
                {"role": "assistant", "content": "I look.", "function_call": call},
                {"role": "function", "name": "f", "content": "t"},
                {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": " "}},
            ],
        }
    )
    assert turns(document.messages) == [("user", "u"), ("assistant", "I look."), ("tool", "t"), ("assistant", "")]
    assert json.loads(document.messages[1]["tool_calls"]) == [{"name": "f", "arguments": {"a": 1}}]
    assert json.loads(document.messages[3]["tool_calls"]) == [{"name": "f", "arguments": {}}]
    assert json.loads(document.tools) == [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    assert document.unread == ["message.name"]


@pytest.mark.parametrize("key", ["weight", "train", "training", "trainable", "loss", "masked", "mask"])
def test_answers_not_to_be_learned(key):
    no, yes = (True, False) if key.startswith("mask") else (0, 1)
    openai = {"messages": [USER, {**ASSISTANT, key: no}, {**USER, key: no}, {**ASSISTANT, key: yes}]}
    sharegpt = {
        "conversations": [
            {"from": "human", "value": "u"},
            {"from": "gpt", "value": "a", key: no},
            {"from": "human", "value": "u"},
            {"from": "gpt", "value": "a", key: None},
        ]
    }
    for record in (openai, sharegpt):
        document = one(record)
        assert [message.get("train") for message in document.messages] == [None, False, None, None]
        assert document.unread == []
    assert one({"messages": [{**USER, key: yes}, ASSISTANT]}).unread == [f"message.{key}"]


def test_keys_that_are_not_read_are_named():
    tools = [{"type": "function", "function": {"name": "f"}}]
    cases = [
        ({"text": "a", "id": 3, "meta": {"x": 1}, "note": "", "url": None}, ["id", "meta"]),
        (
            {"messages": [{**USER, "name": "Ann"}, {**ASSISTANT, "refusal": "no"}]},
            ["message.name", "message.refusal"],
        ),
        (
            {"messages": [{**USER, "tools": tools, "reasoning_content": "r"}, ASSISTANT]},
            ["message.tools", "message.reasoning_content"],
        ),
        ({"system": "s", "messages": [{"role": "system", "content": "t"}, USER, ASSISTANT]}, ["system"]),
        (
            {"tools": tools, "messages": [{"role": "system", "content": "t", "tools": tools}, USER, ASSISTANT]},
            ["message.tools"],
        ),
        ({"chosen": [USER, ASSISTANT], "rejected": [USER, ASSISTANT], "prompt": "x"}, ["prompt"]),
        ({"chosen": [ASSISTANT], "rejected": [USER, ASSISTANT], "prompt": [USER], "score": 1}, ["score"]),
        ({"instruction": "q", "input": "", "output": "a", "lang": "en"}, ["lang"]),
        (
            {"conversations": [{"from": "human", "value": "u", "id": 1}, {"from": "gpt", "value": "a"}]},
            ["message.id"],
        ),
    ]
    assert [sorted(one(record).unread) for record, _ in cases] == [sorted(unread) for _, unread in cases]


# --- bad lines ---

USER, ASSISTANT = {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}
BAD = [
    (b"{", "not JSON"),
    (b'{"text": "a"', "not JSON"),
    (b'{"text": "\xff"}', "not UTF-8"),
    ('{"text": "字"}'.encode("utf-16"), "not UTF-8"),
    (b'{"text": "\\ud83d"}', "surrogate"),
    (b'{"text": ' + b"[" * 100_000, "nested deeper than 100 levels"),
    (b"1" * 10_000, "not JSON: an integer of thousands of digits"),
    (b'{"text": "a", "text": "b"}', "not JSON: the key 'text' stands twice"),
    (b'{"text": "a", "score": NaN}', "not JSON: NaN"),
    (b'{"text": "a", "score": 1e999}', "too large"),
    (b"3", "not a JSON object: a number"),
    (b"null", "not a JSON object"),
    ({}, "unknown schema: its keys are none"),
    ({"question": "q", "choices": []}, "its keys are choices, question"),
    ({"text": 5}, "text is a number"),
    ({"text": None}, "text is missing"),
    ({"text": " \n"}, "empty text"),
    ({"conversations": "hi"}, "unknown schema"),
    ({"conversations": []}, "empty conversation"),
    ({"conversations": ["hi"]}, "not a JSON object: text"),
    ({"conversations": [{"role": "user"}]}, "content is missing"),
    ({"conversations": [{"role": 1, "content": "x"}]}, "role is a number"),
    ({"conversations": [{"role": "narrator", "content": "x"}]}, "narrator"),
    ({"conversations": [ASSISTANT, USER]}, "begins with the assistant"),
    ({"conversations": [USER, USER, ASSISTANT]}, "user cannot follow user"),
    ({"conversations": [USER, {**ASSISTANT, "content": ""}, USER, ASSISTANT]}, "says nothing"),
    ({"conversations": [USER]}, "nothing from the assistant"),
    ({"conversations": [USER, {**ASSISTANT, "tool_calls": "{"}]}, "tool_calls"),
    ({"conversations": [USER, {**ASSISTANT, "tool_calls": [3]}]}, "tool_calls"),
    ({"conversations": [{"role": "system", "content": "", "tools": "nope"}, USER, ASSISTANT]}, "tools"),
    ({"conversations": [USER, {**ASSISTANT, "reasoning_content": 1}]}, "reasoning_content is a number"),
    ({"conversations": [{"from": "alien", "value": "x"}]}, "unknown speaker"),
    ({"conversations": [{"from": "human", "value": None}]}, "value is missing"),
    ({"conversations": [{"from": "human", "value": "u"}, {"from": "function_call", "value": "f()"}]}, "not JSON"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "not text"),
    ({"messages": [USER, {"role": "assistant", "tool_calls": [{"function": {"arguments": "{"}}]}]}, "not JSON"),
    (
        {"messages": [USER, {**ASSISTANT, "weight": 0.5}]},
        "weight of a message is neither 0 or false nor 1 or true: 0.5",
    ),
    ({"messages": [USER, {**ASSISTANT, "train": "no"}]}, "train of a message is neither"),
    ({"messages": [USER, {"role": "assistant", "function_call": {"name": "f", "arguments": "{"}}]}, "are not JSON"),
    ({"chosen": [USER, ASSISTANT], "rejected": "no"}, "not a list of messages: text"),
    ({"chosen": [USER, ASSISTANT], "rejected": [ASSISTANT]}, "begins with the assistant"),
    ({"instruction": "q", "output": 1}, "output is a number"),
    ({"instruction": "q", "output": "a", "history": [["q"]]}, "history"),
    ({"instruction": "q", "output": "a", "history": [[1, 2]]}, "content is a number"),
]


@pytest.mark.parametrize(("record", "why"), BAD, ids=[why for _, why in BAD])
def test_bad_lines_say_why(tmp_path, record, why):
    line = record if isinstance(record, bytes) else json.dumps(record).encode()
    path = write(tmp_path / "a.jsonl", jsonl(TEXTS[:1]) + line.replace(b"\n", b" ") + b"\n" + jsonl(TEXTS[1:2]))
    good, bad, after = read_documents(path)
    assert (good.text, after.text) == (TEXTS[0]["text"], "two")
    assert isinstance(bad, BadLine)
    assert why in bad.why
    assert str(bad).startswith(f"{path}:2: ")


def test_another_kind_than_wanted_is_a_bad_line(tmp_path):
    path = write(tmp_path / "a.jsonl", jsonl([*TEXTS[:1], CHAT, {**CHAT, "gt": "x"}]))
    kinds = {
        kind: [isinstance(d, Document) for d in read_documents(path, kind)] for kind in ("auto", "pretrain", "chat")
    }
    assert kinds == {"auto": [True] * 3, "pretrain": [True, False, False], "chat": [False, True, True]}


def test_the_sort_of_a_fault_leaves_out_what_is_particular():
    assert BadLine("f", 1, "not JSON: Expecting value at column 3").sort == "not JSON"
    assert BadLine("f", 1, "message 3: user cannot follow user").sort == "user cannot follow user"


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
KEYS = (
    "text conversations messages chosen rejected gt instruction output input history tools tool_calls system"
    " role content from value reasoning_content function name arguments"
)
keys = st.sampled_from(KEYS.split())
words = st.sampled_from(
    ["user", "assistant", "system", "tool", "human", "gpt", "function_call", "", "[]", "{}", "x"]
)
likely = st.recursive(
    json_values | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(likely)
def test_no_json_crashes_the_reader(record):
    item = one(record)
    assert isinstance(item, Document | BadLine)
    if isinstance(item, Document):
        assert plain_text_of(item)


@settings(max_examples=100, deadline=None)
@given(
    st.binary(min_size=1, max_size=300), st.sampled_from([".jsonl", ".jsonl.gz", ".jsonl.zst", ".txt", ".parquet"])
)
def test_no_bytes_crash_the_reader(tmp_path_factory, data, extension):
    path = tmp_path_factory.mktemp("x") / f"a{extension}"
    path.write_bytes(data)
    with contextlib.suppress(UserError):
        assert all(isinstance(item, Document | BadLine) for item in read_documents(path))


# --- hashes and texts ---


def test_the_hash_is_of_the_content():
    assert one({"text": "a  b\n"}).hash == one({"text": "a b", "id": 4}).hash
    assert one({"text": "a b"}).hash != one({"text": "ab"}).hash
    sharegpt = {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]}
    assert one(CHAT).hash == one(sharegpt).hash == one({"messages": CHAT["conversations"]}).hash
    assert one({"text": "字"}).hash < 2**64


def test_the_hash_of_a_long_text_does_not_depend_on_where_it_is_cut():
    words = [f"word{number}" for number in range(60_000)]
    assert one({"text": " ".join(words)}).hash == one({"text": " \n".join(words) + "\n"}).hash
    assert one({"text": " ".join(words)}).hash != one({"text": " ".join(words[:-1])}).hash


def test_texts_of_every_schema_without_control_strings(tmp_path):
    thinking = [USER, {"role": "assistant", "content": "answer", "reasoning_content": "thought"}]
    preference = {"chosen": [USER, ASSISTANT], "rejected": [USER, {**ASSISTANT, "content": "worse"}]}
    records = [TEXTS[1], {"conversations": thinking}, preference]
    path = write(tmp_path / "a.jsonl", jsonl(records) + b"oops\n")
    bad = []
    texts = list(read_texts([path, path], bad.append))
    assert [text.split() for text in texts[:3]] == [
        ["two"],
        ["user", "u", "assistant", "thought", "answer"],
        ["user", "u", "assistant", "a", "assistant", "worse"],
    ]
    assert texts[3:] == texts[:3]
    assert not any("<" in text for text in texts)
    assert [line.line for line in bad] == [4, 4]
