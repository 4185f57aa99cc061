"""`minimind web` as typed: what it refuses before a server starts."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from tests.helpers import free_port

from minimind.cli import main


def test_mistakes_are_answered_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["web", "--port", port]) == 2
        assert f"cannot listen at 127.0.0.1 port {port}" in capsys.readouterr().err
    assert main(["web", "--port", "70000"]) == 2
    assert "expected a whole number from 0 to 65,535, got '70000'" in capsys.readouterr().err
    assert main(["web", "--port", "0"]) == 2
    assert "a port is a number from 1 to 65535" in capsys.readouterr().err
    assert main(["web", "--host", "no.such.host.invalid"]) == 2
    assert "cannot listen at no.such.host.invalid" in capsys.readouterr().err
    assert main(["web", "--runs", str(tmp_path / "nowhere")]) == 2
    assert "is no directory" in capsys.readouterr().err


def test_a_tool_that_is_not_there_is_told_before_a_server_starts(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("streamlit")
    assert main(["web", "--port", free_port(), "--tools", "dates.py"]) == 2
    assert capsys.readouterr().err == "error: dates.py does not exist; name a Python file with functions\n"


def test_the_server_is_private() -> None:
    from minimind.commands.web import server_options

    options = server_options("127.0.0.1", 8501)
    assert options["server.address"] == "127.0.0.1"
    assert options["browser.gatherUsageStats"] is False
    assert options["server.headless"] is True
    assert "*" not in options["server.allowedHosts"]
