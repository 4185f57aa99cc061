"""`minimind chat --url` with the server of `minimind serve`."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.pupil import LESSONS
from tests.serve.conftest import Served, process, serve

from minimind import Model
from minimind.cli import main
from minimind.errors import UserError
from minimind.infer.conversation import Conversation
from minimind.infer.remote import RemoteBackend, Server
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
    conversation = Conversation(RemoteBackend(Server(served.url), "tiny"), params=SamplingParams(temperature=0))
    answer = conversation.say("the cat")
    heard = next(answer).text
    answer.close()
    assert conversation.messages[-1] == {"role": "assistant", "content": heard}
    served.wait_until_idle()


SEES_FILE = """
from typing import Literal

def sees(a: Literal["cat", "dog"]) -> str:
    "Look at it"
    return {"cat": "red", "dog": "big"}[a]
"""


def test_a_turn_with_tools(pupil: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The server's model calls twice, functions of a file are run here, and it goes on with what they gave."""
    (tmp_path / "mine.py").write_text(SEES_FILE)
    with process(str(pupil)) as (_, url):
        command = ["chat", "--url", url + "/v1", *GREEDY, "--prompt", "both", "--tools", str(tmp_path / "mine.py")]
        assert main(command) == 0
    assert capsys.readouterr().out.splitlines() == [
        "a cat",
        '→ sees(a="cat")',
        '→ sees(a="dog")',
        "← red",
        "← big",
        "the red cat and the big dog",
    ]


def test_a_server_that_dies_in_the_middle_of_an_answer(endless: Path) -> None:
    with process(str(endless)) as (server, url):
        params = SamplingParams(temperature=0, max_tokens=8000)
        conversation = Conversation(RemoteBackend(Server(url), endless.name), params=params)
        answer = conversation.say("the cat")
        next(answer)
        server.kill()
        with pytest.raises(UserError, match=f"{url}/v1 (broke off|ended in the middle)"):
            list(answer)
    assert conversation.messages == []


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
        (["--url", "{url}/v2"], "error: {url}/v2/models answers with status 404: there is no /v2/models here"),
        (
            ["--url", "{url}/v1", "--model", "huge"],
            "error: {url}/v1/chat/completions answers with status 404: there is",
        ),
        (["--url", "{url}/v1", "runs/chat"], "error: --url asks a server, not runs/chat"),
        (["--url", "{url}/v1", "--device", "cpu"], "error: --url asks a server, which says itself how it computes"),
        (["--model", "tiny"], "error: --model and --api-key are about a server: say with --url where it is"),
        (["--url", "{url}/v1", "--temperature", "-1"], "error: temperature must be a number from 0 to 1,000"),
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
