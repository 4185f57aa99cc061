"""Which browser a visitor sits at: a random name that the server gives it in a cookie.

No script of a page can read it, and only pages of this server can use it.
"""

from __future__ import annotations

import re
import secrets
from typing import Any

import streamlit as st

COOKIE = "minimind_browser"
ID = re.compile(r"[0-9a-f]{32}")
SECONDS = 400 * 24 * 3600  # the longest that browsers allow


def new_id() -> str:
    return secrets.token_hex(16)


def browser_id() -> str | None:
    """The name of the visitor's browser; None where it takes no cookies."""
    name = st.context.cookies.get(COOKIE, "")
    return name if ID.fullmatch(name) else None


class NameBrowsers:
    """ASGI middleware: a page that goes to a browser brings its name, the one it has or a new one."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_named(message: Any) -> None:
            headers = message.get("headers", [])
            if any(key == b"content-type" and value.startswith(b"text/html") for key, value in headers):
                message["headers"] = [*headers, (b"set-cookie", cookie(scope["headers"]).encode())]
            await send(message)

        await self.app(scope, receive, send_named if scope["type"] == "http" else send)


def cookie(request_headers: Any) -> str:
    """The cookie that answers a request. Strict would lose the name after a link on another site."""
    sent = b"; ".join(value for key, value in request_headers if key == b"cookie").decode("latin-1")
    name = re.search(rf"(?:^|;\s*){COOKIE}=({ID.pattern})(?:;|$)", sent)
    return f"{COOKIE}={name[1] if name else new_id()}; Path=/; Max-Age={SECONDS}; HttpOnly; SameSite=Lax"
