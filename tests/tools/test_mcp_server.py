"""A real MCP server, as a command and over HTTP."""

from __future__ import annotations

import asyncio
import json
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("mcp", reason="mcp is not installed")

from minimind.errors import UserError
from minimind.tools import Limits, Toolbox, open_tools
from minimind.tools.mcp_server import _list
from minimind.util.system import is_alive

SERVER = Path(__file__).parent / "mcp_server.py"


def command(*arguments: str) -> str:
    return "mcp:" + shlex.join([sys.executable, str(SERVER), *arguments])


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toolbox]:
    mark = str(tmp_path_factory.mktemp("mcp") / "server")
    with open_tools([command("$(touch evil); `ls` | cat", mark)], Limits(seconds=1.5, characters=60)) as toolbox:
        yield toolbox


def test_its_tools_are_offered(tools: Toolbox) -> None:
    described = {schema["function"]["name"]: schema["function"] for schema in tools.schemas}
    assert list(described) == ["add", "sleep", "fail", "ramble", "shell", "leave"]
    assert described["add"]["description"] == "Add two numbers"
    assert described["add"]["parameters"]["properties"]["a"]["type"] == "integer"


@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [
        ("add", {"a": 17, "b": 25}, "42"),
        ("ramble", {}, "x" * 60 + "… (cut off after 60 characters)"),
        ("sleep", {}, {"error": "it took longer than 1.5 seconds and was stopped"}),
        ("add", {"a": 1, "b": 2}, "3"),
        ("add", {"a": "1", "b": 2}, {"error": 'a must be integer, not "1"'}),
    ],
)
def test_calls(tools: Toolbox, name: str, arguments: dict[str, object], answer: object) -> None:
    answered = tools.call(name, arguments)
    assert (answered if isinstance(answer, str) else json.loads(answered)) == answer


def test_a_failure_of_the_tool_is_an_error(tools: Toolbox) -> None:
    assert "fail" in json.loads(tools.call("fail", {}))["error"]


def test_the_command_is_not_given_to_a_shell(tools: Toolbox) -> None:
    assert tools.call("shell", {}).startswith("$(touch evil); `ls` | cat ")


def test_a_server_that_ends_is_an_error(tmp_path: Path) -> None:
    with open_tools([command(str(tmp_path / "server"))], Limits(seconds=2)) as tools:
        assert "error" in json.loads(tools.call("leave", {}))
        assert "error" in json.loads(tools.call("add", {"a": 1, "b": 2}))


def test_over_http() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.executable, str(SERVER), str(port)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            time.sleep(0.1)
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
        with open_tools([f"mcp:http://127.0.0.1:{port}/mcp", "calculate"]) as tools:
            assert list(tools.tools)[-2:] == ["leave", "calculate"]
            assert tools.call("add", {"a": 17, "b": 25}) == "42"
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("no-such-command", "the MCP server 'no-such-command' gives no tools: [Errno 2] No such file or directory"),
        ("false", "the MCP server 'false' gives no tools: Connection closed"),
        (
            "http://127.0.0.1:9/mcp",
            "the MCP server 'http://127.0.0.1:9/mcp' gives no tools: All connection attempts",
        ),
        ("'", 'the MCP server "\'" gives no tools: No closing quotation'),
        (f"{sys.executable} -c 'raise SystemExit(\"no key\")'", "gives no tools: no key"),
    ],
)
def test_a_server_that_is_none(target: str, sentence: str) -> None:
    with pytest.raises(UserError) as error, open_tools([f"mcp:{target}"]):
        pass
    assert sentence in str(error.value)


def test_a_list_of_tools_that_does_not_end_is_left() -> None:
    class Endless:
        async def list_tools(self, cursor: str | None) -> SimpleNamespace:
            return SimpleNamespace(tools=[], next_cursor="more")

    with pytest.raises(ValueError, match="does not end after 100 pages"):
        asyncio.run(_list(Endless()))  # type: ignore[arg-type]


def test_the_server_ends_with_the_block_and_an_error_in_it_is_not_the_servers(tmp_path: Path) -> None:
    def fail_inside() -> None:
        with open_tools([command(str(tmp_path / "server"))]):
            assert is_alive(int((tmp_path / "server.pid").read_text()))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert not is_alive(int((tmp_path / "server.pid").read_text()))
