"""A conversation with a model behind an OpenAI-compatible server."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Generator, Iterator
from dataclasses import fields
from typing import Any

from minimind.errors import UserError
from minimind.infer.conversation import Conversation
from minimind.infer.sampler import SamplingParams
from minimind.infer.text import Part
from minimind.tokenizer.parse import read_call
from minimind.tools import Toolbox

TIMEOUT = 300.0  # seconds without a sign of the server
COMMON = ("temperature", "top_p", "max_tokens")  # every server knows these; others are sent only where they are set


class Server:
    """An OpenAI-compatible server, given by its base URL (as in http://127.0.0.1:8000/v1)."""

    def __init__(self, url: str, api_key: str | None = None) -> None:
        self.url = url.rstrip("/")
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"{url} is no address of a server; give one as http://127.0.0.1:8000/v1")
        is_here = parts.hostname in ("localhost", "127.0.0.1", "::1")  # which no proxy could reach
        self.opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if is_here else []))
        self.api_key = api_key

    def models(self) -> list[str]:
        """The names of its models."""
        with self._open("/models") as response:
            try:
                return [model["id"] for model in json.load(response)["data"]]
            except (ValueError, KeyError, TypeError):
                raise UserError(
                    f"{self.url}/models gives no list of models; is that an OpenAI-compatible server?"
                ) from None

    def stream(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The deltas of a chat completion. Raises UserError for whatever goes wrong."""
        with self._open("/chat/completions", {**request, "stream": True}) as response:
            try:
                for line in response:
                    field, _, data = line.decode("utf-8", errors="replace").strip().partition(":")
                    if field != "data" or data.strip() == "[DONE]":
                        continue
                    event = json.loads(data)
                    if error := event.get("error"):
                        raise UserError(f"{self.url} answers: {error.get('message', error)}")
                    if event.get("choices"):
                        yield event["choices"][0].get("delta") or {}
            except (OSError, http.client.HTTPException) as error:
                raise UserError(f"the connection to {self.url} broke off: {error}") from None
            except (ValueError, AttributeError, TypeError):
                raise UserError(f"{self.url} sends no stream of completions; is it OpenAI-compatible?") from None

    def _open(self, path: str, body: dict[str, Any] | None = None) -> http.client.HTTPResponse:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        if self.api_key:  # which no redirect may carry elsewhere
            request.add_unredirected_header("Authorization", f"Bearer {self.api_key}")
        try:
            return self.opener.open(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            raise UserError(f"{self.url}{path} answers with status {error.code}: {_message(error)}") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise UserError(f"{self.url} cannot be reached: {reason}; is the server running?") from None


class RemoteConversation(Conversation):
    """Turns of one user with a model elsewhere. Its messages are in OpenAI's form, tool calls with ids."""

    def __init__(
        self,
        server: Server,
        model: str,
        params: SamplingParams,
        system: str = "",
        think: bool = False,
        tools: Toolbox | None = None,
    ) -> None:
        self.server = server
        self.model = model
        self.start(params, system, think, tools)

    def _ask(
        self, messages: list[dict[str, Any]], schemas: list[dict[str, Any]]
    ) -> Generator[Part, None, dict[str, Any]]:
        """The assistant's next message, in pieces."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        message: dict[str, Any] = {"role": "assistant", "content": ""}
        calls: dict[int, dict[str, Any]] = {}
        stream = self.server.stream(self._request([*system, *messages], schemas))
        try:
            for delta in stream:
                self.answer_tokens += 1
                thought = delta.get("reasoning_content") or delta.get("reasoning")
                if thought:
                    yield Part(thought, thinking=True)
                if text := delta.get("content"):
                    message["content"] += text
                    yield Part(text)
                for piece in delta.get("tool_calls") or []:
                    _add_to_call(calls, piece)
        except UserError:
            raise
        except BaseException:
            messages.append(message)
            raise
        finally:
            stream.close()  # type: ignore[attr-defined]
        if calls:
            message["tool_calls"] = list(calls.values())
        for call in calls.values():
            parsed = read_call(json.dumps(call["function"]))
            yield Part("", call=parsed) if parsed else Part(json.dumps(call["function"], ensure_ascii=False))
        return message

    def _request(self, messages: list[dict[str, Any]], schemas: list[dict[str, Any]]) -> dict[str, Any]:
        defaults = SamplingParams()
        hidden = ("stop_ids", "logit_bias", "top_logprobs", "json_schema")
        sampling = {
            field.name: value
            for field in fields(SamplingParams)
            if field.name not in hidden
            and (
                (value := getattr(self.params, field.name)) != getattr(defaults, field.name) or field.name in COMMON
            )
        }
        request = {"model": self.model, "messages": messages, **sampling}
        if schemas:
            request["tools"] = schemas
        if self.think:
            request["chat_template_kwargs"] = {"enable_thinking": True, "open_thinking": True}
        return request


def _add_to_call(calls: dict[int, dict[str, Any]], piece: dict[str, Any]) -> None:
    """One delta of a tool call, put to those before it."""
    index = piece.get("index") or 0
    new = {"id": f"call_{index}", "type": "function", "function": {"name": "", "arguments": ""}}
    call = calls.setdefault(index, new)
    call["id"] = piece.get("id") or call["id"]
    for name, text in (piece.get("function") or {}).items():
        if name in call["function"]:
            call["function"][name] += text or ""


def _message(error: urllib.error.HTTPError) -> str:
    """What the body of a refusal says, in OpenAI's shape or any other."""
    text = error.read(2000).decode("utf-8", errors="replace").strip()
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return text or error.reason
