"""A model behind an OpenAI-compatible server: what it is asked, and its answer while it comes."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from minimind.errors import UserError
from minimind.infer.conversation import Conversation
from minimind.infer.sampler import SETTINGS, SamplingParams
from minimind.infer.text import Part
from minimind.tokenizer.parse import read_call
from minimind.tools.loop import Message

TIMEOUT = 300.0  # seconds without a sign of the server
COMMON = ("temperature", "top_p", "max_tokens")  # every server knows these; others are sent only where they are set


@dataclass
class Reply:
    """A server's answer: the message grows, the rest is what the last event brought.

    message   in MiniMind's schema; its tool calls, with the server's ids, are there once they are whole
    parts     what there is to show
    tokens    how many; of a server that gives no log-probabilities, one an event
    logprobs  for each token its text, its log-probability in nats, and both of those that were likeliest there
    """

    message: Message = field(default_factory=lambda: {"role": "assistant", "content": ""})
    parts: list[Part] = field(default_factory=list)
    tokens: int = 0
    logprobs: list[tuple[str, float, tuple[tuple[str, float], ...]]] = field(default_factory=list)
    finish_reason: str | None = None
    """why it ended: "stop", "length", "tool_calls" or what else the server says; None while it goes on"""
    unfinished: dict[int, dict[str, str]] = field(default_factory=dict)
    """tool calls, which may come in several events"""

    def receive(self, choice: dict[str, Any]) -> None:
        """Take in one event of the stream."""
        delta = choice.get("delta") or {}
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        said = delta.get("content")
        self.parts = [Part(text, thinking) for text, thinking in ((thought, True), (said, False)) if text]
        for part in self.parts:
            name = "reasoning_content" if part.thinking else "content"
            self.message[name] = self.message.get(name, "") + part.text
        for piece in delta.get("tool_calls") or ():
            self._add_to_call(piece)
        entries = (choice.get("logprobs") or {}).get("content") or ()
        self.logprobs = [(*_logprob(one), tuple(map(_logprob, one.get("top_logprobs") or ()))) for one in entries]
        self.tokens = len(entries) or bool(self.parts or delta.get("tool_calls"))
        self.finish_reason = choice.get("finish_reason") or self.finish_reason

    def _add_to_call(self, piece: dict[str, Any]) -> None:
        index = piece.get("index", len(self.unfinished))
        call = self.unfinished.setdefault(index, {"id": "", "name": "", "arguments": ""})
        function = piece.get("function") or {}
        call["id"] = piece.get("id") or call["id"]
        call["name"] += function.get("name") or ""
        call["arguments"] += function.get("arguments") or ""

    def finish(self) -> None:
        """Nothing more comes, so the calls are whole. Arguments that are no JSON object stay text."""
        self.receive({})
        for call in self.unfinished.values():
            function = {"name": call["name"], "arguments": call["arguments"] or "{}"}
            function = read_call(json.dumps(function)) or function
            self.parts.append(Part("", call=function))
            with_id = {"id": call["id"], **function} if call["id"] else function
            self.message.setdefault("tool_calls", []).append(with_id)


class Server:
    """An OpenAI-compatible server, given by its base URL (as in http://127.0.0.1:8000/v1; /v1 may be left out)."""

    def __init__(self, url: str, api_key: str | None = None) -> None:
        self.url = url.strip().rstrip("/")
        try:
            parts = urllib.parse.urlsplit(self.url)
            is_address = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # such as a port above 65535
            is_address = False
        if not is_address:
            raise UserError(f"{url} is no address of a server; give one as http://127.0.0.1:8000/v1")
        self.host = parts.netloc.rpartition("@")[2]
        self.url += "" if parts.path else "/v1"
        is_here = parts.hostname in ("localhost", "127.0.0.1", "::1")  # which no proxy could reach
        self.opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if is_here else []))
        self.api_key = api_key

    def models(self) -> list[str]:
        """The names of its models."""
        with self._open("/models") as response:
            try:
                return [str(model["id"]) for model in json.load(response)["data"]]
            except (ValueError, KeyError, TypeError):
                raise UserError(
                    f"{self.url}/models gives no list of models; is that an OpenAI-compatible server?"
                ) from None

    def answer(
        self,
        model: str,
        messages: Sequence[Message],
        schemas: list[dict[str, Any]],
        params: SamplingParams,
        think: bool,
    ) -> Generator[Reply]:
        """The next message of a conversation (in MiniMind's schema): one Reply, after everything that comes.

        schemas  of the tools that the model may call
        Closing the generator ends the answer. Raises UserError for whatever goes wrong.
        """
        reply = Reply()
        with self._open("/chat/completions", request_body(model, messages, schemas, params, think)) as response:
            try:
                for line in response:
                    name, _, data = line.decode("utf-8", errors="replace").strip().partition(":")
                    if name != "data":
                        continue
                    if data.strip() == "[DONE]":
                        break
                    event = json.loads(data)
                    if error := event.get("error"):
                        raise UserError(f"{self.url} answers: {_said(error)}")
                    for choice in event.get("choices") or ():
                        reply.receive(choice)
                        yield reply
                else:
                    if reply.finish_reason is None:
                        raise UserError(f"{self.url} ended in the middle of an answer; is the server running?")
            except (OSError, http.client.HTTPException) as error:
                raise UserError(f"the connection to {self.url} broke off: {error}") from None
            except (ValueError, AttributeError, TypeError, KeyError):
                raise UserError(f"{self.url} sends no stream of completions; is it OpenAI-compatible?") from None
        reply.finish()
        yield reply

    def _open(self, path: str, body: dict[str, Any] | None = None) -> http.client.HTTPResponse:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        if self.api_key:  # which no redirect may carry elsewhere
            request.add_unredirected_header("Authorization", f"Bearer {self.api_key}")
        try:
            return self.opener.open(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            said = error.read(2000).decode("utf-8", errors="replace").strip()
            with suppress(ValueError, KeyError, TypeError):
                said = _said(json.loads(said)["error"])
            raise UserError(f"{self.url}{path} answers with status {error.code}: {said or error.reason}") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise UserError(f"{self.url} cannot be reached: {reason}; is the server running?") from None


@dataclass
class RemoteConversation(Conversation):
    """Turns of one user with a model behind a server."""

    server: Server
    model: str

    def _speak(
        self, message: Message, messages: list[Message], schemas: list[dict[str, Any]]
    ) -> Generator[Part, None, None]:
        with closing(self.server.answer(self.model, messages, schemas, self.params, self.think)) as replies:
            for reply in replies:
                message.update(reply.message)
                self.answer_tokens += reply.tokens
                yield from reply.parts


def request_body(
    model: str, messages: Sequence[Message], schemas: list[dict[str, Any]], params: SamplingParams, think: bool
) -> dict[str, Any]:
    """What /chat/completions is sent."""
    usual = SamplingParams()
    set_here = {name: value for name in SETTINGS if (value := getattr(params, name)) != getattr(usual, name)}
    common = {name: getattr(params, name) for name in COMMON}
    body = {"model": model, "messages": to_openai(messages), "stream": True, **common, **set_here}
    if params.top_logprobs:
        body |= {"logprobs": True, "top_logprobs": params.top_logprobs}
    if schemas:
        body["tools"] = schemas
    if think:
        body["chat_template_kwargs"] = {"enable_thinking": True, "open_thinking": True}
    return body


def to_openai(messages: Sequence[Message]) -> list[Message]:
    """Messages in OpenAI's schema: thinking left out, every call with an id, by which its result names it.

    A call whose tool was stopped has no result; servers refuse such a call, so it is left out.
    """
    sent: list[Message] = []
    ids: list[str] = []  # of the calls whose results come next
    for number, message in enumerate(messages):
        kept = {name: value for name, value in message.items() if name not in ("reasoning_content", "tool_calls")}
        if message["role"] == "tool":
            kept |= {"tool_call_id": ids.pop(0)} if ids else {}
        else:
            results = list(takewhile(lambda one: one["role"] == "tool", messages[number + 1 :]))
            calls = [
                _openai_call(call, f"call_{number}_{place}")
                for place, (call, _) in enumerate(zip(message.get("tool_calls") or (), results))
            ]
            kept |= {"tool_calls": calls} if calls else {}
            ids = [call["id"] for call in calls]
        sent.append(kept)
    return sent


def _openai_call(call: dict[str, Any], new_id: str) -> dict[str, Any]:
    arguments = call["arguments"]
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {
        "id": call.get("id") or new_id,
        "type": "function",
        "function": {"name": call["name"], "arguments": text},
    }


def _logprob(entry: dict[str, Any]) -> tuple[str, float]:
    return str(entry["token"]), float(entry["logprob"])


def _said(error: Any) -> str:
    """What an error says, in OpenAI's shape or any other."""
    return str(error.get("message", error) if isinstance(error, dict) else error)
