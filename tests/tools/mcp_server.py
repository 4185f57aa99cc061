"""An MCP server for the tests: `python mcp_server.py [port]`, over stdio or HTTP."""

import os
import sys
import time
from pathlib import Path

from mcp.server import MCPServer

server = MCPServer("test")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers"""
    return a + b


@server.tool()
def sleep() -> str:
    """Sleep"""
    time.sleep(3)
    return "late"


@server.tool()
def fail() -> str:
    """Raise"""
    raise ValueError("it broke")


@server.tool()
def ramble() -> str:
    """Return 1 MB"""
    return "x" * 1_000_000


@server.tool()
def shell() -> str:
    """Nothing that a shell would read is read"""
    return " ".join(sys.argv[1:])


@server.tool()
def leave() -> str:
    """End the server"""
    os._exit(3)


if len(sys.argv) > 1 and sys.argv[1].isdigit():
    server.run("streamable-http", port=int(sys.argv[1]))
else:
    Path(sys.argv[-1] + ".pid").write_text(str(os.getpid()), encoding="utf-8")
    server.run()
