"""From a model's events to OpenAI's choices: chunks of a stream, and the same chunks put together."""

from __future__ import annotations

import json
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from typing import Any

from minimind.errors import UserError
from minimind.infer.events import End, ModelEvent, Text, Thinking, Token, ToolCall
from minimind.infer.text import AnswerStream, StreamDecoder, TextStream
from minimind.serve.errors import ApiError, to_json
from minimind.serve.schemas import Sampling
from minimind.serve.token_text import TokenText, nats
from minimind.serve.worker import Ending, Failed, Job


class Choice(ABC):
    """One answer while it comes."""

    def __init__(
        self, index: int, stream: AnswerStream | TextStream, text: TokenText, parallel_calls: bool = True
    ) -> None:
        self.index = index
        self.stream = stream
        self.text = text
        self.parallel_calls = parallel_calls
        self.tokens = self.thinking_tokens = 0
        self.finish_reason: str | None = None

    def receive(self, news: Sequence[Token | End]) -> list[dict[str, Any]]:
        """What the engine brought as chunks of a stream, each with index and finish_reason."""
        events: list[ModelEvent] = []
        for one in news if self.finish_reason is None else ():
            events += self.stream.push(one)
            called = any(isinstance(event, ToolCall) for event in events)
            if (self.stream.content.stopped or (called and not self.parallel_calls)) and not isinstance(one, End):
                events += self.stream.push(End("stop"))
                break
        self.tokens += sum(len(event.tokens) for event in events)
        self.thinking_tokens += sum(len(event.tokens) for event in events if isinstance(event, Thinking))
        return self._chunks(events) if events else []

    @abstractmethod
    def _chunks(self, events: list[ModelEvent]) -> list[dict[str, Any]]:
        """The events as chunks; keeps what `whole` needs and sets `finish_reason` at the end."""

    @abstractmethod
    def whole(self) -> dict[str, Any]:
        """All chunks as one choice."""

    def as_choice(self, logprobs: Any, **content: Any) -> dict[str, Any]:
        return {"index": self.index, **content, "logprobs": logprobs, "finish_reason": self.finish_reason}


class ChatChoice(Choice):
    """A choice of /v1/chat/completions. `former`: its one call comes as OpenAI's former `function_call`."""

    def __init__(
        self,
        index: int,
        stream: AnswerStream,
        text: TokenText,
        logprobs: bool = False,
        parallel_calls: bool = True,
        former: bool = False,
    ) -> None:
        super().__init__(index, stream, text, parallel_calls and not former)
        self.call_field = "function_call" if former else "tool_calls"
        self.logprobs: list[dict[str, Any]] | None = [] if logprobs else None
        self.message: dict[str, Any] = {"role": "assistant", "content": ""}

    def _chunks(self, events: list[ModelEvent]) -> list[dict[str, Any]]:
        chunks = []
        delta, logprobs = self._delta(events), None
        if self.logprobs is not None and (
            entries := [self._entry(one) for event in events for one in event.tokens]
        ):
            self.logprobs += entries
            logprobs = {"content": entries, "refusal": None}
        if delta or logprobs:
            chunks.append(self.as_choice(logprobs, delta=delta))
        if isinstance(end := events[-1], End):
            ended = self.call_field if self.call_field in self.message else "stop"
            self.finish_reason = ended if end.stop_reason == "stop" else "length"
            chunks.append(self.as_choice(None, delta={}))
        return chunks

    def whole(self) -> dict[str, Any]:
        logprobs = None if self.logprobs is None else {"content": self.logprobs, "refusal": None}
        if self.call_field in self.message and not self.message["content"]:
            self.message["content"] = None
        return self.as_choice(logprobs, message=self.message)

    def _delta(self, events: Sequence[ModelEvent]) -> dict[str, Any]:
        """What the events add to the message, after adding it."""
        delta: dict[str, Any] = {}
        for event in events:
            match event:
                case ToolCall(name, arguments):
                    function = {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
                    if self.call_field == "function_call":
                        self.message["function_call"] = delta["function_call"] = function
                        continue
                    calls = self.message.setdefault("tool_calls", [])
                    call = {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}
                    delta.setdefault("tool_calls", []).append({"index": len(calls), **call})
                    calls.append(call)
                case Thinking(text) | Text(text) if text:
                    field = "reasoning_content" if isinstance(event, Thinking) else "content"
                    for target in (delta, self.message):
                        target[field] = target.get(field, "") + text
        return delta

    def _entry(self, token: Token) -> dict[str, Any]:
        return {**self._logprob(token), "top_logprobs": [self._logprob(one) for one in token.top_logprobs]}

    def _logprob(self, token: Token) -> dict[str, Any]:
        spelled = {"token": self.text.of(token), "bytes": list(self.text.bytes_of(token))}
        return {**spelled, "logprob": nats(token)}


class TextChoice(Choice):
    """A choice of /v1/completions."""

    def __init__(self, index: int, stream: TextStream, text: TokenText, logprobs: bool = False) -> None:
        super().__init__(index, stream, text)
        self.content = ""
        names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
        self.logprobs: dict[str, list[Any]] | None = {name: [] for name in names} if logprobs else None
        self.decoder = StreamDecoder(text.tokenizer)
        self.offset = 0  # characters of the text that the tokens so far have made whole

    def echo(self, prompt: str, tokens: Sequence[Token]) -> dict[str, Any]:
        """The prompt as the first chunk; its first token has no log-probability, as nothing is before it."""
        self.content = prompt
        logprobs = self._add_logprobs(tokens)
        if logprobs is not None and self.logprobs is not None:
            for name in ("token_logprobs", "top_logprobs"):
                logprobs[name][0] = self.logprobs[name][0] = None
        self.decoder, self.offset = StreamDecoder(self.text.tokenizer), len(prompt)
        return self.as_choice(logprobs, text=prompt)

    def _chunks(self, events: list[ModelEvent]) -> list[dict[str, Any]]:
        new = "".join(event.text for event in events if isinstance(event, Text))
        self.content += new
        tokens = [token for event in events for token in event.tokens]
        if isinstance(end := events[-1], End):
            self.finish_reason = "stop" if end.stop_reason == "stop" else "length"
            tokens += [end.token] if end.token else []
        logprobs = self._add_logprobs(tokens)
        if not new and self.finish_reason is None and not (logprobs and logprobs["tokens"]):
            return []
        return [self.as_choice(logprobs, text=new)]

    def _add_logprobs(self, tokens: Sequence[Token]) -> dict[str, list[Any]] | None:
        """The columns of these tokens, after adding them to those of all; None where nobody asked for them."""
        if self.logprobs is None:
            return None
        columns: tuple[list[Any], ...] = ([], [], [], [])
        for token in tokens:
            row = (self.text.of(token), nats(token), self.text.likeliest(token), self.offset)
            for column, value in zip(columns, row):
                column.append(value)
            self.offset += len(self.decoder.push(token.id))
        for total, column in zip(self.logprobs.values(), columns):
            total += column
        return dict(zip(self.logprobs, columns))

    def whole(self) -> dict[str, Any]:
        return self.as_choice(self.logprobs, text=self.content)


class Reply:
    """What an endpoint answers: the choices of a job under one head."""

    def __init__(
        self,
        kind: str,
        name: str,
        job: Job,
        choices: Sequence[Choice],
        prompt_tokens: int,
        echoes: AsyncIterator[dict[str, Any]] | None = None,
    ) -> None:
        """`echoes`: chunks that come before those of the job, of its choices."""
        self.kind = kind  # OpenAI's name for the object
        self.job = job
        self.choices = choices
        self.echoes = echoes
        self.prompt_tokens = prompt_tokens
        prefix = {"chat.completion": "chatcmpl", "text_completion": "cmpl", "response": "resp"}[kind]
        self.head = {"id": f"{prefix}-{secrets.token_hex(12)}", "created": int(time.time()), "model": name}

    async def whole(self) -> dict[str, Any]:
        """The answer as one object."""
        async for _ in self._chunks():
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
                first = choice.as_choice(None, delta={"role": "assistant", "content": ""})
                yield event({**chunk, "choices": [first]})
            async for one in self._chunks():
                yield event({**chunk, "choices": [one]})
            if request.stream_options.include_usage:
                yield event({**chunk, "choices": [], "usage": self._usage()})
        except ApiError as error:  # the status line was sent long ago
            yield event(error.body)
        else:
            yield b"data: [DONE]\n\n"

    async def _chunks(self) -> AsyncIterator[dict[str, Any]]:
        try:
            if self.echoes is not None:
                async for chunk in self.echoes:
                    yield chunk
            async for news in self.job.news():
                choice = self.choices[news.choice]
                for chunk in choice.receive(news.items):
                    yield chunk
                if choice.finish_reason is not None:
                    self.job.stop(choice.index)
        except TimeoutError:
            raise ApiError(504, "the answer took longer than the server allows; ask for fewer tokens") from None
        except Ending:
            raise ApiError(503, "the server is shutting down; ask again later") from None
        except UserError as error:
            raise ApiError(400, str(error)) from None
        except Failed as error:
            raise ApiError(500, f"the engine failed ({error}); its output says more") from None

    def _usage(self) -> dict[str, Any]:
        completion = sum(choice.tokens for choice in self.choices)
        thinking = sum(choice.thinking_tokens for choice in self.choices)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": self.prompt_tokens + completion,
            "completion_tokens_details": {"reasoning_tokens": thinking},
        }


def event(data: dict[str, Any]) -> bytes:
    return b"data: " + to_json(data) + b"\n\n"
