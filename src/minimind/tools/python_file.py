"""Functions of a Python file as tools. The file runs in a process of its own, within limits, once a call."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from minimind.errors import UserError
from minimind.tools import worker
from minimind.tools.tool import Limits, Tool, ToolError


def python_file_tools(file: Path, limits: Limits) -> list[Tool]:
    """The public functions of the file. UserError where it cannot be run or a function cannot be described."""
    if not file.is_file():
        raise UserError(f"{file} does not exist; name a Python file with functions")
    try:
        found = _run(file, limits)["tools"]
    except ToolError as error:
        raise UserError(f"{file} gives no tools: {error}") from None
    if not found:
        raise UserError(f"{file} defines no function; a tool is a function with type hints and a docstring")
    return [Tool(**one, run=partial(call, file, limits, one["name"])) for one in found]


def call(file: Path, limits: Limits, name: str, arguments: dict[str, Any]) -> str:
    """What a function of the file says. ToolError where it says nothing."""
    return _run(file, limits, name=name, arguments=arguments)["text"]


def _run(file: Path, limits: Limits, **call: Any) -> dict[str, Any]:
    """The worker's reply. ToolError where there is none, or where it is an error."""
    request = json.dumps({"file": str(file.resolve()), **asdict(limits), **call})
    ours = {} if limits.isolated else os.environ
    with tempfile.TemporaryDirectory() if limits.isolated else contextlib.nullcontext() as folder:
        # -P: the worker's own folder is no place to import from. One thread: each takes address space.
        process = subprocess.Popen(
            [sys.executable, "-P", worker.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**ours, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            cwd=folder,
            start_new_session=True,
        )
        try:
            out, _ = process.communicate(request.encode(), timeout=limits.seconds)
        except subprocess.TimeoutExpired:
            raise ToolError(f"it took longer than {limits.seconds:g} seconds and was stopped") from None
        finally:
            _end(process)
    if not out:
        raise ToolError(_how_it_ended(process.returncode))
    reply = json.loads(out)
    if "error" in reply:
        raise ToolError(reply["error"])
    return reply


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and all that it started, and wait for it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: not permitted for zombies
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()


def _how_it_ended(code: int) -> str:
    if code == -getattr(signal, "SIGXCPU", 0):
        return "it took too much processor time and was stopped"
    if code < 0:
        return f"it was ended by signal {signal.Signals(-code).name}"
    return f"it ended the program with exit code {code}"
