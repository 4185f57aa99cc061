"""A server of OpenAI's chat API that says what a test wants, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class StubServer(ThreadingHTTPServer):
    """Each request takes the next of `answers`: the events of a stream, or raw lines of it; with none left, 400."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[list[Any]] = []
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.host = f"127.0.0.1:{self.server_port}"
        self.url = f"http://{self.host}/v1"


class Handler(BaseHTTPRequestHandler):
    server: StubServer

    def do_GET(self) -> None:
        self.reply(200, json.dumps({"object": "list", "data": [{"id": "small"}, {"id": "large"}]}))

    def do_POST(self) -> None:
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.server.keys.append(self.headers["Authorization"])
        if not self.server.answers:
            return self.reply(400, json.dumps({"error": {"message": "top_k is too large"}}))
        events = self.server.answers.pop(0)
        lines = [event if isinstance(event, str) else f"data: {json.dumps(event)}" for event in events]
        return self.reply(200, "\n\n".join([*lines, ""]))

    def reply(self, code: int, body: str) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *arguments: Any) -> None:
        pass


@contextmanager
def stub_server() -> Iterator[StubServer]:
    with StubServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


DONE = "data: [DONE]"


def event(finish_reason: str | None = None, logprobs: Any = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": logprobs}]}


def call(**function: Any) -> dict[str, Any]:
    """A part of the first tool call, or all of it."""
    return event(tool_calls=[{"index": 0, "id": "abc", "function": function}])
