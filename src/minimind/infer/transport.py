"""HTTP to a server that may hang, drip or flood: every wait has an end, and what is read has a bound."""

from __future__ import annotations

import http.client
import math
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

CONNECT = 10.0
"""seconds until there is a connection"""
FIRST = 300.0
"""seconds until the answer begins: a long prompt takes long"""
NEXT = 60.0
"""seconds from one part of an answer to the next"""
LARGEST = 2**26
"""bytes of an answer"""
LONGEST_LINE = 2**22


class Watch:
    """Shuts a connection when its time is up, which a byte now and then does not put off.

    limit  seconds for the whole exchange, however often its time is extended
    """

    def __init__(self, seconds: float, limit: float = math.inf) -> None:
        self.limit, self.end = limit, time.monotonic() + limit
        self.extend(seconds)
        self.sock: socket.socket | None = None
        self.expired = False
        self.closed = threading.Event()
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def extend(self, seconds: float) -> None:
        """From now on there is so much time."""
        self.seconds = seconds
        self.deadline = min(time.monotonic() + seconds, self.end)

    @property
    def story(self) -> str:
        """Why it shut the connection."""
        late = self.deadline == self.end
        return f"it took more than {self.limit:g} seconds" if late else f"nothing came for {self.seconds:g} seconds"

    def _run(self) -> None:
        while (left := self.deadline - time.monotonic()) > 0:
            if self.closed.wait(min(left, NEXT)):
                return
        self.expired = True
        if self.sock is not None:
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)


class _Connection(http.client.HTTPConnection):
    def __init__(self, watch: Watch, host: str, **options: Any) -> None:
        super().__init__(host, **options)
        self.watch = watch

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(None)
        self.watch.sock = self.sock


class _SecureConnection(_Connection, http.client.HTTPSConnection):
    pass


class _Handler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_Connection, self.watch), request)  # type: ignore[arg-type]

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_SecureConnection, self.watch), request)  # type: ignore[arg-type]


@contextmanager
def exchange(
    request: urllib.request.Request, proxied: bool, limit: float = math.inf
) -> Iterator[tuple[http.client.HTTPResponse, Watch]]:
    """The answer, be it a refusal, and what watches over it. Raises what urllib raises, and TimeoutError."""
    watch = Watch(FIRST, limit)
    opener = urllib.request.build_opener(_Handler(watch), *([] if proxied else [urllib.request.ProxyHandler({})]))
    try:
        try:
            response = opener.open(request, timeout=CONNECT)
        except urllib.error.HTTPError as refusal:  # which can be read like any other answer
            response = refusal
        with response:
            yield response, watch
    except Exception as error:  # of a connection that was shut while it was read, anything
        if watch.expired:
            raise TimeoutError(watch.story) from error
        raise
    finally:
        watch.closed.set()


def lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Raises ValueError where they are longer, or more, than an answer has."""
    size = 0
    while line := response.readline(LONGEST_LINE):
        size += len(line)
        if len(line) == LONGEST_LINE or size > LARGEST:
            raise ValueError("too much")
        yield line
