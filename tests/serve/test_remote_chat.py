"""`minimind chat --url` with the server of `minimind serve`."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator

import pytest
from tests.serve.conftest import CALLS, LESSONS, WEATHER, Served, serve

from minimind import Model
from minimind.cli import main
from minimind.infer.remote import RemoteConversation, Server
from minimind.infer.sampler import SamplingParams

GREEDY = ["--temperature", "0"]


@pytest.fixture(scope="module")
def guarded(learned: Model) -> Iterator[Served]:
    with serve(learned, api_keys=("secret",)) as server:
        yield server


def test_one_answer(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    for lesson in LESSONS[:2]:
        assert main(["chat", "--url", served.url + "/v1/", *GREEDY, "--prompt", lesson["ask"]]) == 0
        assert capsys.readouterr().out == lesson["content"] + "\n"


def test_thinking(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", "--url", served.url + "/v1", "--think", *GREEDY, "--prompt", "the bird"]) == 0
    assert capsys.readouterr().out == "old red river\nfinds a small house\n"


def test_a_conversation_goes_on(
    served: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("the cat\n/set max_tokens 9\nand then\n"))
    assert main(["chat", "--url", served.url + "/v1", "--seed", "3", *GREEDY, "--model", "tiny"]) == 0
    turns = [{"role": "user", "content": "the cat"}, {"role": "assistant", "content": LESSONS[0]["content"]}]
    wanted = served.model.chat([*turns, {"role": "user", "content": "and then"}], temperature=0, max_tokens=9)
    assert capsys.readouterr().out == LESSONS[0]["content"] + "\n" + wanted["content"] + "\n"


def test_an_answer_broken_off_is_kept_and_its_place_is_free(served: Served) -> None:
    conversation = RemoteConversation(Server(served.url + "/v1"), "tiny", SamplingParams(temperature=0))
    answer = conversation.say("the cat")
    heard = next(answer).text
    answer.close()
    assert conversation.messages[-1] == {"role": "assistant", "content": heard}
    served.wait_until_idle()


def test_tool_calls(served: Served) -> None:
    conversation = RemoteConversation(Server(served.url + "/v1"), "tiny", SamplingParams(temperature=0))
    asked = conversation._ask([{"role": "user", "content": "both"}], [WEATHER])
    parts = []
    while True:
        try:
            parts.append(next(asked))
        except StopIteration as stop:
            message = stop.value
            break
    assert "".join(part.text for part in parts) == message["content"] == "a cat"
    assert [part.call for part in parts if part.call] == CALLS
    assert len({call["id"] for call in message["tool_calls"]}) == 2


def test_a_key(guarded: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["chat", "--url", guarded.url + "/v1", *GREEDY, "--prompt", "the cat"]
    assert main(command) == 2
    assert "answers with status 401: give one of the server's API keys" in capsys.readouterr().err
    assert main([*command, "--api-key", "secret"]) == 0
    monkeypatch.setenv("MINIMIND_API_KEY", "secret")
    assert main(command) == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--url", "nowhere"], "error: nowhere is no address of a server; give one as http://127.0.0.1:8000/v1"),
        (["--url", "http://127.0.0.1:9/v1"], "error: http://127.0.0.1:9/v1 cannot be reached: "),
        (["--url", "{url}"], "error: {url}/models answers with status 404: there is no /models here"),
        (
            ["--url", "{url}/v1", "--model", "huge"],
            "error: {url}/v1/chat/completions answers with status 404: there is",
        ),
        (["--url", "{url}/v1", "runs/chat"], "error: --url asks a server, not runs/chat"),
        (["--url", "{url}/v1", "--temperature", "-1"], "error: temperature must be 0 or more, not -1.0"),
    ],
)
def test_mistakes_are_one_sentence(
    served: Served, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    words = [word.format(url=served.url) for word in arguments]
    assert main(["chat", *words, "--prompt", "the cat"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(sentence.format(url=served.url))
    assert printed.count("\n") == 1
