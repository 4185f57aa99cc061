"""Answers from a server that speaks OpenAI's chat API, `minimind serve` or another."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

from minimind.errors import UserError
from minimind.infer.sampler import SamplingParams
from minimind.web.talk import LIKELIEST, Answer, Message, Piece

PATIENCE = 120  # seconds without a sign of the server
EVERYWHERE = ("temperature", "top_p", "max_tokens", "seed")  # the others go only where they are set


@dataclass(frozen=True)
class Server:
    """A model that a server offers."""

    address: str
    """up to and with the version: http://127.0.0.1:8000/v1"""
    model: str
    key: str = ""

    @property
    def name(self) -> str:
        return f"{self.model} @ {urlsplit(self.address).netloc}"


def offered_by(address: str, key: str) -> list[Server]:
    """The models of a server. UserError where none answers."""
    address = address.strip().rstrip("/")
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UserError(f"{address} is no server's address; one looks like http://127.0.0.1:8000/v1")
    address += "" if parts.path else "/v1"
    with _open(f"{address}/models", key, None) as response:
        try:
            return [Server(address, str(one["id"]), key) for one in json.load(response)["data"]]
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{address} does not list its models as OpenAI's API does") from None


def speak(
    answer: Answer,
    server: Server,
    sampling: dict[str, Any],
    think: bool,
    messages: Sequence[Message],
    tools: list[dict[str, Any]],
) -> Generator[Message, None, Message]:
    """The assistant's next message by a server, a piece longer at each step. UserError where it does not answer."""
    body: dict[str, Any] = {
        "model": server.model,
        "messages": to_openai(messages),
        "stream": True,
        "logprobs": True,
        "top_logprobs": LIKELIEST,
    }
    usual = SamplingParams()
    body |= {name: v for name, v in sampling.items() if name in EVERYWHERE or v != getattr(usual, name)}
    if body.get("seed") is None:
        body.pop("seed", None)
    if tools:
        body["tools"] = tools
    if think:
        body["chat_template_kwargs"] = {"enable_thinking": True, "open_thinking": True}
    message: Message = {"role": "assistant", "content": ""}
    calls: dict[int, dict[str, str]] = {}
    with _open(f"{server.address}/chat/completions", server.key, body) as response:
        for event in events(response):
            if "error" in event:
                raise UserError(f"{server.name}: {event['error'].get('message', event['error'])}")
            for choice in event.get("choices", ()):
                receive(answer, message, calls, choice)
            if calls:
                message["tool_calls"] = [read_call(call) for call in calls.values()]
            yield dict(message)
    return message


def receive(answer: Answer, message: Message, calls: dict[int, dict[str, str]], choice: dict[str, Any]) -> None:
    """Add what one event of the stream brings; a tool call may come in several."""
    delta = choice.get("delta") or {}
    for name in ("content", "reasoning_content"):
        if delta.get(name):
            message[name] = message.get(name, "") + delta[name]
    for part in delta.get("tool_calls") or ():
        call = calls.setdefault(part.get("index", len(calls)), {"name": "", "arguments": ""})
        for name in call:
            call[name] += (part.get("function") or {}).get(name) or ""
    tokens = (choice.get("logprobs") or {}).get("content") or ()
    for one in tokens:
        likeliest = tuple((other["token"], other["logprob"]) for other in one.get("top_logprobs") or ())
        answer.pieces.append(Piece(one["token"], one["logprob"], likeliest))
    # A server that gives no probabilities sends about a token an event.
    answer.tokens += len(tokens) or bool(delta.get("content") or delta.get("reasoning_content"))
    if choice.get("finish_reason") == "length":
        answer.note = "length"


def read_call(call: dict[str, str]) -> dict[str, Any]:
    """A call in our schema; while its arguments are still coming they are text."""
    try:
        return {"name": call["name"], "arguments": json.loads(call["arguments"] or "{}")}
    except ValueError:
        return dict(call)


def to_openai(messages: Sequence[Message]) -> list[Message]:
    """Messages with the ids that tie a tool's result to its call."""
    plain: list[Message] = []
    waiting: list[str] = []
    for message in messages:
        message = {name: value for name, value in message.items() if name != "reasoning_content"}
        if calls := message.pop("tool_calls", None):
            waiting = [f"call_{len(plain)}_{number}" for number in range(len(calls))]
            functions = [{**call, "arguments": json.dumps(call["arguments"])} for call in calls]
            message["tool_calls"] = [
                {"id": name, "type": "function", "function": f} for name, f in zip(waiting, functions)
            ]
        if message["role"] == "tool" and waiting:
            message["tool_call_id"] = waiting.pop(0)
        plain.append(message)
    return plain


def events(response: HTTPResponse) -> Iterator[dict[str, Any]]:
    """The JSON objects of a stream of server-sent events, up to its end."""
    for line in response:
        data = line.removeprefix(b"data:").strip()
        if not line.startswith(b"data:") or not data:
            continue
        if data == b"[DONE]":
            return
        with contextlib.suppress(ValueError):
            yield json.loads(data)


def _open(url: str, key: str, body: dict[str, Any] | None) -> HTTPResponse:
    """GET, or with a body POST. UserError with what the server says where it refuses."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), headers)
    try:
        response: HTTPResponse = urllib.request.urlopen(request, timeout=PATIENCE)
        return response
    except urllib.error.HTTPError as error:
        said = error.read(2000).decode("utf-8", "replace")
        with contextlib.suppress(ValueError, KeyError, TypeError):
            said = json.loads(said)["error"]["message"]
        raise UserError(f"{url} refuses with {error.code}: {said}") from None
    except (OSError, HTTPException, ValueError) as error:
        raise UserError(
            f"{url} does not answer ({getattr(error, 'reason', error)}); is the server running?"
        ) from None
