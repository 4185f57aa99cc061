"""The pages, run by Streamlit's own test driver: what they show, and what clicks do."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.stub_server import DONE, call, event, stub_server

from minimind import Model

testing = pytest.importorskip("streamlit.testing.v1")

from minimind.web.library import find_models  # noqa: E402

APP = str(Path(__file__).parents[2] / "src/minimind/web/app.py")
PATIENCE = 60  # seconds; a page needs a fraction of one where the machine is idle


def open_page(name: str, lang: str = "en", **state: Any) -> Any:
    """The chat with all around it; the driver cannot go to other pages, so these are run alone."""
    if name == "chat":
        at = testing.AppTest.from_file(APP, default_timeout=PATIENCE)
    else:
        at = testing.AppTest.from_function(alone, kwargs={"name": name}, default_timeout=PATIENCE)
    for key, value in {"lang": lang, **state}.items():
        at.session_state[key] = value
    at.run()
    assert not at.exception
    return at


def alone(name: str) -> None:
    """A script; the driver runs it without this module around it."""
    import importlib

    import streamlit

    from minimind.errors import UserError

    try:
        importlib.import_module(f"minimind.web.{name}").page()
    except UserError as error:
        streamlit.error(str(error))


@pytest.fixture(autouse=True)
def _there(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIMIND_RUNS", str(runs))
    monkeypatch.setattr("minimind.web.conversations.browser_id", lambda: None)  # as without cookies


def chat(*models: str, **state: Any) -> Any:
    at = open_page("chat")
    at.session_state["models"] = list(models)
    at.session_state["seed"] = 3
    at.session_state["longest"] = 12
    for name, value in state.items():
        at.session_state[name] = value
    return at.run()


def say(at: Any, text: str) -> Any:
    at.chat_input[0].set_value(text).run()
    assert not at.exception
    return at


def answers(at: Any) -> list[dict[str, list[dict[str, Any]]]]:
    """For each turn the messages by model."""
    return [{name: one.messages for name, one in turn.answers.items()} for turn in at.session_state["chat"].turns]


def test_a_conversation_is_the_models_own(runs: Path) -> None:
    at = say(say(chat("talker"), "the cat"), "a dog")
    model = Model(runs / "talker")
    first = model.chat([{"role": "user", "content": "the cat"}], seed=3, max_tokens=12)
    messages = [{"role": "user", "content": "the cat"}, first, {"role": "user", "content": "a dog"}]
    second = model.chat(messages, seed=3, max_tokens=12)
    assert answers(at) == [{"talker": [first]}, {"talker": [second]}]
    assert [message.name for message in at.chat_message] == ["user", "assistant", "user", "assistant"]
    assert "12 tokens" in at.caption[0].value
    assert not [button for button in at.button if button.key == "stop"]


def test_system_message_and_sampling_reach_the_model(runs: Path) -> None:
    at = say(chat("talker", system="old dog", temperature=1.5, top_k=9), "the cat")
    messages = [{"role": "system", "content": "old dog"}, {"role": "user", "content": "the cat"}]
    wanted = Model(runs / "talker").chat(messages, seed=3, max_tokens=12, temperature=1.5, top_k=9)
    assert answers(at) == [{"talker": [wanted]}]


def test_several_models_answer_side_by_side() -> None:
    at = say(chat("talker", "twin", "base"), "the cat")
    (turn,) = answers(at)
    assert list(turn) == ["talker", "twin", "base"]
    assert turn["talker"] == turn["twin"] != turn["base"]


def test_answer_again_and_edit_an_earlier_turn() -> None:
    at = say(say(chat("talker"), "the cat"), "a dog")
    before = answers(at)
    at.session_state["seed"] = 4
    at.run()
    at.button("again").click().run()
    assert answers(at)[0] == before[0]
    assert answers(at)[1] != before[1]
    at.button("edit-0").click().run()
    at.text_area[0].set_value("a red house")
    next(button for button in at.button if button.label == "Ask again").click().run()
    assert not at.exception
    assert [turn.text for turn in at.session_state["chat"].turns] == ["a red house"]
    assert answers(at)[0] != before[0]
    at.button("new").click().run()
    assert answers(at) == []


@pytest.fixture
def browser_id(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A browser that takes cookies; its conversations are kept apart from the other tests'."""
    monkeypatch.setattr("minimind.web.conversations.default_directory", lambda: tmp_path)
    monkeypatch.setattr("minimind.web.conversations.browser_id", lambda: "ab" * 16)
    return "ab" * 16


def titles(at: Any) -> list[str]:
    return [button.label for button in at.button if str(button.key).startswith("open-")]


def reload(at: Any) -> Any:
    """A new session at the same address."""
    fresh = testing.AppTest.from_file(APP, default_timeout=PATIENCE)
    fresh.session_state["lang"] = "en"
    for name, value in at.query_params.items():
        fresh.query_params[name] = value
    fresh.run()
    assert not fresh.exception
    return fresh


def test_a_conversation_survives_a_reload_and_is_renamed_and_deleted(browser_id: str, tmp_path: Path) -> None:
    at = say(chat("twin", system="old dog"), "the cat")
    before, back = answers(at), reload(at)
    assert answers(back) == before
    assert (back.multiselect(key="models").value, back.text_area(key="system").value) == (["twin"], "old dog")
    assert titles(back) == ["the cat"]
    id = back.query_params["c"]
    assert [file.stem for file in (tmp_path / "conversations" / browser_id).iterdir()] == [id]
    back.text_input(key=f"name-{id}").set_value("A *cat*").run()
    assert titles(back) == ["A \\*cat\\*"]
    back.button("new").click().run()
    assert answers(back) == []
    assert "c" not in back.query_params
    say(back, "a dog")
    assert titles(back) == ["a dog", "A \\*cat\\*"]
    back.button(f"open-{id}").click().run()
    assert answers(back) == before
    back.button(f"delete-{id}").click().run()
    assert not back.exception
    assert titles(back) == ["a dog"]
    assert answers(back) == []


def test_two_tabs_go_their_own_ways(browser_id: str) -> None:
    one = say(chat("twin"), "the cat")
    other = reload(one)
    say(say(one, "a dog"), "a red house")
    say(other, "old dog")
    assert [len(answers(tab)) for tab in (reload(one), reload(other))] == [3, 2]
    assert titles(other) == ["the cat \\(2\\)", "the cat"]


def test_another_browser_sees_none_of_it(browser_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at = say(chat("twin"), "the cat")
    monkeypatch.setattr("minimind.web.conversations.browser_id", lambda: "cd" * 16)
    other = reload(at)
    assert (answers(other), titles(other)) == ([], [])
    assert "another browser" in other.toast[0].value
    assert "c" not in other.query_params


@pytest.mark.parametrize("id", ["../../x", "x" * 5000, "ef" * 16])
def test_an_address_that_names_nothing_opens_a_new_conversation(browser_id: str, id: str) -> None:
    at = open_page("chat")
    at.query_params["c"] = id
    at = reload(at)
    assert answers(at) == []
    assert "another browser" in at.toast[0].value
    assert len(answers(say(at, "the cat"))) == 1


def test_a_damaged_file_stands_in_the_list_and_can_be_deleted(browser_id: str, tmp_path: Path) -> None:
    at = say(chat("twin"), "the cat")
    file = tmp_path / "conversations" / browser_id / f"{'ef' * 16}.json"
    file.write_text("{")
    at = at.run()
    assert sorted(titles(at)) == ["(damaged)", "the cat"]
    at.button(f"delete-{file.stem}").click().run()
    assert titles(at) == ["the cat"]
    assert len(answers(at)) == 1


def test_a_full_disk_is_said_and_the_conversation_goes_on(browser_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("minimind.web.history.write_text", full)
    at = say(chat("twin"), "the cat")
    assert "No space left" in at.toast[0].value
    assert len(answers(say(at, "a dog"))) == 2


def test_a_base_model_is_not_chosen_for_chatting(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (runs / "base/model/config.json").touch()  # the newest
    at = open_page("chat")
    assert at.multiselect(key="models").value == ["talker"]
    assert "base (base)" in at.multiselect(key="models").options
    (runs / "talker/model/config.json").touch()
    shutil.copytree(runs / "base", tmp_path / "base")
    monkeypatch.setenv("MINIMIND_RUNS", str(tmp_path))
    at = open_page("chat")
    assert at.multiselect(key="models").value == []
    assert "goes on with a text" in at.caption[0].value


def test_probabilities_show_every_token() -> None:
    at = say(chat("talker", probabilities=True), "the cat")
    shown = next(one for one in html(at) if "mm tokens" in one)
    answer = at.session_state["chat"].turns[0].answers["talker"]
    assert shown.count('class="token"') == len(answer.shown) > 3


def test_a_message_that_is_too_long_is_said_in_one_sentence() -> None:
    at = say(chat("talker"), "the cat sees the dog " * 200)
    assert "the message is too long" in at.error[0].value


def test_a_servers_model_calls_a_tool_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from minimind.tools import Limits, open_tools
    from minimind.web import settings as settings_page

    (tmp_path / "mine.py").write_text(
        'def greet(name: str) -> str:\n    "Greet"\n    return f"Hello {name}" * 99\n'
    )
    with stub_server() as stub, open_tools([str(tmp_path / "mine.py")], Limits(seconds=30)) as named:
        monkeypatch.setattr(settings_page, "named_tools", named)
        stub.answers = [[call(name="greet", arguments='{"name": "you"}'), DONE], [event(content="Done."), DONE]] * 2
        name = f"small @ {stub.host}"
        at = say(chat(name, server=stub.url, tools=["greet"]), "Greet me")
        assert not at.error
        (turn,) = answers(at)
        assert [message["content"] for message in turn[name]] == ["", "Hello you" * 99, "Done."]
        assert "greet" in "".join(html(at))
        assert [tool["function"]["name"] for tool in stub.asked[0]["tools"]] == ["greet"]
        # Beside a model with a context of 256 tokens, results are cut to leave it room.
        at = say(chat(name, "talker", server=stub.url, tools=["greet"]), "Greet me")
        assert "cut off after 128 characters" in answers(at)[0][name][1]["content"]


def test_a_server_that_does_not_answer_is_said_in_its_place() -> None:
    at = chat("talker", server="http://127.0.0.1:9")
    assert "http://127.0.0.1:9/v1 cannot be reached" in at.error[0].value
    assert answers(say(at, "the cat"))


def test_the_page_follows_the_language() -> None:
    at = open_page("runs", "zh")
    assert at.title[0].value == "训练"
    assert at.subheader[0].value == "学习过程中的样例"


def test_runs_show_figures_curves_and_samples(runs: Path) -> None:
    at = open_page("runs")
    assert at.multiselect[0].value == ["base"]
    assert len(at.get("vega_lite_chart")) == 5
    assert len(at.selectbox[0].options) == 2
    assert "step 12" in "".join(html(at))
    assert "batch.tokens_per_step" in "".join(html(at))


def test_samples_with_any_line_ends_are_shown_and_damaged_files_are_no_harm(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "base"
    shutil.copytree(runs / "base", run)
    strange = [{"role": "user", "content": "a\u2028b"}, {"role": "assistant", "content": "c\u2029d\x85e<script>"}]
    line = json.dumps({"step": 60, "conversations": strange}, ensure_ascii=False)
    (run / "samples.jsonl").write_bytes(f"{line}\n{line}".encode()[:-1])
    with (run / "metrics.jsonl").open("ab") as metrics:
        metrics.write(
            '{"step": 99, "tokens": "many", "loss": [1]}\n{"step": 100, "loss": 1e999}\n{"文'.encode()[:-1]
        )
    (run / "state.json").write_text('{"started": 1e300, "total_steps": "x", "status": ["finished"]}')
    monkeypatch.setenv("MINIMIND_RUNS", str(tmp_path))
    at = open_page("runs")
    assert at.selectbox[0].options == ["a b"]
    assert "c\u2029d\x85e&lt;script&gt;" in "".join(html(at))


def test_data_shows_what_is_learned_and_how_it_is_packed(runs: Path, chat_file: Path, corpus: Path) -> None:
    assert open_page("data").selectbox[0].value == str(corpus)  # what the training read
    at = open_page("data", file=str(chat_file), seq_len=64)
    document, mask = html(at)[0], Model(runs / "talker").tokenizer.encode_chat(first_chat(chat_file))[1]
    assert f"{len(mask)} tokens, {sum(mask)} of them learned" in at.caption[0].value
    assert 'class="trained"' in document
    assert 'class="trained control">&lt;|im_end|&gt;' in document
    widths = [float(width) for width in re.findall(r"width:([\d.]+)%", html(at)[-1])]
    assert html(at)[-1].count('class="row"') == 24
    assert 0.9 * 2400 < sum(widths) <= 2400.1  # nearly full rows
    at = open_page("data", file="/no/such/file.jsonl")
    assert at.error[0].value == "/no/such/file.jsonl does not exist; check the path"


def first_chat(file: Path) -> list[dict[str, Any]]:
    chat: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8").splitlines()[0])["conversations"]
    return chat


def html(at: Any) -> list[str]:
    return [one.proto.body for one in at.get("html")]


def test_models_show_parameters_and_attention(runs: Path) -> None:
    at = open_page("models")
    config = Model(find_models(runs)[at.selectbox[0].value]).model.config
    pictures = config.num_hidden_layers * config.num_attention_heads
    assert "".join(html(at)).count("<figure>") == pictures
    at.selectbox[0].set_value("minimind-3-moe").run()
    assert not at.exception
    assert "4 experts, 1 used" in "".join(html(at))
    assert "<figure>" not in "".join(html(at))


def test_an_empty_directory_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIMIND_RUNS", str(tmp_path))
    for page in ("chat", "runs", "data"):
        at = open_page(page)
        said = [one.value for one in [*at.info, *at.error]]
        assert any("minimind quickstart" in one for one in said), page
    assert open_page("models").selectbox[0].options
