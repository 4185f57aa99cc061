"""A server's answers: what is asked of it, and what is made of its stream."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from minimind.errors import UserError

pytest.importorskip("streamlit")

from minimind.web.remote import Server, offered_by, speak, to_openai
from minimind.web.talk import Answer, Piece

SAMPLING = {"temperature": 0.5, "top_p": 0.95, "top_k": 0, "min_p": 0.1, "max_tokens": 9, "seed": None}


class Stub(BaseHTTPRequestHandler):
    """Gives back the events that a test put here, and remembers what it was asked."""

    events: list[Any] = []  # noqa: RUF012 (set by each test)
    asked: dict[str, Any] = {}  # noqa: RUF012

    def do_GET(self) -> None:
        self.reply(200, json.dumps({"object": "list", "data": [{"id": "small"}, {"id": "large"}]}))

    def do_POST(self) -> None:
        Stub.asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Stub.asked["key"] = self.headers["Authorization"]
        if not Stub.events:
            return self.reply(400, json.dumps({"error": {"message": "top_k is too large"}}))
        lines = [event if isinstance(event, str) else f"data: {json.dumps(event)}" for event in Stub.events]
        return self.reply(200, "\n\n".join([*lines, "data: [DONE]", ""]))

    def reply(self, code: int, body: str) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Stub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def delta(finish_reason: str | None = None, logprobs: Any = None, **values: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": values, "finish_reason": finish_reason, "logprobs": logprobs}]}


def hear(server: Server, tools: Any = (), think: bool = False) -> tuple[Answer, list[dict[str, Any]]]:
    answer = Answer()
    messages = [{"role": "user", "content": "hello"}]
    return answer, list(speak(answer, server, SAMPLING, think, messages, list(tools)))


def test_its_models_are_listed(address: str) -> None:
    servers = offered_by(address + "/", "key")
    assert [server.name for server in servers] == [f"{model} @ {address[7:]}" for model in ("small", "large")]
    assert servers[0].address == address + "/v1"


def test_text_thinking_and_probabilities_come_in_pieces(address: str) -> None:
    logprobs = {"content": [{"token": "Hi", "logprob": -0.5, "top_logprobs": [{"token": "Ho", "logprob": -0.25}]}]}
    Stub.events = [
        ": a comment",
        delta(role="assistant", content=""),
        delta(reasoning_content="hm"),
        delta(content="Hi", logprobs=logprobs),
        "data: {cut off",
        delta("length", content=" there"),
    ]
    answer, grown = hear(Server(address + "/v1", "small", "secret"), think=True)
    assert grown[-1] == {"role": "assistant", "content": "Hi there", "reasoning_content": "hm"}
    assert grown[1]["content"] == ""
    assert answer.pieces == [Piece("Hi", -0.5, (("Ho", -0.25),))]
    assert (answer.tokens, answer.note) == (3, "length")
    assert Stub.asked["key"] == "Bearer secret"
    assert Stub.asked["chat_template_kwargs"]["enable_thinking"] is True
    given = {name: Stub.asked[name] for name in SAMPLING if name in Stub.asked}
    assert given == {"temperature": 0.5, "top_p": 0.95, "min_p": 0.1, "max_tokens": 9}


def test_a_tool_call_may_come_in_parts(address: str) -> None:
    part = lambda **function: delta(tool_calls=[{"index": 0, "function": function}])  # noqa: E731
    Stub.events = [part(name="calculate", arguments='{"expr'), part(arguments='ession": "6*7"}')]
    _, grown = hear(Server(address + "/v1", "small"), tools=[{"type": "function"}])
    assert grown[0]["tool_calls"] == [{"name": "calculate", "arguments": '{"expr'}]
    assert grown[1]["tool_calls"] == [{"name": "calculate", "arguments": {"expression": "6*7"}}]
    assert Stub.asked["tools"] == [{"type": "function"}]


def test_results_are_tied_to_their_calls() -> None:
    calls = [{"name": "a", "arguments": {}}, {"name": "b", "arguments": {"x": 1}}]
    messages = [
        {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": calls},
        {"role": "tool", "content": "1"},
        {"role": "tool", "content": "2"},
    ]
    said, first, second = to_openai(messages)
    assert [call["function"] for call in said["tool_calls"]] == [
        {"name": "a", "arguments": "{}"},
        {"name": "b", "arguments": '{"x": 1}'},
    ]
    assert [call["id"] for call in said["tool_calls"]] == [first["tool_call_id"], second["tool_call_id"]]
    assert "reasoning_content" not in said


def test_what_goes_wrong_is_said_in_one_sentence(address: str) -> None:
    Stub.events = []
    with pytest.raises(UserError, match="refuses with 400: top_k is too large"):
        hear(Server(address + "/v1", "small"))
    Stub.events = [{"error": {"message": "the engine failed"}}]
    with pytest.raises(UserError, match="the engine failed"):
        hear(Server(address + "/v1", "small"))
    with pytest.raises(UserError, match="is the server running"):
        offered_by("http://127.0.0.1:9", "")
    with pytest.raises(UserError, match="is no server's address"):
        offered_by("file:///etc/passwd", "")
