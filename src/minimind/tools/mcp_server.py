"""The tools of an MCP server (Model Context Protocol): a command that is started here, or an http address."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

from minimind.errors import UserError, missing_extra
from minimind.tools.tool import Limits, Tool, ToolError

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal
    from mcp import Client
    from mcp.types import CallToolResult

MAX_PAGES = 100  # of a list of tools
CONNECT_SECONDS = 30.0  # a command may have to be downloaded first


@contextmanager
def mcp_tools(target: str, limits: Limits) -> Iterator[list[Tool]]:
    """The server's tools while the block runs. UserError where it cannot be reached.

    target  an address (http://…), or a command with its arguments; it is split as in a shell, but run without one
    """
    try:
        from anyio.from_thread import start_blocking_portal
        from mcp import Client
    except ImportError:
        raise missing_extra("mcp", "mcp") from None

    if not target:
        raise UserError("mcp: names no server; put its command or its address (http://…) behind the colon")
    with ExitStack() as stack:
        said = stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace"))
        portal = stack.enter_context(start_blocking_portal())  # the package is asynchronous: a thread for its loop
        try:
            client = Client(_server(target, said), read_timeout_seconds=CONNECT_SECONDS)
            connection = portal.wrap_async_context_manager(client)
            connection.__enter__()
            # It is told of no error inside the block: it would hand that on wrapped into a group.
            stack.callback(connection.__exit__, None, None, None)
            found = portal.call(_list, client)
        except Exception as error:
            raise UserError(f"the MCP server {target!r} gives no tools: {_reason(error, said)}") from None
        yield [
            Tool(
                one.name,
                one.description or one.title or one.name,
                one.input_schema,
                partial(_call, portal, client, one.name, limits.seconds),
            )
            for one in found
        ]


def _server(target: str, said: TextIO) -> Any:
    """What the client talks to; a command's stderr goes to `said`."""
    from mcp import StdioServerParameters, stdio_client

    if target.startswith(("http://", "https://")):
        return target
    command, *arguments = shlex.split(target)
    return stdio_client(StdioServerParameters(command=command, args=arguments), said)


async def _list(client: Client) -> list[Any]:
    found: list[Any] = []
    cursor = None
    for _ in range(MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        found += page.tools
        cursor = page.next_cursor
        if not cursor:
            return found
    raise ValueError(f"its list of tools does not end after {MAX_PAGES} pages")


def _call(portal: BlockingPortal, client: Client, name: str, seconds: float, arguments: dict[str, Any]) -> str:
    import anyio

    async def call() -> CallToolResult:
        with anyio.fail_after(seconds):
            return await client.call_tool(name, arguments)

    try:
        result = portal.call(call)
    except TimeoutError:
        raise ToolError(f"it took longer than {seconds:g} seconds and was stopped") from None
    text = "\n".join(one.text if one.type == "text" else f"({one.type})" for one in result.content)
    if result.is_error:
        raise ToolError(text)
    return text


def _reason(error: BaseException, said: TextIO) -> str:
    """The last thing that the server said on stderr, or else the innermost error."""
    said.seek(0)
    if lines := said.read().strip().splitlines():
        return lines[-1].strip()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__
