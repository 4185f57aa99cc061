"""HTTP for downloads, with the standard library: JSON answers, and files that survive a bad connection.

No other module of minimind.data opens a network connection.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from minimind.errors import UserError
from minimind.util.system import is_disk_full

OnProgress = Callable[[int], None]  # called with the bytes on disk so far
T = TypeVar("T")

ATTEMPTS = 5  # failures in a row, none of which brought a new byte, before giving up
TIMEOUT = 30  # seconds without an answer
BLOCK = 1 << 20  # bytes read at a time
sleep = time.sleep  # tests replace it


def read_json(url: str) -> Any:
    """The JSON at `url`. UserError when it cannot be had."""

    def read() -> Any:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
            return json.load(response)

    try:
        return _retry(url, read)
    except ValueError:
        raise UserError(f"{url} did not answer with JSON; check the network and the endpoint") from None


def download(url: str, part: Path, total: int, progress: OnProgress) -> None:
    """Bring the file `part` to `total` bytes from `url`, going on where it ends.

    However often the connection drops, it is taken up again (HTTP Range) as long as bytes keep coming;
    a server that cannot continue sends all of it again. UserError when there is no getting on. The content is
    not checked here.
    """

    def size() -> int:
        return part.stat().st_size if part.exists() else 0

    def receive() -> None:
        done = size()
        progress(done)
        if done == total:
            return
        headers = {"Range": f"bytes={done}-"} if 0 < done < total else {}
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            continued = response.status == 206
            with part.open("ab" if continued else "wb") as file:
                while block := response.read(BLOCK):
                    file.write(block)
                    progress(file.tell())
        if size() < total:
            raise ConnectionError("the connection closed before the end")

    _retry(url, receive, size)


def _retry(url: str, action: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
    """Do `action` until it succeeds, waiting longer after each failure in a row that brought nothing new."""
    failures, best = 0, progress()
    while True:
        try:
            return action()
        except (OSError, http.client.HTTPException) as error:
            reached = progress()
            failures = 1 if reached > best else failures + 1
            best = max(best, reached)
            if failures == ATTEMPTS or not _may_pass(error):
                raise UserError(_explain(url, error)) from None
            sleep(_delay(error, failures))


def _may_pass(error: Exception) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return error.code in (408, 429, 500, 502, 503, 504)
    network = (urllib.error.URLError, ConnectionError, TimeoutError, ssl.SSLError, http.client.HTTPException)
    return isinstance(error, network)


def _delay(error: Exception, failures: int) -> float:
    """Seconds to wait: what the server asks for, at most a minute, or 1, 2, 4, 8 …"""
    retry_after = error.headers.get("Retry-After", "") if isinstance(error, urllib.error.HTTPError) else ""
    return min(int(retry_after), 60) if retry_after.isdigit() else 2.0 ** (failures - 1)


def _explain(url: str, error: Exception) -> str:
    host = urlsplit(url).netloc
    if isinstance(error, urllib.error.HTTPError):
        if error.code == 404:
            return f"{url} does not exist (HTTP 404); check the name and --revision"
        return f"{host} answered HTTP {error.code} for {url}; try again later, or another hub with --from"
    if is_disk_full(error):
        return "the disk is full; make room and run the same command again, it goes on where it stopped"
    if not _may_pass(error):
        return f"cannot write the download: {error}"
    reason = getattr(error, "reason", error)
    return (
        f"cannot reach {host} ({reason}); check the network, choose the other hub with --from,"
        " or name a mirror in HF_ENDPOINT, and run the same command again: it goes on where it stopped"
    )
