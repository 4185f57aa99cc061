"""The backend for a model behind an OpenAI-compatible server: what it is asked, and its answer as events."""

from __future__ import annotations

import copy
import http.client
import json
import math
import random
import time
import urllib.parse
import urllib.request
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from itertools import takewhile
from typing import Any

from minimind.errors import UserError
from minimind.infer import transport
from minimind.infer.events import End, ModelEvent, Text, Thinking, Token, ToolCall
from minimind.infer.sampler import SETTINGS, SamplingParams
from minimind.tokenizer.messages import Message
from minimind.tokenizer.parse import read_call

COMMON = ("temperature", "top_p", "max_tokens")  # every server knows these; others are sent only where they are set
NOT_OURS = (ValueError, AttributeError, TypeError, KeyError, OverflowError, RecursionError)
"""what an answer in another form, or none, raises where it is read"""
FIRST_WAIT = 1.0
"""seconds before a request is sent again; twice as many each time"""
LONGEST_WAIT = 60.0
LONGEST_ASKED_WAIT = 600.0
"""of what a server asks for with Retry-After"""
LATER = (408, 409, 425, 429)
"""statuses, besides those from 500 on, that may be others in a moment"""


class ServerError(UserError):
    """No answer came, or none that can be used.

    status       of HTTP; None where the connection or the answer itself is broken
    retry_after  seconds after which the server wants to be asked again, where it says so
    """

    def __init__(self, sentence: str, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(sentence)
        self.status, self.retry_after = status, retry_after

    @property
    def passes(self) -> bool:
        """Whether the same request may be answered in a moment."""
        return self.status is None or self.status in LATER or self.status >= 500

    def wait(self, attempt: int) -> float:
        """Seconds to wait after so many attempts."""
        if self.retry_after is not None:
            return min(self.retry_after, LONGEST_ASKED_WAIT)
        # Many that failed together do not come back together.
        return min(FIRST_WAIT * 2 ** (attempt - 1), LONGEST_WAIT) * random.uniform(0.5, 1)


class Server:
    """An OpenAI-compatible server, given by its base URL (as in http://127.0.0.1:8000/v1; /v1 may be left out).

    timeout  seconds that a whole answer may take
    """

    def __init__(self, url: str, api_key: str | None = None, timeout: float = math.inf) -> None:
        self.timeout = timeout
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
        self.proxied = parts.hostname not in ("localhost", "127.0.0.1", "::1")  # which no proxy could reach
        self.api_key = api_key

    def models(self) -> list[str]:
        """The names of its models."""
        try:
            return [_text(model["id"]) for model in self.ask("/models")["data"]]
        except NOT_OURS:
            raise UserError(
                f"{self.url}/models gives no list of models; is that an OpenAI-compatible server?"
            ) from None

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """What it answers as JSON: to a GET, or with a body to a POST. Raises one of NOT_OURS where it is none."""
        with self._open(path, body) as (response, _):
            answer = b"".join(transport.lines(response))
        return json.loads(answer or b"null")

    @property
    def native(self) -> Server:
        """The same server without /v1: there it has endpoints of its own."""
        other = copy.copy(self)
        other.url = self.url.removesuffix("/v1")
        return other

    def stream(self, body: dict[str, Any]) -> Generator[ModelEvent, None, None]:
        """What /chat/completions answers, as it comes; closing the generator ends the answer."""
        answer = ChoiceStream()
        with self._open("/chat/completions", body) as (response, watch):
            try:
                for line in transport.lines(response):
                    name, _, data = line.decode("utf-8", errors="replace").strip().partition(":")
                    if name != "data":
                        continue
                    if data.strip() == "[DONE]":
                        break
                    chunk = json.loads(data)
                    if error := chunk.get("error"):
                        raise ServerError(f"{self.url} answers: {_sentence(error)}")
                    answer.read_usage(chunk)
                    if events := [event for choice in chunk.get("choices") or () for event in answer.push(choice)]:
                        watch.extend(math.inf)  # while the reader is at work
                        yield from events
                        watch.extend(transport.NEXT)
                else:
                    if answer.stop_reason is None:
                        raise ServerError(f"{self.url} ended in the middle of an answer; is the server running?")
            except NOT_OURS:
                raise ServerError(f"{self.url} sends no stream of completions; is it OpenAI-compatible?") from None
        yield from answer.end()

    @contextmanager
    def _open(
        self, path: str, body: dict[str, Any] | None = None
    ) -> Iterator[tuple[http.client.HTTPResponse, transport.Watch]]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        if self.api_key:  # which no redirect may carry elsewhere
            request.add_unredirected_header("Authorization", f"Bearer {self.api_key}")
        response = None
        try:
            with transport.exchange(request, self.proxied, self.timeout) as (response, watch):
                if response.status >= 400:
                    text = response.read(2000).decode("utf-8", errors="replace").strip() or response.reason
                    with suppress(*NOT_OURS):
                        text = _sentence(json.loads(text)["error"])
                    sentence = f"{self.url}{path} answers with status {response.status}: {text}"
                    raise ServerError(sentence, response.status, _retry_after(response))
                yield response, watch
        except (OSError, http.client.HTTPException, ValueError) as error:
            if response is not None:
                raise ServerError(f"the connection to {self.url} broke off: {error}") from None
            reason = getattr(error, "reason", error)
            raise ServerError(f"{self.url} cannot be reached: {reason}; is the server running?") from None


class ChoiceStream:
    """The chunks of one choice as events."""

    def __init__(self) -> None:
        self.calls: dict[int, dict[str, str]] = {}  # which may come in several chunks
        self.stop_reason: str | None = None
        self.usage: tuple[int, int] | None = None

    def read_usage(self, chunk: dict[str, Any]) -> None:
        """Servers that were asked for it send it in a chunk of its own, the last; some send only a total."""
        usage = chunk.get("usage") or {}
        read, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if isinstance(read, int) and isinstance(written, int):
            self.usage = read, written

    def push(self, choice: dict[str, Any]) -> list[ModelEvent]:
        """What a chunk brings; its tokens come with the first event. Without log-probabilities they are one."""
        delta = choice.get("delta") or {}
        self.stop_reason = _text(choice.get("finish_reason") or "") or self.stop_reason
        thinking, content = delta.get("reasoning_content") or delta.get("reasoning"), delta.get("content")
        events: list[ModelEvent] = [Thinking(_text(thinking))] if thinking else []
        events += [Text(_text(content))] if content else []
        for part in delta.get("tool_calls") or ():
            self._add_to_call(part)
        entries = (choice.get("logprobs") or {}).get("content") or ()
        tokens = tuple(_token(one, tuple(map(_token, one.get("top_logprobs") or ()))) for one in entries)
        if not events and (tokens or delta.get("tool_calls")):
            events = [Text("")]
        return [replace(events[0], tokens=tokens or (Token(),)), *events[1:]] if events else []

    def _add_to_call(self, part: dict[str, Any]) -> None:
        call = self.calls.setdefault(part.get("index", len(self.calls)), {"id": "", "name": "", "arguments": ""})
        function = part.get("function") or {}
        call["id"] = _text(part.get("id") or call["id"])
        call["name"] += _text(function.get("name") or "")
        call["arguments"] += _text(function.get("arguments") or "")

    def end(self) -> Iterator[ModelEvent]:
        """No more chunks come, so the calls are whole. Arguments that are no JSON object stay text."""
        for call in self.calls.values():
            function = {"name": call["name"], "arguments": call["arguments"] or "{}"}
            yield ToolCall(**(read_call(json.dumps(function)) or function), id=call["id"] or None)
        yield End(self.stop_reason or "stop", usage=self.usage)


@dataclass
class RemoteBackend:
    """A model behind a server."""

    server: Server
    model: str

    def speak(
        self, messages: list[Message], schemas: list[dict[str, Any]], params: SamplingParams, think: bool
    ) -> Generator[ModelEvent, None, None]:
        return self.server.stream(request_body(self.model, messages, schemas, params, think))


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


def _token(entry: dict[str, Any], top_logprobs: tuple[Token, ...] = ()) -> Token:
    return Token(text=str(entry["token"]), logprob=float(entry["logprob"]), top_logprobs=top_logprobs)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _retry_after(response: http.client.HTTPResponse) -> float | None:
    """Seconds, given as a number of them or as a date."""
    given = response.headers.get("Retry-After", "")
    with suppress(ValueError):
        return max(0.0, float(given))
    with suppress(ValueError, TypeError):
        return max(0.0, parsedate_to_datetime(given).timestamp() - time.time())
    return None


def _sentence(error: Any) -> str:
    """What an error says, in OpenAI's shape or any other."""
    return str(error.get("message", error) if isinstance(error, dict) else error)[:2000]
