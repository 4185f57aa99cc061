"""`minimind serve` as typed: started, asked with curl, ended by signals."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.pupil import LESSONS
from tests.serve.conftest import Served, process

from minimind.cli import main
from minimind.serve.server import Seldom

ASK = {"messages": [{"role": "user", "content": "the cat"}], "temperature": 0}


def read(url: str, body: dict[str, Any], heard: list[str], begun: threading.Event) -> None:
    try:
        with httpx.stream(
            "POST", url + "/v1/chat/completions", json={**body, "stream": True}, timeout=60
        ) as response:
            for line in response.iter_lines():
                heard.append(line)
                begun.set()
    except httpx.TransportError as error:
        heard.append(type(error).__name__)


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_asked_with_curl(served: Served) -> None:
    url = f"{served.url}/v1/chat/completions"
    curl = ["curl", "-sS", "-N", url, "-H", "Content-Type: application/json", "-d"]
    whole = subprocess.run([*curl, json.dumps(ASK)], capture_output=True, text=True).stdout
    answer = json.loads(whole)["choices"][0]
    assert (answer["message"]["content"], answer["finish_reason"]) == (LESSONS[0]["content"], "stop")
    streamed = subprocess.run([*curl, json.dumps({**ASK, "stream": True})], capture_output=True, text=True).stdout
    events = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: {")]
    said = "".join(choice["delta"].get("content", "") for event in events for choice in event["choices"])
    assert said == LESSONS[0]["content"]
    assert streamed.endswith("data: [DONE]\n\n")


def test_sigterm_lets_answers_finish(endless: Path) -> None:
    with process(str(endless), "--name", "talker") as (server, url):
        heard: list[str] = []
        begun = threading.Event()
        reader = threading.Thread(target=read, args=(url, {**ASK, "max_tokens": 400}, heard, begun))
        reader.start()
        assert begun.wait(60)
        before = len(heard)
        server.send_signal(signal.SIGTERM)
        while True:  # new requests are refused while the answer goes on
            try:
                httpx.get(url + "/health")
            except httpx.TransportError:
                break
        assert server.wait(60) == 0
        reader.join()
        assert len(heard) > before
        assert heard[-2:] == ["data: [DONE]", ""]


@pytest.mark.parametrize(("seconds", "signals"), [("1", 1), ("60", 2)])
def test_an_end_comes_in_bounded_time(endless: Path, seconds: str, signals: int) -> None:
    """After `--shutdown-timeout`, or at a second Ctrl-C, clients are told, and nothing is left behind."""
    with process(str(endless), "--shutdown-timeout", seconds) as (server, url):
        heard: list[str] = []
        begun = threading.Event()
        reader = threading.Thread(target=read, args=(url, {**ASK, "max_tokens": 8000}, heard, begun))
        reader.start()
        assert begun.wait(60)
        for _ in range(signals):
            server.send_signal(signal.SIGINT)
            time.sleep(0.5)
        assert server.wait(20) == 0
        reader.join()
        assert server.stderr is not None
        assert server.stderr.read() == ""
    error = json.loads(heard[-2].removeprefix("data: "))["error"]
    assert error["message"] == "the server is shutting down; ask again later"


def test_nonsense_does_not_fill_the_log(endless: Path) -> None:
    with process(str(endless)) as (server, url):
        for _ in range(50):
            with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as connection:
                connection.sendall(b"\x16\x03\x01 no HTTP\r\n\r\n")
                connection.recv(1000)
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
        assert server.stderr is not None
        assert server.stderr.read().count("\n") == 1


def test_warnings_of_one_kind_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    seldom, shown = Seldom(), []
    for _ in range(125):
        record = logging.LogRecord("uvicorn.error", logging.WARNING, "h11.py", 184, "Invalid.", None, None)
        if seldom.filter(record):
            shown.append(record.getMessage())
        now += 1
    assert shown == ["Invalid.", *["Invalid. (59 more of these since the last one shown)"] * 2]
    fault = logging.LogRecord("uvicorn.error", logging.ERROR, "h11.py", 184, "Fault.", None, None)
    assert seldom.filter(fault)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "error: nowhere is no directory"),
        (["{model}", "--port", "99999"], "error: argument --port: expected a whole number from 0 to 65,535"),
        (
            ["{model}", "--port", "{taken}"],
            "error: cannot listen at 127.0.0.1 port {taken}: Address already in use",
        ),
        (["{model}", "--host", "no.such.host.invalid"], "error: cannot listen at no.such.host.invalid port 0: "),
        (["{model}", "--api-key", " a"], "error: an API key must be printable ASCII"),
        (["{model}", "--api-key", "钥匙"], "error: an API key must be printable ASCII"),
        (["{model}", "--api-key-file", "{model}/nothing"], "error: --api-key-file {model}/nothing cannot be read"),
        (["{model}", "--max-waiting", "-1"], "error: argument --max-waiting: '-1' is not a whole number"),
        (["{model}", "--batch", "0"], "error: argument --batch: expected a whole number from 1 to"),
    ],
)
def test_mistakes_are_one_sentence(
    endless: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        places = {"model": str(endless), "taken": str(taken.getsockname()[1])}
        assert main(["serve", "--port", "0", *(word.format(**places) for word in arguments)]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(sentence.format(**places))
    assert printed.count("\n") == 1


def test_keys_come_from_flags_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from minimind.commands.serve import _parser, api_keys

    (tmp_path / "keys").write_text("one\n\ntwo \n", encoding="utf-8")
    parse = _parser().parse_args
    monkeypatch.setenv("MINIMIND_API_KEY", "secret")
    assert api_keys(parse([])) == ("secret",)
    flags = ["--api-key", "zero", "--api-key-file", str(tmp_path / "keys")]
    assert api_keys(parse(flags)) == ("zero", "one", "two")
    monkeypatch.delenv("MINIMIND_API_KEY")
    assert api_keys(parse([])) == ()


def test_help_needs_neither_torch_nor_fastapi() -> None:
    code = "import sys; from minimind.cli import main; main(['serve', '--help']); "
    code += "print({'torch', 'fastapi'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ).stdout
    assert "examples:" in out
    assert out.endswith("set()\n")
