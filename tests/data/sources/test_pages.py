"""Markdown, HTML, PDF and tables as documents; folders of them; questions and answers; mixtures."""

import json
import sys
from collections import Counter

import pytest
from tests.helpers import write_jsonl

from minimind.cli import main
from minimind.data.sources.collect import passages
from minimind.data.sources.documents import BadLine, Document, read_documents, to_record
from minimind.data.sources.faq import read_faq
from minimind.data.sources.folder import data_files
from minimind.data.sources.mix import Dataset, mix
from minimind.data.sources.pages import join_lines
from minimind.data.sources.schemas import normalize
from minimind.errors import UserError

PAGE = """<!doctype html><html><head><title>Tea &amp; time</title><style>p {color: red}</style></head>
<body><nav><ul><li>Home<li>Shop</ul></nav><div role="navigation">more <div>links</div></div>
<main><h2>How to brew</h2><p>Boil   the
water.<p>Pour it <b>slowly</b>.</p><script>alert("no")</script>
<ul><li>a pot</li><li>a cup</li></ul>
<table><tr><th>tea</th><th>min</th></tr><tr><td>green</td><td>2</td></tr></table>
<pre>a  b
c</pre><p>水开
了</p><p hidden>secret</p></main><footer>imprint</footer></body></html>"""
TEXT = """# Tea & time

## How to brew

Boil the water.

Pour it slowly.

- a pot
- a cup

tea | min
green | 2

a  b
c

水开了"""


def pdf(*pages):
    """A PDF with the given lines on each page, written by hand (ISO 32000-1, 7.5)."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    for number, lines in enumerate(pages):
        shown = "BT /F 12 Tf 50 700 Td " + " ".join(f"({line}) Tj 0 -15 Td" for line in lines) + " ET"
        font, content = "/Resources<</Font<</F 3 0 R>>>>", f"/Contents {5 + 2 * number} 0 R"
        objects.append(f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]{font}{content}>>")
        objects.append(f"<</Length {len(shown)}>>stream\n{shown}\nendstream")
    data, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        places.append(len(data))
        data += f"{number} 0 obj\n{content}\nendobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    head = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    return data + f"{head}trailer<</Size {len(objects) + 1}/Root 1 0 R>>\nstartxref\n{len(data)}\n%%EOF".encode()


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def texts(path, **options):
    return [item.text for item in read_documents(path, **options) if isinstance(item, Document)]


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_page_is_read_without_what_is_no_text(tmp_path):
    assert texts(write(tmp_path / "a.html", PAGE)) == [TEXT]


@pytest.mark.parametrize(("declared", "encoding"), [("gb2312", "gbk"), ("big5", "big5"), ("utf-8", "utf-8")])
def test_a_page_says_its_encoding(tmp_path, declared, encoding):
    page = f'<meta http-equiv="Content-Type" content="text/html; charset={declared}"><p>今天天氣很好</p>'
    assert texts(write(tmp_path / "a.htm", page.encode(encoding))) == ["今天天氣很好"]


def test_a_page_that_is_utf_8_whatever_it_says(tmp_path):
    assert texts(write(tmp_path / "a.html", '<meta charset="gb2312">\n<p>今天\n</p>')) == ["今天"]


def test_markdown_loses_what_nobody_sees(tmp_path):
    path = write(tmp_path / "a.md", "---\ntitle: x\n---\n# Tea\r\n\r\n<!-- later -->*Boil*.\n")
    assert texts(path) == ["# Tea\n\n*Boil*."]


def test_a_pdf_is_read_by_paragraphs_without_margins(tmp_path):
    pages = [
        ["The tea book", "The water must be hot when it is poured over the", "leaves of the green tea.", "1"],
        ["The tea book", "Then wait for two minutes, and never for long-", "er than three of them.", "2"],
        ["The tea book", "Drink.", "3"],
    ]
    path = write(tmp_path / "a.pdf", pdf(*pages))
    assert texts(path) == [
        "The water must be hot when it is poured over the leaves of the green tea.\n"
        "Then wait for two minutes, and never for longer than three of them.\nDrink."
    ]
    assert join_lines(["今天天气很好，我们去公园散", "步。"]) == "今天天气很好，我们去公园散步。"


def test_what_is_no_pdf(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="is no PDF that can be read"):
        list(read_documents(write(tmp_path / "a.pdf", b"%PDF-1.4 and then nothing")))
    scan = list(read_documents(write(tmp_path / "scan.pdf", pdf([]))))
    assert [bad.why for bad in scan] == ["empty text"]
    monkeypatch.setitem(sys.modules, "pypdf", None)
    with pytest.raises(UserError, match=r"minimind\[pdf\]"):
        list(read_documents(tmp_path / "scan.pdf"))


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("b.csv", ";"), ("c.tsv", "\t")])
def test_tables_are_questions_and_answers(tmp_path, name, delimiter):
    rows = [["Question", "Answer"], ['"Who, then;\n\tyou?"', "Mia"], ["", ""], ["alone", ""]]
    path = write(tmp_path / name, "\ufeff" + "".join(delimiter.join(row) + "\r\n" for row in rows))
    good, bad = read_documents(path)
    assert good.messages == [
        {"role": "user", "content": "Who, then;\n\tyou?"},
        {"role": "assistant", "content": "Mia"},
    ]
    assert (good.line, good.schema) == (2, "qa")
    assert isinstance(bad, BadLine)
    assert bad.line == 5


@pytest.mark.parametrize("keys", [("prompt", "response"), ("问题", "答案"), ("Q", "A")])
def test_names_of_question_and_answer(keys):
    content = normalize(dict(zip(keys, ("Who?", "I."))))
    assert [message["content"] for message in content.messages] == ["Who?", "I."]


MARKED = """# FAQ

Hello.

Q: How long
is a week?
A: Seven days.

That is all.
**Q2: And a year?**
**A:** 365 days.
Q: And a day?
## 时间
问：一小时多长？
答：六十分钟。
"""
HEADED = """# FAQ
Hello.
## Time
### 1. How long is a week?
Seven days.
```
## no heading
```
### And a year?
## Who are you?
Mia.
"""


def faq(path):
    items = list(read_faq(path))
    pairs = [tuple(message["content"] for message in item.messages) for item in items if isinstance(item, Document)]
    return pairs, [(bad.line, bad.sort) for bad in items if isinstance(bad, BadLine)]


def test_questions_by_marks(tmp_path):
    pairs, bad = faq(write(tmp_path / "a.md", MARKED))
    assert pairs == [
        ("How long\nis a week?", "Seven days.\n\nThat is all."),
        ("And a year?", "365 days."),
        ("一小时多长？", "六十分钟。"),
    ]
    assert bad == [(1, "text that belongs to no question"), (12, "a question without an answer")]


def test_questions_by_headings(tmp_path):
    pairs, bad = faq(write(tmp_path / "a.md", HEADED))
    assert pairs == [
        ("How long is a week?", "Seven days.\n```\n## no heading\n```"),
        ("Who are you?", "Mia."),
    ]
    assert bad == [(1, "text that belongs to no question"), (9, "a question without an answer")]
    assert faq(write(tmp_path / "a.html", "<h2>Who?</h2><p>I.</p>"))[0] == [("Who?", "I.")]


def test_a_folder_stands_for_its_files(tmp_path, caplog):
    write(tmp_path / "b.md", "two")
    write(tmp_path / "a/one.txt", "one")
    for name in ("logo.png", "empty.txt", ".hidden.md", ".git/notes.md"):
        write(tmp_path / name, "" if name == "empty.txt" else "x")
    assert data_files([tmp_path]) == [tmp_path / "a/one.txt", tmp_path / "b.md"]
    assert "2 files are read, 2 are empty or of no known type: empty.txt, logo.png" in caplog.text
    with pytest.raises(UserError, match="no file that can be read"):
        data_files([write(tmp_path / "none/x.png", "x").parent])


def test_import_writes_one_file_and_names_what_is_not_in_it(tmp_path, capsys):
    folder = tmp_path / "notes"
    write(folder / "a.html", PAGE)
    write(folder / "b.md", "The first paragraph, one of two.\n\nThe second paragraph. It is longer.")
    write(folder / "c.md", "The first paragraph, one of two.")
    write(folder / "broken.pdf", b"no pdf")
    out = tmp_path / "out.jsonl"
    assert main(["data", "import", str(folder), "--out", str(out), "--longest", "40"]) == 0
    said = capsys.readouterr().out
    assert "of 2 files, 1 left out, 1 duplicates" in said
    assert "broken.pdf" in said
    written = [line["text"] for line in lines_of(out)]
    assert written[-2:] == ["The first paragraph, one of two.", "The second paragraph. It is longer."]
    assert max(map(len, written)) <= 40
    assert main(["data", "import", str(folder), "--out", str(tmp_path / "out.txt")]) == 2


def test_passages_lose_no_word():
    text = "One two three. Four five!\n\nSix seven eight nine ten eleven twelve."
    for longest in range(8, 70):
        parts = list(passages(text, longest))
        assert "".join("".join(parts).split()) == "".join(text.split())
        assert max(map(len, parts)) <= longest


def test_names_are_filled_in(tmp_path, capsys):
    row = {"question": "Who?", "answer": "{{name}} by {{author}}"}
    source, out = write_jsonl(tmp_path / "a.jsonl", [row]), tmp_path / "o.jsonl"
    command = ["data", "import", str(source), "--out", str(out), "--fill", 'name=M "ia"']
    assert main(command) == 2
    assert "nothing is filled in for {{author}} (1 times); give --fill author=…" in capsys.readouterr().err
    assert not out.exists()
    assert main([*command, "author=us"]) == 0
    assert lines_of(out)[0]["conversations"][1]["content"] == 'M "ia" by us'


SIDES = ("chosen", "rejected")
RECORDS = [
    {"text": "a"},
    {"conversations": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "train": False}]},
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]},
    {"conversations": [{"role": "user", "content": "a"}], "gt": ["3"]},
    {side: [{"role": "user", "content": "a"}, {"role": "assistant", "content": side}] for side in SIDES},
    {"instruction": "a", "output": "b", "tools": '[{"type": "function", "function": {"name": "f"}}]'},
]  # fmt: skip


@pytest.mark.parametrize("record", RECORDS)
def test_a_document_is_written_as_it_was_read(record):
    content = normalize(record)
    again = normalize(json.loads(json.dumps(to_record(content))))
    assert {**vars(again), "schema": None} == {**vars(content), "schema": None}


def test_a_mixture_has_its_shares_and_is_the_same_again(tmp_path, capsys):
    sizes = {"a": 40, "b": 400}
    files = [
        write_jsonl(tmp_path / f"{name}.jsonl", ({"text": f"{name}{i:04}" * 20} for i in range(count)))
        for name, count in sizes.items()
    ]
    sets = [Dataset([file], share) for file, share in zip(files, [0.8, 0.2])]
    parts = mix(sets, tmp_path / "one.jsonl")
    assert [part.documents for part in parts] == [40, 10]  # a whole, and of b a quarter of its bytes
    assert [part.share for part in parts] == [0.8, 0.2]
    mix(sets, tmp_path / "two.jsonl")
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
    mix(sets, tmp_path / "two.jsonl", seed=1)
    assert (tmp_path / "one.jsonl").read_bytes() != (tmp_path / "two.jsonl").read_bytes()
    command = ["data", "mix", *map(str, files), "--out", str(tmp_path / "three.jsonl"), "--shares"]
    assert main([*command, "1", "0"]) == 0
    assert "100.00%  40 documents" in capsys.readouterr().out
    assert main([*command, "1"]) == 2
    assert main([*command, "1", "1", "--repeat", "2"]) == 2
    assert main([*command, "1", "1", "--repeat", "3", "1"]) == 0
    counts = Counter((tmp_path / "three.jsonl").read_text(encoding="utf-8").splitlines())
    assert Counter(counts.values()) == {3: 40, 1: 120}  # 40 of a three times, as many of b once each


def test_a_mixture_with_all_of_its_first_data_set(tmp_path):
    rows = [{"text": f"{i:04}" * 20} for i in range(50)]
    files = [write_jsonl(tmp_path / "a.jsonl", rows[:40]), write_jsonl(tmp_path / "b.jsonl", rows[40:])]
    sets = [Dataset([files[0]], 0.5, 2), Dataset([files[1]], 0.5)]
    parts = mix(sets, tmp_path / "out.jsonl", whole_first=True)
    assert [part.documents for part in parts] == [80, 10]
    kept = next(read_documents(files[1])).hash
    assert mix(sets, tmp_path / "out.jsonl", without={kept}, whole_first=True)[1].documents == 9


def test_what_does_not_mix(tmp_path):
    text = write_jsonl(tmp_path / "t.jsonl", [{"text": "a longer text"}])
    chat = write_jsonl(tmp_path / "c.jsonl", [{"question": "a", "answer": "b"}])
    with pytest.raises(UserError, match="chat and pretrain documents do not mix"):
        mix([Dataset([text], 1), Dataset([chat], 1)], tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()
