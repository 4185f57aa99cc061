"""The answer of /v1/responses: items (thinking, message, calls), whole or as they come."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from minimind.infer.events import End, ModelEvent, Text, Thinking, ToolCall
from minimind.infer.text import AnswerStream
from minimind.serve.answers import ChatChoice, Reply
from minimind.serve.errors import ApiError, to_json
from minimind.serve.responses import ResponsesRequest
from minimind.serve.token_text import TokenText
from minimind.serve.worker import Job


@dataclass
class Item:
    """A reasoning or a message whose text is still coming, or a call."""

    kind: str  # reasoning, message or function_call
    place: int  # in the output
    id: str = field(init=False)
    text: str = ""
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    call: dict[str, str] = field(default_factory=dict)
    """of a function_call: call_id and name"""

    def __post_init__(self) -> None:
        prefix = {"reasoning": "rs", "message": "msg", "function_call": "fc"}[self.kind]
        self.id = f"{prefix}_{secrets.token_hex(12)}"

    @property
    def part(self) -> dict[str, Any]:
        if self.kind == "reasoning":
            return {"type": "reasoning_text", "text": self.text}
        return {"type": "output_text", "text": self.text, "annotations": [], "logprobs": self.logprobs}

    def whole(self, status: str) -> dict[str, Any]:
        head = {"id": self.id, "type": self.kind, "status": status}
        if self.kind == "function_call":
            return {**head, **self.call, "arguments": self.text}
        content = [self.part] if status != "in_progress" else []
        return {
            **head,
            **({"summary": []} if self.kind == "reasoning" else {"role": "assistant"}),
            "content": content,
        }


class ResponseChoice(ChatChoice):
    """The one choice of /v1/responses. Its chunks are events without their number."""

    def __init__(self, stream: AnswerStream, text: TokenText, logprobs: bool, parallel_calls: bool) -> None:
        super().__init__(0, stream, text, logprobs, parallel_calls)
        self.items: list[Item] = []
        self.is_open = False  # whether more of the last item may come
        self.held: list[dict[str, Any]] = []  # log-probabilities of tokens whose text is not certain yet

    def _chunks(self, events: list[ModelEvent]) -> list[dict[str, Any]]:
        chunks: list[dict[str, Any]] = []
        for event in events:
            match event:
                case ToolCall(name, arguments):
                    chunks += self._call(name, json.dumps(arguments, ensure_ascii=False))
                case Thinking(text) | Text(text):
                    if self.logprobs is not None and isinstance(event, Text):
                        self.held += [self._entry(token) for token in event.tokens]
                    if text:
                        chunks += self._say("reasoning" if isinstance(event, Thinking) else "message", text)
                case End(stop_reason):
                    self.finish_reason = "stop" if stop_reason == "stop" else "length"
                    chunks += self._close("completed" if stop_reason == "stop" else "incomplete")
        return chunks

    def _say(self, kind: str, text: str) -> list[dict[str, Any]]:
        chunks: list[dict[str, Any]] = []
        if not self.is_open or self.items[-1].kind != kind:
            chunks += [*self._close("completed"), *self._open(Item(kind, len(self.items)))]
        item = self.items[-1]
        item.text += text
        delta: dict[str, Any] = {"delta": text}
        if kind == "message":
            delta["logprobs"], self.held = self.held, []
            item.logprobs += delta["logprobs"]
        return [*chunks, self._of(f"{item.part['type']}.delta", item, **delta)]

    def _call(self, name: str, arguments: str) -> list[dict[str, Any]]:
        call = {"call_id": f"call_{secrets.token_hex(12)}", "name": name}
        item = Item("function_call", len(self.items), call=call)
        chunks = [*self._close("completed"), *self._open(item)]
        item.text = arguments
        chunks.append(self._of("function_call_arguments.delta", item, delta=arguments))
        chunks.append(self._of("function_call_arguments.done", item, arguments=arguments, name=name))
        return [*chunks, *self._close("completed")]

    def _open(self, item: Item) -> list[dict[str, Any]]:
        added = {
            "type": "response.output_item.added",
            "output_index": item.place,
            "item": item.whole("in_progress"),
        }
        self.items.append(item)
        self.is_open = True
        if item.kind == "function_call":
            return [added]
        return [added, self._of("content_part.added", item, part=item.part)]

    def _close(self, status: str) -> list[dict[str, Any]]:
        if not self.is_open:
            return []
        self.is_open = False
        item = self.items[-1]
        if item.kind == "message":  # what ended it had no text of its own
            item.logprobs += self.held
            self.held = []
        done = {"type": "response.output_item.done", "output_index": item.place, "item": item.whole(status)}
        if item.kind == "function_call":
            return [done]
        more = {"logprobs": item.logprobs} if item.kind == "message" else {}
        text_done = self._of(f"{item.part['type']}.done", item, text=item.text, **more)
        return [text_done, self._of("content_part.done", item, part=item.part), done]

    def _of(self, event: str, item: Item, **content: Any) -> dict[str, Any]:
        place = {"item_id": item.id, "output_index": item.place}
        if item.kind != "function_call":
            place["content_index"] = 0
        return {"type": f"response.{event}", **place, **content}

    def output(self) -> list[dict[str, Any]]:
        """All items; the last one may be unfinished."""
        ended = "completed" if self.finish_reason == "stop" else "incomplete"
        return [
            item.whole("completed" if item.kind == "function_call" or item is not self.items[-1] else ended)
            for item in self.items
        ]


class ResponseReply(Reply):
    """What /v1/responses answers: one choice of a job, as an object or as numbered events."""

    choice: ResponseChoice

    def __init__(
        self, request: ResponsesRequest, name: str, job: Job, choice: ResponseChoice, prompt_tokens: int
    ) -> None:
        super().__init__("response", name, job, [choice], prompt_tokens)
        self.request, self.choice = request, choice
        self.number = 0  # of events so far

    async def whole(self) -> dict[str, Any]:
        async for _ in self._chunks():
            pass
        return self._response(self.status)

    async def events(self, request: Any = None) -> AsyncIterator[bytes]:
        yield self._event({"type": "response.created", "response": self._response("in_progress")})
        yield self._event({"type": "response.in_progress", "response": self._response("in_progress")})
        try:
            async for chunk in self._chunks():
                yield self._event(chunk)
        except ApiError as error:  # the status line was sent long ago
            failed = {"code": "server_error", "message": str(error)}
            yield self._event({"type": "response.failed", "response": self._response("failed", failed)})
            return
        yield self._event({"type": f"response.{self.status}", "response": self._response(self.status)})

    @property
    def status(self) -> str:
        return "completed" if self.choice.finish_reason == "stop" else "incomplete"

    def _event(self, data: dict[str, Any]) -> bytes:
        numbered = {**data, "sequence_number": self.number}
        self.number += 1
        return b"event: " + data["type"].encode() + b"\ndata: " + to_json(numbered) + b"\n\n"

    def _response(self, status: str, error: dict[str, str] | None = None) -> dict[str, Any]:
        used = self._usage()
        return {
            "id": self.head["id"],
            "object": "response",
            "created_at": self.head["created"],
            "model": self.head["model"],
            "status": status,
            "error": error,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "output": [] if status == "in_progress" else self.choice.output(),
            "usage": None
            if status == "in_progress"
            else {
                "input_tokens": used["prompt_tokens"],
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens": used["completion_tokens"],
                "output_tokens_details": used["completion_tokens_details"],
                "total_tokens": used["total_tokens"],
            },
            **self.request.described(),
        }
