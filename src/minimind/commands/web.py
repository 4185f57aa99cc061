"""`minimind web`: chat, runs, data and models in the browser."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from minimind.commands.options import add_tools, command_parser, port
from minimind.commands.serve import listen
from minimind.errors import UserError, missing_extra

EPILOG = """examples:
  minimind web                          then open the address it prints
  minimind web --runs /data/runs --port 9000
  minimind web --tools my_tools.py      these tools can be chosen, too

Only this machine can reach it, unless --host says otherwise: whoever can may read data files and models here."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")
FONT = 'system-ui, -apple-system, "Segoe UI", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif'


def run(argv: list[str]) -> None:
    parser = command_parser(
        "web", "Talk with models, watch trainings, look into data and models, in the browser.", EPILOG
    )
    parser.add_argument("--port", type=port, default=8501, metavar="N", help="the port (default: 8501)")
    parser.add_argument("--host", default="127.0.0.1", metavar="H", help="the address (default: 127.0.0.1)")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="where runs and models lie (default: runs)")
    add_tools(parser)
    options = parser.parse_args(argv)
    if options.runs:
        if not options.runs.is_dir():
            raise UserError(f"--runs {options.runs} is no directory; name the one that holds the runs")
        os.environ["MINIMIND_RUNS"] = str(options.runs)  # what train.runs.default_directory reads
    check_address(options.host, options.port)
    try:
        from starlette.middleware import Middleware
        from streamlit import net_util
        from streamlit.starlette import App
    except ImportError:
        raise missing_extra("streamlit", "web") from None

    # For a page opened under a strange name, the server would ask a service outside for this machine's address.
    net_util._external_ip = "127.0.0.1"
    from minimind.tools import Limits, open_tools
    from minimind.web import chat, data, models, runs, settings  # noqa: F401  (before the first visitor waits)
    from minimind.web.browser import NameBrowsers

    script = str(Path(__file__).parents[1] / "web" / "app.py")
    sys.argv = [script]  # Streamlit puts the directory of this on the import path
    limits = Limits(seconds=options.tool_seconds)
    with suppress(KeyboardInterrupt), open_tools(options.tools, limits) as settings.named_tools:
        App(script, middleware=[Middleware(NameBrowsers)]).run(config=server_options(options.host, options.port))


def check_address(host: str, port: int) -> None:
    """UserError where no server can listen."""
    if not 0 < port < 65536:
        raise UserError(f"--port {port}: a port is a number from 1 to 65535")
    listen(host, port).close()


def server_options(host: str, port: int) -> dict[str, Any]:
    """Streamlit's settings, which win over those in its files: no statistics, no browser opened, our looks."""
    from minimind.runs.svg import DARK, LIGHT

    colors = {
        "light": {
            "primaryColor": "#0f766e",
            "backgroundColor": "#fcfcfb",
            "secondaryBackgroundColor": "#f1f3f2",
            "textColor": "#1b1f24",
            "borderColor": "#dfe3e1",
            "chartCategoricalColors": list(LIGHT),
            "chartSequentialColors": shades("#fcfcfb", "#0f766e"),
        },
        "dark": {
            "primaryColor": "#2fb5a3",
            "backgroundColor": "#131618",
            "secondaryBackgroundColor": "#1d2124",
            "textColor": "#e6e9e8",
            "borderColor": "#31383b",
            "chartCategoricalColors": list(DARK),
            "chartSequentialColors": shades("#131618", "#4fd9c5"),
        },
    }
    return {
        "server.address": host,
        "server.port": port,
        "server.headless": True,
        "server.fileWatcherType": "none",
        # Names under which a page may reach the server: keeps other sites' pages from posing as ours.
        "server.allowedHosts": list(LOOPBACK) if host in LOOPBACK else ["*"],
        "browser.serverAddress": host,
        "browser.gatherUsageStats": False,
        "client.toolbarMode": "viewer",
        "client.showErrorLinks": False,
        "theme.font": FONT,
        "theme.headingFont": FONT,
        "theme.headingFontSizes": ["1.7rem", "1.35rem", "1.15rem", "1rem", "1rem", "1rem"],
        "theme.baseRadius": "10px",
        "theme.baseFontSize": 15,
        "theme.showSidebarBorder": True,
        **{f"theme.{base}.{name}": value for base, one in colors.items() for name, value in one.items()},
    }


def shades(first: str, last: str) -> list[str]:
    """Ten colors from one to another, as many as Streamlit wants."""
    ends = [[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in (first, last)]
    return ["#" + "".join(f"{round(a + (b - a) * i / 9):02x}" for a, b in zip(*ends)) for i in range(10)]
