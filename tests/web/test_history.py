"""Conversations on disk: they come back as they were, and nothing that stands in a file or an address harms."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("streamlit")

from minimind.data.sources.documents import Document, read_documents
from minimind.data.sources.show import sequences
from minimind.errors import UserError
from minimind.tokenizer import Tokenizer
from minimind.tokenizer.messages import validate
from minimind.web import browser, export
from minimind.web import history as history_module
from minimind.web.history import Chat, History, Turn, pack, unpack
from minimind.web.session import STOPPED, Answer

ID = "0123456789abcdef" * 2
CALL = {"name": "calculate", "arguments": {"expression": "6 * 7"}}
CALLED = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": '{"result": 42}'}
SCHEMAS = [{"type": "function", "function": {"name": "calculate", "parameters": {"type": "object"}}}]


def said(text: str, **more: Any) -> Answer:
    return Answer([{"role": "assistant", "content": text, **more}], tokens=3, seconds=0.5)


def a_chat(**settings: Any) -> Chat:
    chat = Chat(settings=settings)
    chat.turns = [
        Turn(
            "What is 6 * 7?", {"a": Answer([CALLED, RESULT, *said("42").messages]), "b": said("13", tool_calls=[])}
        ),
        Turn("Sure?\u2028\x85", {"a": said("Yes.", reasoning_content="6 · 7 is\n42.")}),
    ]
    return chat


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "conversations" / ID)


def same(one: Chat, other: Chat) -> bool:
    return pack(one, 0) == pack(other, 0)


def test_a_conversation_comes_back_as_it_was(history: History) -> None:
    chat = a_chat(system="Be brief.", models=["a", "b"])
    history.save(chat)
    history.save(chat)
    back = history.load(chat.id)
    assert same(back, chat)
    assert back.revision == chat.revision == 2
    assert history.titles() == {chat.id: "What is 6 * 7?"}
    chat.name = "Sums"
    history.save(chat)
    assert history.titles() == {chat.id: "Sums"}
    assert os.listdir(history.directory) == [f"{chat.id}.json"]
    if os.name == "posix":
        assert history.directory.stat().st_mode & 0o077 == 0
    history.delete(chat.id)
    assert history.titles() == {}
    with pytest.raises(UserError, match="does not exist"):
        history.load(chat.id)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["assistant", "tool"]), "content": texts}, optional={"reasoning_content": texts}
)
answers = st.builds(lambda messages, note: Answer(messages, note=note), st.lists(messages, max_size=3), texts)
turns = st.lists(st.builds(Turn, texts, st.dictionaries(texts, answers, max_size=2)), max_size=3)


@given(turns, texts)
def test_any_conversation_survives_the_disk(turns: list[Turn], name: str) -> None:
    chat = Chat(ID, turns, name, {"system": name})
    assert same(unpack(ID, json.loads(json.dumps(pack(chat, 1)))), chat)


def test_two_tabs_do_not_overwrite_each_other(history: History) -> None:
    first = a_chat()
    history.save(first)
    second = history.load(first.id)
    first.turns.append(Turn("from the first tab", {"a": said("1")}))
    history.save(first)
    second.turns.append(Turn("from the second tab", {"a": said("2")}))
    history.save(second)
    assert second.id != first.id
    assert same(history.load(first.id), first)
    assert same(history.load(second.id), second)
    assert sorted(filter(None, history.titles().values())) == ["What is 6 * 7?", "What is 6 * 7? (2)"]
    assert len(Chat(name="long " * 50).title) == 60  # what the page's field for it takes
    idle = history.load(first.id)
    first.turns.append(Turn("again", {}))
    history.save(first)
    assert same(history.newest(idle), first)  # a tab that was only looking goes along
    assert history.newest(first) is first


def test_an_answer_under_way_is_kept_as_a_stopped_one(history: History) -> None:
    chat = Chat(turns=[Turn("a", {"x": said("half an")})])
    chat.turns[0].answers["x"].steps = (None for _ in range(3))
    history.save(chat)
    back = history.load(chat.id).turns[0].answers["x"]
    assert (back.note, back.messages[0]["content"], back.steps) == (STOPPED, "half an", None)


def test_half_a_surrogate_pair_does_not_lose_a_conversation(history: History) -> None:
    chat = Chat(turns=[Turn("a", {"x": said("so \ud83d")})])
    history.save(chat)
    assert history.load(chat.id).turns[0].answers["x"].messages[0]["content"] == "so ?"


@pytest.mark.parametrize("id", ["../../x", "", "..", ID + "/../" + ID, ID.upper(), ID + "\n", "x" * 10_000, "\x00"])
def test_an_id_is_no_path(history: History, id: str) -> None:
    for act in (history.load, history.delete):
        with pytest.raises(UserError, match="is no conversation"):
            act(id)


GOOD = json.dumps(pack(a_chat(), 1))
DAMAGED = [
    b"",
    b"{}",
    b"[]",
    b"\xff\xfe",
    b"null",
    b'{"revision": 1, "turns": 3}',
    GOOD[:99].encode(),
    b"[" * 10_000,
]
DAMAGED += [
    GOOD.replace('"tool"', '"system"').encode(),
    GOOD.replace('"name": "calculate"', '"name": 3').encode(),
    GOOD.replace('"42"', '["42"]').encode(),
    GOOD.replace('"tokens": 3', '"tokens": "many"').encode(),
    GOOD.replace('"revision": 1', '"revision": 1e999').encode(),
]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_file_is_said_and_not_overwritten(history: History, content: bytes) -> None:
    history.directory.mkdir(parents=True)
    file = history.path(ID)
    file.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        history.load(ID)
    assert history.titles() == {ID: None}
    chat = a_chat()
    chat.id = ID
    history.save(chat)
    assert chat.id != ID
    assert file.read_bytes() == content


def test_a_huge_file_is_not_read(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "MOST_BYTES", 1000)
    chat = Chat(turns=[Turn("a" * 2000)])
    history.save(chat)
    with pytest.raises(UserError, match="more than 1 KB"):
        history.load(chat.id)


def test_a_turn_without_an_answer_is_no_history() -> None:
    """Also where an answer was stopped amid calls of tools, the user can go on."""
    endings = [[], [{"role": "assistant", "content": ""}], [CALLED], [CALLED, RESULT], said("x").messages]
    for ending in endings:
        chat = Chat(turns=[Turn("one", {"a": Answer(ending, note=STOPPED)}), Turn("two")])
        validate([*chat.messages("a", 1), {"role": "user", "content": "two"}], prompt=True)


# ------------------------------------------------------------------------------------------------ exports


@pytest.mark.parametrize(
    "settings", [{}, {"system": "Be brief."}, {"system": "Be brief.", "schemas": SCHEMAS}, {"schemas": SCHEMAS}]
)
def test_an_export_is_trained_on_as_the_model_saw_it(
    tmp_path: Path, tokenizer_directory: Path, settings: dict[str, Any]
) -> None:
    chat, file = a_chat(**settings), tmp_path / "chat.jsonl"
    file.write_text(export.jsonl(chat), encoding="utf-8")
    documents = list(read_documents(file))
    assert [type(one) for one in documents] == [Document, Document]
    tokenizer = Tokenizer.load(tokenizer_directory)
    system = [{"role": "system", "content": settings["system"]}] if "system" in settings else []
    for model, document in zip("ab", documents):
        ids, mask = tokenizer.encode_chat([*system, *chat.messages(model)], settings.get("schemas"))
        assert [(list(i), list(m)) for _, i, m in sequences(document, tokenizer)] == [(list(ids), list(mask))]


def test_what_was_stopped_is_not_learned(tmp_path: Path, tokenizer_directory: Path) -> None:
    chat = Chat(
        turns=[Turn("a", {"x": said("whole")}), Turn("b", {"x": Answer(said("ha").messages, note=STOPPED)})]
    )
    file, tokenizer = tmp_path / "chat.jsonl", Tokenizer.load(tokenizer_directory)
    file.write_text(export.jsonl(chat), encoding="utf-8")
    ((_, ids, mask),) = (one for document in read_documents(file) for one in sequences(document, tokenizer))
    learned = tokenizer.decode([id for id, on in zip(ids, mask) if on])
    assert "whole" in learned
    assert "ha" not in learned


def test_markdown_shows_all_of_it() -> None:
    chat = a_chat(system="Be\nbrief.")
    chat.turns[1].answers["a"].messages[0]["content"] = "```python\nx\n```"
    chat.turns[1].answers["a"].note = STOPPED
    chat.turns[0].answers["a"].messages[1] = {"role": "tool", "content": "a ``` fence"}
    shown = export.markdown(chat)
    for part in ("# What is 6 * 7?", "> Be\n> brief.", "42", "> 6 · 7 is\n> 42.", "````\na ``` fence\n````"):
        assert part in shown
    assert "🤖 a (stopped)\n" in shown
    assert '```\ncalculate {"expression": "6 * 7"}\n```' in shown


# ------------------------------------------------------------------------------------------------- cookie


@pytest.mark.parametrize("sent", [b"", b"a=b", b"minimind_browser=../../x", b"xminimind_browser=" + ID.encode()])
def test_a_new_browser_gets_a_name(sent: bytes) -> None:
    one, other = (browser.cookie([(b"cookie", sent)]) for _ in range(2))
    assert one != other
    assert browser.ID.fullmatch(one.split(";")[0].removeprefix("minimind_browser="))
    assert "HttpOnly" in one


def test_a_known_browser_keeps_its_name() -> None:
    for sent in (f"minimind_browser={ID}", f"a=b; minimind_browser={ID}; c=d"):
        assert browser.cookie([(b"host", b"x"), (b"cookie", sent.encode())]).startswith(f"minimind_browser={ID};")
