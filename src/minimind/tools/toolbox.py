"""The tools that are offered to a model, and how its calls are answered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from minimind.errors import UserError
from minimind.tools import builtin
from minimind.tools.arguments import problem
from minimind.tools.tool import Limits, Tool, ToolError
from minimind.tools.worker import as_text
from minimind.util.json_files import loads


class Toolbox:
    """Tools by name; none is offered unless somebody named it."""

    def __init__(self, tools: Sequence[Tool] = (), limits: Limits = Limits()) -> None:  # noqa: B008 (it is frozen)
        self.limits = limits
        self.tools: dict[str, Tool] = {}
        for tool in tools:
            if tool.name in self.tools:
                raise UserError(f"two of the tools are called {tool.name}; leave one out")
            self.tools[tool.name] = tool

    @property
    def schemas(self) -> list[dict[str, Any]]:
        """What the model is told of them, in OpenAI's form."""
        return [tool.schema for tool in self.tools.values()]

    def call(self, name: str, arguments: Any) -> str:
        """The result as the model reads it, or {"error": what went wrong}; never raises.

        arguments  an object, or JSON text of one
        """
        try:
            return shorten(as_text(self._run(name, arguments)), self.limits.characters)
        except ToolError as error:
            reason = str(error)
        except Exception as error:  # whatever a tool raises is the model's to read, and no end of the conversation
            reason = f"{type(error).__name__}: {error}"
        return as_text({"error": shorten(reason, self.limits.characters)})

    def _run(self, name: str, arguments: Any) -> Any:
        if name not in self.tools:
            raise ToolError(f"there is no tool {name!r}; there is {', '.join(self.tools) or 'none'}")
        tool = self.tools[name]
        if isinstance(arguments, str):
            try:
                arguments = loads(arguments)
            except ValueError as error:
                raise ToolError(f"the arguments are not JSON: {error}") from None
        known = {"additionalProperties": False} if tool.parameters.get("properties") else {}
        wrong = problem(arguments, {"type": "object", **known, **tool.parameters})
        if wrong:
            raise ToolError(wrong)
        return tool.run(arguments)


def shorten(text: str, characters: int) -> str:
    """The beginning of a text that is too long, saying so; halves of surrogate pairs, which are no text, as `?`."""
    text = text[: characters + 1].encode(errors="replace").decode()
    if len(text) <= characters:
        return text
    return f"{text[:characters]}… (cut off after {characters} characters)"


@contextmanager
def open_tools(
    sources: Sequence[str],
    limits: Limits = Limits(),  # noqa: B008 (it is frozen)
    seed: int | None = None,
) -> Iterator[Toolbox]:
    """The named tools, usable inside the block. UserError where a source cannot be used.

    sources  names of built-in tools; Python files (`FILE.py`); OpenAPI documents (`.json`, `.yaml` or an address);
             `mcp:` before the command or the address of an MCP server
    seed     makes the built-in random tools repeatable
    """
    ready = builtin.builtin_tools(seed)
    with ExitStack() as stack:
        tools: list[Tool] = []
        for source in sources:
            tools += [ready[source]] if source in ready else _open(source, limits, stack)
        yield Toolbox(tools, limits)


def _open(source: str, limits: Limits, stack: ExitStack) -> list[Tool]:
    # The modules of each kind are loaded only for a source of it.
    if source.startswith("mcp:"):
        from minimind.tools.mcp_server import mcp_tools

        return stack.enter_context(mcp_tools(source.removeprefix("mcp:").strip(), limits))
    suffix = Path(urlsplit(source).path).suffix
    if source.startswith(("http://", "https://")) or suffix in (".json", ".yaml", ".yml"):
        from minimind.tools.openapi import openapi_tools

        return openapi_tools(source, limits)
    if suffix == ".py":
        from minimind.tools.python_file import python_file_tools

        return python_file_tools(Path(source), limits)
    raise UserError(
        f"there is no tool {source!r}; built in are {', '.join(builtin.NAMES)}; or name a Python file (.py), "
        "an OpenAPI document (.json, .yaml or its address) or mcp: and a command or address"
    )
