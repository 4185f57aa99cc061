"""The process that runs one function of a user's file within limits; `python_file` starts it.

It needs the standard library only, so it starts fast and leaves the memory to the tool. A request comes as JSON on
stdin, the reply goes as JSON to stdout: {"tools": […]}, {"text": …} or {"error": …}. What the tool prints is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib.util
import inspect
import json
import os
import re
import signal
import sys
import threading
import time
import types
import typing
from collections.abc import Callable
from typing import Any

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000  # as in sched.h
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
REFUSED = (
    "socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.kill", "pty.",
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
    "os.chown", "os.utime", "os.putenv", "shutil.", "ctypes.", "mmap.", "signal.", "sys.addaudithook", "resource.",
)  # fmt: skip
"""beginnings of the names of Python's audit events"""
SIMPLE = {str: "string", int: "integer", float: "number", bool: "boolean", list: "array", dict: "object"}


def main() -> None:
    parent = os.getppid()
    request = json.load(sys.stdin)
    if request["isolated"]:
        leave_network()  # before there is a second thread
    threading.Thread(target=end_with, args=[parent], daemon=True).start()
    reply_to = os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    limit_resources(request["seconds"], request["memory"], request["isolated"])
    out = open(reply_to, "w", encoding="utf-8")  # noqa: SIM115 (before nothing more may be opened)
    if request["isolated"]:
        sys.addaudithook(refuse)
    try:
        reply = answer(request)
    except MemoryError:
        reply = {"error": f"it needed more than {request['memory'] / 2**30:.3g} GiB of memory"}
    except SystemExit as stop:
        reply = {"error": f"it ended the program with exit code {stop.code}"}
    except BaseException as error:
        reply = {"error": f"{type(error).__name__}: {error}"[: request["characters"]]}
    with out:
        json.dump(reply, out)


def end_with(parent: int) -> None:
    """End this process and what it started when the one that started it was killed, and so cannot end it.

    On Windows nobody tells that a parent has ended.
    """
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(0, signal.SIGKILL)


def leave_network() -> None:
    """Be in a network of one's own without a way out, where the system lets anybody have one (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).unshare(CLONE_NEWUSER | CLONE_NEWNET)


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """What code of a model's own may not do, wherever the system's own walls are."""
    if event.startswith(REFUSED) or (event == "open" and arguments[2] & WRITING):
        raise PermissionError(f"{event} is not allowed here")


def limit_resources(seconds: float, memory: int, isolated: bool) -> None:
    """Processor time and memory of this process, where the system can limit them; isolated, it starts no process
    and writes no file, whatever Python's audit events miss."""
    try:
        import resource
    except ImportError:  # Windows: only the parent's clock limits there
        return
    limits = {resource.RLIMIT_CPU: int(seconds) + 1, resource.RLIMIT_AS: memory, resource.RLIMIT_CORE: 0}
    if isolated:
        limits |= {resource.RLIMIT_NPROC: 0, resource.RLIMIT_FSIZE: 0}
    for kind, limit in limits.items():
        with contextlib.suppress(OSError, ValueError):  # macOS does not limit the address space
            resource.setrlimit(kind, (limit, limit))


def answer(request: dict[str, Any]) -> dict[str, Any]:
    functions = load_functions(request["file"])
    if "name" not in request:
        return {"tools": [describe(function) for function in functions.values()]}
    result = functions[request["name"]](**request["arguments"])
    if inspect.isawaitable(result):
        result = asyncio.run(_wait_for(result))
    return {"text": as_text(result)[: request["characters"] + 1]}


async def _wait_for(result: typing.Awaitable[Any]) -> Any:
    return await result


def as_text(result: Any) -> str:
    """A tool's result as the model reads it."""
    return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, default=str)


def load_functions(file: str) -> dict[str, Callable[..., Any]]:
    """The public functions that a file defines itself, in its order."""
    sys.path.insert(0, os.path.dirname(os.path.abspath(file)))
    spec = importlib.util.spec_from_file_location("tools_file", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tools_file"] = module
    spec.loader.exec_module(module)
    return {
        name: function
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__ == "tools_file" and not name.startswith("_")
    }


def describe(function: Callable[..., Any]) -> dict[str, Any]:
    """Name, description and parameters of a function, from its docstring and type hints. TypeError where they lack.

    A parameter is described by a line `name: what it is` of the docstring.
    """
    described = inspect.getdoc(function)
    if not described:
        raise TypeError(f"{function.__name__} has no docstring; say in it what the function does")
    hints = typing.get_type_hints(function)
    properties, required = {}, []
    for name, parameter in inspect.signature(function).parameters.items():
        place = f"the parameter {name} of {function.__name__}"
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"{place} cannot be given by name")
        if name not in hints:
            raise TypeError(f"{place} has no type hint")
        properties[name] = schema_of(hints[name], place)
        if line := re.search(rf"^\s*(?::param )?{name}(?:\s*\(.*\))?:\s*(\S.*)$", described, re.MULTILINE):
            properties[name]["description"] = line[1].strip()
        if parameter.default is parameter.empty:
            required.append(name)
        elif isinstance(parameter.default, str | int | float):
            properties[name]["default"] = parameter.default
    description = " ".join(described.split("\n\n")[0].split())
    parameters: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        parameters["required"] = required
    return {"name": function.__name__, "description": description, "parameters": parameters}


def schema_of(hint: Any, place: str) -> dict[str, Any]:
    """The JSON schema of a type hint."""
    origin, inside = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin is typing.Literal:
        kinds = {SIMPLE.get(type(choice)) for choice in inside}
        return {"type": kinds.pop(), "enum": list(inside)} if len(kinds) == 1 else {"enum": list(inside)}
    if origin in (typing.Union, types.UnionType):
        choices = [schema_of(choice, place) for choice in inside if choice is not type(None)]
        return choices[0] if len(choices) == 1 else {"anyOf": choices}
    if origin not in SIMPLE:
        names = ", ".join(kind.__name__ for kind in SIMPLE)
        raise TypeError(f"{place} has the type {hint}; a tool takes {names}, Literal, unions of them and None")
    schema: dict[str, Any] = {"type": SIMPLE[origin]}
    if origin is list and inside:
        schema["items"] = schema_of(inside[0], place)
    return schema


if __name__ == "__main__":
    main()
