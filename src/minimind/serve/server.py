"""uvicorn, with an end that gives running answers time and then tells their clients."""

from __future__ import annotations

import asyncio
import signal
import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

LAST_SECONDS = 5  # for connections to close after the last answer was ended


class UvicornServer(uvicorn.Server):
    """Serves an application of `create_app` until Ctrl-C or SIGTERM.

    From then on nobody new is let in. Answers under way have `seconds` to end, or until the next signal; those that
    have not are ended with an error.
    """

    def __init__(self, app: FastAPI, seconds: int) -> None:
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=seconds + LAST_SECONDS
        )
        super().__init__(config)
        self.app = app
        self.seconds = seconds

    def serve_at(self, listener: socket.socket) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            # uvicorn raises the signal again after its orderly end; by then it was obeyed.
            signal.signal(number, lambda number, frame: None)
        self.run(sockets=[listener])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().call_later(self.seconds, self.app.state.worker.give_up)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            worker = self.app.state.worker
            worker.loop.call_soon_threadsafe(worker.give_up)
        else:
            super().handle_exit(sig, frame)
