"""Functions of a user's file: their schemas, and what happens to calls that fail, hang or grow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from minimind.errors import UserError
from minimind.tools import Limits, Toolbox, open_tools
from minimind.tools.python_file import python_file_tools

TOOLS = '''
import os, subprocess, sys, time
from datetime import date
from typing import Literal

print("printed while the file is read")


def days_between(first: str, second: str) -> int:
    """Days from one date to another,
    in whole numbers.

    first: a date such as 2026-01-31
    second (str): another one
    """
    return (date.fromisoformat(second) - date.fromisoformat(first)).days


async def describe(kind: Literal["cat", "dog"], names: list[str], size: float = 1.5, note: str | None = None):
    "Describe pets"
    return {"kind": kind, "names": names, "size": size, "note": note, "day": date(2026, 1, 2)}


def sleep() -> str:
    "Sleep"
    time.sleep(60)


def spin() -> str:
    "Compute for ever"
    while True:
        pass


def allocate() -> int:
    "Take 10 GB"
    return len(bytearray(10 << 30))


def shout() -> str:
    "Print 10 MB"
    print("x" * 10_000_000)
    os.write(1, b"y" * 1_000_000)
    print("z" * 10_000_000, file=sys.stderr)
    return "done"


def ramble() -> str:
    "Return 10 MB"
    return "字" * 10_000_000


def leave(code: int) -> None:
    "Exit"
    sys.exit(code)


def vanish() -> None:
    "Exit at once"
    os._exit(7)


def crash() -> None:
    "Be killed"
    os.kill(os.getpid(), 11)


def fail() -> None:
    "Raise"
    raise ValueError("no such pet: 🐉 \\ud800")


def recurse() -> None:
    "Recurse"
    recurse()


def listen() -> str:
    "Read stdin"
    return sys.stdin.read() + "nothing"


def leave_a_child_behind() -> int:
    "Start a process"
    return subprocess.Popen(["sleep", "300"]).pid


def sleep_with_a_child(file: str) -> None:
    "Start a process and sleep"
    with open(file, "w") as out:
        out.write(str(subprocess.Popen(["sleep", "300"]).pid))
    time.sleep(60)


def _helper(x):
    return x
'''


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tools") / "my tools.py"
    path.write_text(TOOLS, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tools(file: Path) -> Toolbox:
    limits = Limits(seconds=30, characters=50)
    return Toolbox(python_file_tools(file, limits), limits)


def hasty(file: Path, seconds: float) -> Toolbox:
    """The tools, found at leisure and called in haste."""
    return Toolbox(python_file_tools(file, Limits(seconds=seconds)), Limits(seconds=seconds))


def test_schemas_come_from_hints_and_docstrings(tools: Toolbox) -> None:
    described = {schema["function"]["name"]: schema["function"] for schema in tools.schemas}
    assert list(described)[:3] == ["days_between", "describe", "sleep"]
    assert "_helper" not in described
    assert "date" not in described
    assert described["days_between"] == {
        "name": "days_between",
        "description": "Days from one date to another, in whole numbers.",
        "parameters": {
            "type": "object",
            "properties": {
                "first": {"type": "string", "description": "a date such as 2026-01-31"},
                "second": {"type": "string", "description": "another one"},
            },
            "required": ["first", "second"],
        },
    }
    assert described["describe"]["parameters"] == {
        "type": "object",
        "properties": {
            "kind": {"type": "string", "enum": ["cat", "dog"]},
            "names": {"type": "array", "items": {"type": "string"}},
            "size": {"type": "number", "default": 1.5},
            "note": {"type": "string"},
        },
        "required": ["kind", "names"],
    }


def test_calls(tools: Toolbox) -> None:
    assert tools.call("days_between", {"first": "2026-01-01", "second": "2026-11-25"}) == "328"
    wide = Toolbox(list(tools.tools.values()))
    answer = wide.call("describe", {"kind": "cat", "names": ["Tom"]})
    assert answer.startswith('{"kind": "cat", "names": ["Tom"], "size": 1.5')


@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [
        ("shout", {}, "done"),
        ("listen", {}, "nothing"),
        ("ramble", {}, "字" * 50 + "… (cut off after 50 characters)"),
        ("allocate", {}, {"error": "it needed more than 2 GiB of memory"}),
        ("leave", {"code": 3}, {"error": "it ended the program with exit code 3"}),
        ("vanish", {}, {"error": "it ended the program with exit code 7"}),
        ("crash", {}, {"error": "it was ended by signal SIGSEGV"}),
        ("fail", {}, {"error": "ValueError: no such pet: 🐉 ?"}),
        ("recurse", {}, {"error": "RecursionError: maximum recursion depth exceeded"}),
        ("leave", {}, {"error": "arguments must have code"}),
        ("describe", {"kind": "cow", "names": []}, {"error": 'kind must be "cat" or "dog", not "cow"'}),
        ("describe", {"kind": "cat", "names": [1]}, {"error": "names[0] must be string, not 1"}),
        (
            "days_between",
            {"first": "x", "second": "2026-01-01"},
            {"error": "ValueError: Invalid isoformat string: 'x'"},
        ),
    ],
)
def test_whatever_happens_is_text(tools: Toolbox, name: str, arguments: dict[str, object], answer: object) -> None:
    answered = tools.call(name, arguments)
    assert (answered if isinstance(answer, str) else json.loads(answered)) == answer


@pytest.mark.parametrize("name", ["sleep", "spin"])
def test_a_call_that_does_not_end_is_stopped(file: Path, name: str) -> None:
    tools = hasty(file, 2)
    start = time.monotonic()
    assert tools.call(name, {}) == '{"error": "it took longer than 2 seconds and was stopped"}'
    assert time.monotonic() - start < 10


def is_gone(pid: int) -> bool:
    """Whether a process ends at once; it may have no parent left to bury it."""
    for _ in range(50):
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
        if not state or state.startswith("Z"):
            return True
        time.sleep(0.1)
    return False


def test_nothing_that_a_tool_started_is_left(file: Path, tools: Toolbox, tmp_path: Path) -> None:
    pid = int(tools.call("leave_a_child_behind", {}))
    assert is_gone(pid)
    hasty(file, 2).call("sleep_with_a_child", {"file": str(tmp_path / "pid")})
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_ctrl_c_ends_the_tool_too(file: Path, tmp_path: Path) -> None:
    tools = hasty(file, 30)

    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(2)
    try:
        with pytest.raises(KeyboardInterrupt):
            tools.call("sleep_with_a_child", {"file": str(tmp_path / "pid")})
    finally:
        signal.signal(signal.SIGALRM, before)
    if (tmp_path / "pid").exists():
        assert is_gone(int((tmp_path / "pid").read_text()))


def test_the_file_may_use_its_neighbours_but_not_ours(tmp_path: Path) -> None:
    (tmp_path / "units.py").write_text("BASE = 7\n")
    (tmp_path / "mine.py").write_text('import units\n\ndef base() -> int:\n    "Give 7"\n    return units.BASE\n')
    with open_tools([str(tmp_path / "mine.py")]) as tools:
        assert tools.call("base", {}) == "7"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = 1", "defines no function; a tool is a function with type hints and a docstring"),
        ("def f(x", "SyntaxError: '(' was never closed"),
        ("import nothing_here", "No module named 'nothing_here'"),
        ("def f() -> int: return 1", "f has no docstring; say in it what the function does"),
        ('def f(x):\n    "F"', "the parameter x of f has no type hint"),
        ('def f(x: bytes):\n    "F"', "the parameter x of f has the type <class 'bytes'>; a tool takes str, int"),
        ('def f(*x: int):\n    "F"', "the parameter x of f cannot be given by name"),
        ('def f(x: "Y"):\n    "F"', "name 'Y' is not defined"),
        ("raise SystemExit(5)", "it ended the program with exit code 5"),
        ("import time; time.sleep(60)", "it took longer than 2 seconds and was stopped"),
    ],
)
def test_a_file_without_tools_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "tools.py").write_text(text)
    seconds = 2 if "sleep" in text else 30
    with pytest.raises(UserError) as error, open_tools([str(tmp_path / "tools.py")], Limits(seconds=seconds)):
        pass
    assert str(error.value).startswith(str(tmp_path / "tools.py"))
    assert sentence in str(error.value)


def test_the_file_is_never_run_here(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text('import os\n\ndef where() -> int:\n    "Process"\n    return os.getpid()\n')
    with open_tools([str(tmp_path / "tools.py")]) as tools:
        assert len({tools.call("where", {}), tools.call("where", {}), str(os.getpid())}) == 3
