"""uvicorn, with an end that gives running answers time and then tells their clients."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import socket
import time
from types import FrameType

import uvicorn
from fastapi import FastAPI

LAST_SECONDS = 5  # for connections to close after the last answer was ended
QUIET_SECONDS = 60.0  # between two warnings of one kind


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
        logging.getLogger("uvicorn.error").addFilter(Seldom())
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


class Seldom(logging.Filter):
    """Lets a warning of one kind through once a minute, with how many were left out: anybody can cause them."""

    def __init__(self) -> None:
        super().__init__()
        self.last: dict[tuple[str, int], tuple[float, int]] = {}  # place in the code -> time, number left out since

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno > logging.WARNING:
            return True
        place, now = (record.pathname, record.lineno), time.monotonic()
        before, left_out = self.last.get(place, (-math.inf, 0))
        shown = now - before >= QUIET_SECONDS
        self.last[place] = (now, 0) if shown else (before, left_out + 1)
        if shown and left_out:
            record.msg = f"{record.msg} ({left_out} more of these since the last one shown)"
        return shown
