"""From the engine's tokens to OpenAI's choices: pieces of a stream, and the same pieces put together."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from minimind.infer.text import AnswerStream, Part, TextStream
from minimind.serve.errors import ApiError, to_json
from minimind.serve.schemas import Sampling
from minimind.serve.token_text import TokenText
from minimind.serve.worker import Ending, Failed, Job, News

LOWEST = -9999.0  # JSON has no minus infinity; OpenAI's API writes this


class Choice(Protocol):
    """One answer while it comes."""

    index: int
    tokens: int
    """tokens that were read"""
    finish_reason: str | None

    def receive(self, news: News) -> list[dict[str, Any]]:
        """Pieces as a stream's choices, each with index and finish_reason."""

    def whole(self) -> dict[str, Any]:
        """All pieces as one choice."""


class ChatChoice:
    """A choice of /v1/chat/completions."""

    def __init__(
        self, index: int, answer: AnswerStream, text: TokenText, logprobs: bool, parallel_calls: bool
    ) -> None:
        self.index = index
        self.answer = answer
        self.text = text
        self.logprobs: list[dict[str, Any]] | None = [] if logprobs else None
        self.parallel_calls = parallel_calls
        self.message: dict[str, Any] = {"role": "assistant", "content": ""}
        self.tokens = self.thinking_tokens = 0
        self.finish_reason: str | None = None

    def receive(self, news: News) -> list[dict[str, Any]]:
        if self.finish_reason is not None:
            return []
        parts: list[Part] = []
        entries = []
        stop_reason = news.stop_reason
        for token in news.tokens:
            self.tokens += 1
            self.thinking_tokens += self.answer.thinking
            if self.logprobs is not None:
                likeliest = [self._logprob(*pair) for pair in token.top_logprobs]
                entries.append({**self._logprob(token.id, token.logprob), "top_logprobs": likeliest})
            parts += self.answer.push(token.id)
            called = any(part.call is not None for part in parts)
            if self.answer.stopped or (called and not self.parallel_calls):
                stop_reason = "stop"
                break
        if stop_reason is not None:
            parts += self.answer.flush()
            stop_reason = "stop" if self.answer.stopped else stop_reason
        pieces = []
        delta = self._add(parts)
        if delta or entries:
            pieces.append(self._piece(delta, entries))
        if stop_reason is not None:
            ended = "tool_calls" if "tool_calls" in self.message else "stop"
            self.finish_reason = ended if stop_reason == "stop" else "length"
            pieces.append(self._piece({}, []))
        return pieces

    def whole(self) -> dict[str, Any]:
        logprobs = None if self.logprobs is None else {"content": self.logprobs, "refusal": None}
        if "tool_calls" in self.message and not self.message["content"]:
            self.message["content"] = None
        return {
            "index": self.index,
            "message": self.message,
            "logprobs": logprobs,
            "finish_reason": self.finish_reason,
        }

    def _add(self, parts: Sequence[Part]) -> dict[str, Any]:
        """The parts as a delta, after adding them to the message."""
        delta: dict[str, Any] = {}
        for part in parts:
            if part.call is not None:
                calls = self.message.setdefault("tool_calls", [])
                arguments = json.dumps(part.call["arguments"], ensure_ascii=False)
                function = {"name": part.call["name"], "arguments": arguments}
                call = {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}
                delta.setdefault("tool_calls", []).append({"index": len(calls), **call})
                calls.append(call)
            else:
                field = "reasoning_content" if part.thinking else "content"
                for target in (delta, self.message):
                    target[field] = target.get(field, "") + part.text
        return delta

    def _piece(self, delta: dict[str, Any], entries: list[dict[str, Any]]) -> dict[str, Any]:
        logprobs = None
        if self.logprobs is not None and entries:
            self.logprobs += entries
            logprobs = {"content": entries, "refusal": None}
        return {"index": self.index, "delta": delta, "logprobs": logprobs, "finish_reason": self.finish_reason}

    def _logprob(self, token: int, logprob: float) -> dict[str, Any]:
        return {
            "token": self.text.of(token),
            "logprob": max(logprob, LOWEST),
            "bytes": list(self.text.bytes_of(token)),
        }


class TextChoice:
    """A choice of /v1/completions."""

    def __init__(self, index: int, stream: TextStream, text: TokenText, logprobs: bool) -> None:
        self.index = index
        self.stream = stream
        self.text = text
        self.said = ""
        self.offset = 0  # characters of the tokens so far
        names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
        self.logprobs: dict[str, list[Any]] | None = {name: [] for name in names} if logprobs else None
        self.tokens = 0
        self.finish_reason: str | None = None

    def receive(self, news: News) -> list[dict[str, Any]]:
        if self.finish_reason is not None:
            return []
        new = ""
        stop_reason = news.stop_reason
        logprobs: dict[str, list[Any]] | None = None
        if self.logprobs is not None:
            logprobs = {name: [] for name in self.logprobs}
        for token in news.tokens:
            self.tokens += 1
            if logprobs is not None:
                text = self.text.of(token.id)
                logprobs["tokens"].append(text)
                logprobs["token_logprobs"].append(max(token.logprob, LOWEST))
                likeliest = {self.text.of(other): max(logprob, LOWEST) for other, logprob in token.top_logprobs}
                logprobs["top_logprobs"].append(likeliest)
                logprobs["text_offset"].append(self.offset)
                self.offset += len(text)
            new += self.stream.push(token.id)
            if self.stream.stopped:
                stop_reason = "stop"
                break
        if stop_reason is not None:
            new += self.stream.flush()
            self.finish_reason = "stop" if self.stream.stopped or stop_reason == "stop" else "length"
        self.said += new
        for name, values in (logprobs or {}).items():
            assert self.logprobs is not None
            self.logprobs[name] += values
        if not new and self.finish_reason is None and not (logprobs and logprobs["tokens"]):
            return []
        return [{"index": self.index, "text": new, "logprobs": logprobs, "finish_reason": self.finish_reason}]

    def whole(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "text": self.said,
            "logprobs": self.logprobs,
            "finish_reason": self.finish_reason,
        }


class Answer:
    """What an endpoint answers: the choices of a job under one head."""

    def __init__(self, kind: str, name: str, job: Job, choices: Sequence[Choice], prompt_tokens: int) -> None:
        self.kind = kind  # OpenAI's name for the object
        self.job = job
        self.choices = choices
        self.prompt_tokens = prompt_tokens
        prefix = "chatcmpl" if kind == "chat.completion" else "cmpl"
        self.head = {"id": f"{prefix}-{secrets.token_hex(12)}", "created": int(time.time()), "model": name}

    async def whole(self) -> dict[str, Any]:
        """The answer as one object."""
        async for _ in self._pieces():
            pass
        choices = [choice.whole() for choice in self.choices]
        return {**self.head, "object": self.kind, "choices": choices, "usage": self._usage()}

    async def events(self, request: Sampling) -> AsyncIterator[bytes]:
        """The answer as server-sent events."""
        is_chat = self.kind == "chat.completion"
        chunk: dict[str, Any] = {**self.head, "object": "chat.completion.chunk" if is_chat else self.kind}
        if request.stream_options.include_usage:
            chunk["usage"] = None
        try:
            for choice in self.choices if is_chat else ():
                delta = {"role": "assistant", "content": ""}
                piece = {"index": choice.index, "delta": delta, "logprobs": None, "finish_reason": None}
                yield event({**chunk, "choices": [piece]})
            async for piece in self._pieces():
                yield event({**chunk, "choices": [piece]})
            if request.stream_options.include_usage:
                yield event({**chunk, "choices": [], "usage": self._usage()})
        except ApiError as error:  # the status line was sent long ago
            yield event(error.body)
        else:
            yield b"data: [DONE]\n\n"

    async def _pieces(self) -> AsyncIterator[dict[str, Any]]:
        try:
            async for news in self.job.news():
                choice = self.choices[news.choice]
                for piece in choice.receive(news):
                    yield piece
                if choice.finish_reason is not None:
                    self.job.stop(choice.index)
        except TimeoutError:
            raise ApiError(504, "the answer took longer than the server allows; ask for fewer tokens") from None
        except Ending:
            raise ApiError(503, "the server is shutting down; ask again later") from None
        except Failed as error:
            raise ApiError(500, f"the engine failed ({error}); its output says more") from None

    def _usage(self) -> dict[str, Any]:
        completion = sum(choice.tokens for choice in self.choices)
        usage: dict[str, Any] = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": self.prompt_tokens + completion,
        }
        thinking = sum(choice.thinking_tokens for choice in self.choices if isinstance(choice, ChatChoice))
        return {**usage, "completion_tokens_details": {"reasoning_tokens": thinking}}


def event(data: dict[str, Any]) -> bytes:
    return b"data: " + to_json(data) + b"\n\n"
