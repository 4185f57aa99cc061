"""What files look like: encodings, line ends, shapes of JSON, and what is no file."""

import codecs
import gzip
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minimind.cli import main
from minimind.data.sources import encodings, files, records
from minimind.data.sources.documents import BadLine, Document, read_documents
from minimind.errors import UserError

CHINESE = "今天天气很好，我们去公园散步。"
TRADITIONAL = "今天天氣很好，我們去公園散步。"
JAPANESE = "今日は天気がいいので、公園を散歩しました。"
KOREAN = "오늘은 날씨가 좋아서 우리는 공원에 산책을 갔다."
ENGLISH = "Today the weather is fine."


def texts(path, **options):
    return [item.text for item in read_documents(path, **options) if isinstance(item, Document)]


def write(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


# --- encodings ---


@pytest.mark.parametrize("shape", ["%s\n", '{"text": "%s"}\n'], ids=["txt", "jsonl"])
@pytest.mark.parametrize(
    ("text", "encoding", "named"),
    [
        (CHINESE, "gbk", "gb18030"),
        (CHINESE + "𠀀", "gb18030", "gb18030"),
        (TRADITIONAL, "gbk", "gb18030"),
        (TRADITIONAL, "big5", "big5"),
        (JAPANESE, "cp932", "cp932"),
        (JAPANESE, "euc-jp", "euc-jp"),
        (KOREAN, "cp949", "cp949"),
        *(
            (text, f"utf-{wide}", f"utf-{wide}")
            for text in (CHINESE, ENGLISH)
            for wide in ("16-le", "16-be", "32-le", "32-be")
        ),
        ("Où est le café? Déjà fermé.", "utf-16-le", "utf-16-le"),
        ("Сегодня хорошая погода.", "utf-16-be", "utf-16-be"),
    ],
)
def test_a_file_that_is_not_utf_8_is_recognized_and_read_when_it_is_named(tmp_path, shape, text, encoding, named):
    path = write(tmp_path / ("a.txt" if shape == "%s\n" else "a.jsonl"), (shape % text).encode(encoding) * 3)
    with pytest.raises(
        UserError, match=f"a.* is not UTF-8 but looks like .*--encoding {named}, .* iconv -f {named} "
    ):
        texts(path)
    assert texts(path, encoding=named) == (["\n".join([text] * 3)] if path.suffix == ".txt" else [text] * 3)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.txt.gz"])
def test_a_byte_order_mark_says_the_encoding(tmp_path, caplog, encoding, name):
    data = (json.dumps({"text": CHINESE}, ensure_ascii=False) if name == "a.jsonl" else CHINESE).encode(encoding)
    path = write(tmp_path / name, gzip.compress(data) if name.endswith(".gz") else data)
    assert texts(path) == [CHINESE]
    assert (f"is read as {encoding.upper()}" in caplog.text) == (encoding != "utf-8-sig")


def test_byte_order_marks_between_files_that_were_put_together(tmp_path):
    lines = [codecs.BOM_UTF8 + b'{"text": "%d"}' % number for number in range(4)]
    assert texts(write(tmp_path / "a.jsonl", b"\n".join(lines))) == list("0123")
    assert texts(write(tmp_path / "b.jsonl", b"\n".join([lines[0] + lines[1], lines[2] + lines[3]]))) == list(
        "0123"
    )
    blocks = [codecs.BOM_UTF8 + b"one\n\n", codecs.BOM_UTF8 + b"two\n", codecs.BOM_UTF8 + b"\nthree"]
    assert texts(write(tmp_path / "a.txt", b"".join(blocks))) == ["one", "two", "three"]
    wide = [part.encode("utf-16") for part in ("one\n\n", "two")]
    assert texts(write(tmp_path / "b.txt", b"".join(wide))) == ["one", "two"]
    inside = json.dumps({"text": "a\ufeffb"}, ensure_ascii=False)
    assert texts(write(tmp_path / "c.jsonl", inside)) == ["a\ufeffb"]


def test_an_encoding_is_recognized_after_much_plain_english(tmp_path, monkeypatch):
    monkeypatch.setattr(encodings, "BLOCK", 100)
    monkeypatch.setattr(files, "CHUNK", 100)
    lines = [json.dumps({"text": ENGLISH}).encode()] * 20 + [
        json.dumps({"text": CHINESE}, ensure_ascii=False).encode("gbk")
    ] * 20
    path = write(tmp_path / "a.jsonl", b"\n".join(lines))
    with pytest.raises(UserError, match="looks like GBK"):
        texts(path)
    assert texts(path, encoding="gbk") == [ENGLISH] * 20 + [CHINESE] * 20


def test_a_file_of_one_byte_per_character_is_refused_without_a_guess(tmp_path):
    path = write(
        tmp_path / "a.txt", "\n".join(["Déjà vu", "à l'école", "très bien", "été", "fin"]).encode("cp1252")
    )
    with pytest.raises(UserError, match=r"a.txt is not UTF-8; name its encoding with --encoding NAME \(cp1252"):
        texts(path)
    assert texts(path, encoding="cp1252") == ["Déjà vu\nà l'école\ntrès bien\nété\nfin"]


def test_few_bad_bytes_are_bad_lines(tmp_path):
    good = json.dumps({"text": CHINESE}, ensure_ascii=False).encode()
    path = write(
        tmp_path / "a.jsonl", b"\n".join([good, b'{"text": "caf\xe9"}', good, good.replace("天".encode(), b"\xe5")])
    )
    items = list(read_documents(path))
    assert [isinstance(item, BadLine) for item in items] == [False, True, False, True]
    assert items[1].why.startswith("not UTF-8 (or what --encoding names)")
    named = write(tmp_path / "b.jsonl", "\n".join([good.decode()] * 3).encode("gb18030").replace(b"}", b"\xff}", 1))
    items = list(read_documents(named, encoding="gb18030"))
    assert [isinstance(item, BadLine) for item in items] == [True, False, False]


def test_null_characters_are_no_text(tmp_path):
    (bad,) = read_documents(write(tmp_path / "a.txt", "a\0b " + CHINESE))
    assert bad.why == "not text: it holds null characters"


@pytest.mark.parametrize("name", ["nonsense", "base64", "a\0b", "undefined"])
def test_encodings_that_are_none(tmp_path, name):
    with pytest.raises(UserError, match="encoding"):
        texts(write(tmp_path / "a.txt", CHINESE), encoding=name)


# --- line ends ---


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("blank", ["", " \t", "\u3000", "\u3000 \u2003\u00a0"])
@pytest.mark.parametrize("size", [1, 2, 2**20])
def test_any_line_end_and_any_blank_line_separates_texts(tmp_path, monkeypatch, end, blank, size):
    monkeypatch.setattr(files, "CHUNK", size)
    monkeypatch.setattr(encodings, "BLOCK", size)
    path = write(tmp_path / "a.txt", end.join(["one", "\u3000二", blank, blank, "three", ""]).encode())
    assert [(item.line, item.text) for item in read_documents(path)] == [(1, "one\n\u3000二"), (5, "three")]


@pytest.mark.parametrize("inside", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e", "\r"])
def test_a_line_of_json_ends_at_line_feeds_only(tmp_path, inside):
    records = [{"text": f"a{inside}b"}] * 2
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    assert texts(write(tmp_path / "a.jsonl", "\n".join(lines))) == [f"a{inside}b"] * 2
    assert texts(write(tmp_path / "b.txt", f"a{inside}b\n\nc"))[-1] == "c"


def test_texts_separated_by_a_marker(tmp_path, caplog):
    story = "Once.\n\nEnd one.\n{0}\nTwo begins.\n\n\u3000\nEnd two.\n{0}\n"
    for marker in ("<|endoftext|>", "<|end_of_text|>", "</s>"):
        path = write(tmp_path / "a.txt", story.format(marker))
        items = list(read_documents(path))
        assert [item.text for item in items] == ["Once.\n\nEnd one.", "Two begins.\n\n\u3000\nEnd two."]
        assert [item.line for item in items] == [1, 5]
        assert f"documents are separated by {marker}" in caplog.text
    assert texts(write(tmp_path / "b.txt", "One.<|endoftext|>\r\nTwo,\r\n\r\ntwo.<|endoftext|>")) == [
        "One.",
        "Two,\n\ntwo.",
    ]
    assert texts(write(tmp_path / "c.txt", "One.<|endoftext|>Two.<|endoftext|>\n")) == ["One.", "Two."]
    mentioned = "GPT-2 ends with <|endoftext|> always.\n\nSo it is."
    assert texts(write(tmp_path / "d.txt", mentioned)) == mentioned.split("\n\n")


# --- shapes of JSON ---

RECORDS = [{"text": 'a [b] {c}, "d"\n'}, {"text": "二 } {"}, {"text": "}{", "meta": {"x": [1, {}]}}]
SHAPES = {
    "array": json.dumps(RECORDS),
    "array, indented": json.dumps(RECORDS, indent=2, ensure_ascii=False),
    "array, a line each": "[\n" + ",\n".join(map(json.dumps, RECORDS)) + "\n]\n",
    "indented": "\n".join(json.dumps(record, indent=4) for record in RECORDS),
    "joined": "".join(map(json.dumps, RECORDS)),
    "joined on some lines": json.dumps(RECORDS[0])
    + "\n"
    + json.dumps(RECORDS[1])
    + "\ufeff"
    + json.dumps(RECORDS[2]),
    "commas": ",\n".join(map(json.dumps, RECORDS)),
    "carriage returns": "\r".join(map(json.dumps, RECORDS)) + "\r",
    "arrays": json.dumps(RECORDS[:1]) + "\n" + json.dumps(RECORDS[1:]),
}


# A first block of one byte tells arrays only.
@pytest.mark.parametrize(
    ("shape", "size"), [("array, indented", 1), *((shape, size) for shape in SHAPES for size in (7, 2**20))]
)
def test_json_that_is_not_one_object_per_line(tmp_path, monkeypatch, shape, size):
    monkeypatch.setattr(files, "CHUNK", size)
    monkeypatch.setattr(encodings, "BLOCK", max(size, 100) if shape != "array, indented" else size)
    for name in ("a.jsonl", "a.json"):
        assert texts(write(tmp_path / name, SHAPES[shape])) == [record["text"] for record in RECORDS]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=5),
    st.sampled_from([None, 1]),
    st.booleans(),
)
def test_no_text_of_an_array_is_lost(tmp_path_factory, said, indent, ascii):
    said = [text.encode("utf-8", "replace").decode() for text in said]
    path = tmp_path_factory.mktemp("x") / "a.jsonl"
    path.write_text(
        json.dumps([{"text": text} for text in said], indent=indent, ensure_ascii=ascii),
        encoding="utf-8",
        newline="",
    )
    assert texts(path) == said


def test_what_is_no_json_in_an_array_is_a_bad_line(tmp_path, monkeypatch):
    lines = ["[", '{"text": "a"},', '{"text": b},', '"words",', '{"text": "c", "d": NaN},', '{"text": "e"}', "]"]
    items = list(read_documents(write(tmp_path / "a.jsonl", "\n".join(lines))))
    assert [(item.line, isinstance(item, BadLine)) for item in items] == [
        (2, False),
        (3, True),
        (4, True),
        (5, True),
        (6, False),
    ]
    monkeypatch.setattr(records, "MAX_RECORD", 50)
    monkeypatch.setattr(encodings, "BLOCK", 20)
    monkeypatch.setattr(files, "CHUNK", 20)
    long = json.dumps([{"text": "x" * 30}, {"text": "y" * 300}, {"text": "z"}], indent=0)
    items = list(read_documents(write(tmp_path / "b.jsonl", long)))
    assert items[0].text == "x" * 30
    assert any(isinstance(item, BadLine) and item.why.startswith("longer") for item in items)


def test_arrow_fills_in_nulls_that_nobody_wrote(tmp_path):
    calls = [{"city": "Rome"}, {"sides": 6, "note": '{"a": null}'}, {}]
    rows = [
        {
            "messages": [
                {"role": "user", "content": "u"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"function": {"name": "f", "arguments": call}}],
                },
            ],
            "score": float("nan"),
        }
        for call in calls
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    documents = list(read_documents(tmp_path / "a.parquet"))
    assert [json.loads(d.messages[1]["tool_calls"])[0]["arguments"] for d in documents] == calls


# --- what is no file ---


@pytest.mark.parametrize("command", ["data check", "tokenizer train --out t --data"])
def test_what_is_no_file_is_refused_at_once(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.jsonl")
    os.symlink("/dev/zero", "zero.txt")
    os.mkdir("folder.jsonl")
    for name in ["pipe.jsonl", "zero.txt", "folder.jsonl", "/dev/zero", "a" * 300 + ".jsonl", "caf\udce9.jsonl"]:
        assert main([*command.split(), name]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert said.count("\n") == 1
        said.encode()
