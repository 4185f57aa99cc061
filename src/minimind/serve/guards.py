"""Middleware that turns requests away before anybody reads them."""

from __future__ import annotations

import asyncio
import hmac

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from minimind.serve.errors import ApiError

BODY_SECONDS = 30.0  # for a body to arrive


class RequireKey:
    """Middleware that lets nobody without a key into /v1."""

    def __init__(self, app: ASGIApp, keys: tuple[str, ...]) -> None:
        self.app = app
        self.keys = [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        guarded = scope["type"] == "http" and scope["path"].startswith("/v1")
        if not guarded or self._has_key(dict(scope["headers"]).get(b"authorization", b"")):
            await self.app(scope, receive, send)
            return
        sentence = "give one of the server's API keys in the header: Authorization: Bearer KEY"
        error = ApiError(401, sentence, "invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        await error.response()(scope, receive, send)

    def _has_key(self, header: bytes) -> bool:
        scheme, _, key = header.partition(b" ")
        # All keys are compared, each in constant time, so that the time of a refusal tells nothing.
        return scheme.lower() == b"bearer" and sum(hmac.compare_digest(key.strip(), one) for one in self.keys) > 0


class LimitBody:
    """Middleware that reads no body above so many bytes, and waits for none forever."""

    def __init__(self, app: ASGIApp, largest: int) -> None:
        self.app = app
        self.largest = largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        too_large = f"the body is larger than the {self.largest} bytes that this server takes"
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self.largest:
            await ApiError(413, too_large).response()(scope, receive, send)
            return
        size, complete = 0, False
        deadline = asyncio.get_running_loop().time() + BODY_SECONDS

        async def receive_body() -> Message:
            nonlocal size, complete
            if complete:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, "the body did not arrive in time") from None
            size += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if size > self.largest:
                raise HTTPException(413, too_large)
            return message

        await self.app(scope, receive_body, send)
