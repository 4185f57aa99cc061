import json
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimind.errors import UserError
from minimind.util.json_files import MAX_DEPTH, loads, read_json, read_json_lines

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(VALUES, st.booleans())
def test_all_that_is_json_is_read(value, ascii):
    assert loads(json.dumps(value, ensure_ascii=ascii)) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "Expecting"),
        ("", "Expecting value"),
        ("[NaN]", "NaN is no JSON"),
        ('{"a": -Infinity}', "-Infinity is no JSON"),
        ("[1e999]", "the number 1e999 is too large"),
        ("[-1e999]", "the number -1e999 is too large"),
        ("1" * 10_000, "an integer of thousands of digits"),
        ('{"a": 1, "b": {"c": 2, "c": 2}}', "the key 'c' stands twice"),
        ('{"a": "\\ud83d"}', "surrogate"),
        ('{"\\udE00": 1}', "surrogate"),
        ('"\ud83d"', "surrogate"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "deeper than"),
        ('{"a":' * 100_000, "deeper than"),
    ],
)
def test_what_readers_disagree_on_is_no_json(text, why):
    with pytest.raises(ValueError, match=why):
        loads(text)


def test_what_only_looks_like_it_is_json():
    assert loads('["\\ud83d\\ude00", "\\\\ud83d", "NaN", 1e308, [{}, {}]]') == [
        "😀",
        "\\ud83d",
        "NaN",
        1e308,
        [{}, {}],
    ]
    assert loads("[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None
    assert loads('["' + "[{" * 500 + '"]') == ["[{" * 500]


def test_files_that_are_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.json")
    os.mkdir("directory.json")
    os.symlink("/dev/zero", "zero.json")
    os.symlink("circle.json", "circle.json")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.json")
        for name, why in [
            ("missing.json", "does not exist; check the path"),
            ("pipe.json", "is no file but a pipe"),
            ("socket.json", "is no file but a pipe"),
            ("zero.json", "is no file but a pipe"),
            ("directory.json", "is a directory"),
            ("circle.json", "cannot be read"),
            ("a" * 300, "cannot be read"),
            ("a\0b", "cannot be read"),
            ("caf\udce9.json", r"'caf\\udce9.json' is not UTF-8"),
        ]:
            with pytest.raises(UserError, match=why):
                read_json(tmp_path.__class__(name))


def test_lines_end_at_line_feeds_only(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": "x\u2028y\u2029z\x85"}\n{"a": NaN}\n{"a": 1}\n{"a"', encoding="utf-8")
    assert read_json_lines(path) == [{"a": "x\u2028y\u2029z\x85"}, {"a": 1}]
