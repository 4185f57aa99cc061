"""From a request to what the engine is asked: prompts and sampling parameters."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from minimind.api import Model
from minimind.infer.conversation import TooLong, chat_prompt
from minimind.infer.sampler import SamplingParams
from minimind.serve.errors import ApiError
from minimind.serve.schemas import ChatMessage, ChatRequest, CompletionRequest, NamedTool, Sampling, SchemaFormat

SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
Asked = list[tuple[list[int], SamplingParams]]


def ask_chat(request: ChatRequest, model: Model, longest: int, trim: bool) -> Asked:
    """`request.n` times the conversation's prompt. `longest` bounds an answer; `trim` lets old turns go.

    Raises ApiError, and UserError or ChatError for messages that the tokenizer cannot use.
    """
    wanted = request.max_completion_tokens or request.max_tokens
    params = sampling_params(request, model, min(wanted or longest, longest))
    tools = tool_texts(request) or None
    try:
        prompt = chat_prompt(
            model.tokenizer,
            messages_of(request.messages),
            model.engine.context,
            params.max_tokens,
            tools,
            request.thinks,
            trim,
        )
    except TooLong as error:
        raise ApiError(400, str(error), "context_length_exceeded", "messages") from None
    params = replace(params, top_logprobs=request.top_logprobs, json_schema=answer_schema(request))
    if is_forced(request):
        prompt += open_call(model)
    return [(prompt, p) for p in with_seeds(params, request.n)]


def ask_completion(request: CompletionRequest, model: Model, longest: int) -> Asked:
    """`request.n` times each prompt. Raises ApiError."""
    params = sampling_params(request, model, min(request.max_tokens or longest, longest))
    params = replace(params, top_logprobs=request.logprobs or 0)
    several = request.prompt
    prompts: Sequence[Any] = [several] if isinstance(several, str) or isinstance(several[0], int) else several
    asked: Asked = []
    for prompt in prompts:
        ids = [model.tokenizer.bos_id, *model.tokenizer.encode(prompt)] if isinstance(prompt, str) else prompt
        check_ids(ids, model, "prompt")
        if len(ids) >= model.engine.context:
            sentence = f"the prompt has {len(ids)} tokens, the model's context only {model.engine.context}"
            raise ApiError(400, sentence + ", with the answer; shorten it", "context_length_exceeded", "prompt")
        asked += [(ids, p) for p in with_seeds(params, request.n)]
    return asked


def sampling_params(request: Sampling, model: Model, max_tokens: int) -> SamplingParams:
    fields = {name: getattr(request, name) for name in SAMPLING if getattr(request, name) is not None}
    check_ids(request.logit_bias, model, "logit_bias")
    bias = tuple(request.logit_bias.items())
    return model.sampling_params(**fields, max_tokens=max_tokens, logit_bias=bias, seed=request.seed)


def check_ids(ids: Any, model: Model, param: str) -> None:
    size = model.model.config.vocab_size
    if (largest := max(ids, default=0)) >= size:
        raise ApiError(400, f"{param}: there is no token {largest}; ids go from 0 to {size - 1}", param=param)


def with_seeds(params: SamplingParams, n: int) -> Iterator[SamplingParams]:
    for choice in range(n):
        yield params if params.seed is None else replace(params, seed=params.seed + choice)


def messages_of(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """Messages in MiniMind's schema. Neighbours of the system or the user become one message each.

    Where an answer was lost, clients send two user messages in a row; models learn from alternating turns only.
    """
    plain = []
    for role, group in groupby(
        messages, key=lambda message: "system" if message.role == "developer" else message.role
    ):
        texts = []
        for message in group:
            parts = message.content
            text = parts if isinstance(parts, str) else "".join(part.text for part in parts)
            texts.append(text)
            if role in ("assistant", "tool"):
                extras: dict[str, Any] = {"reasoning_content": message.reasoning_content}
                if message.tool_calls:
                    extras["tool_calls"] = [call.model_dump() for call in message.tool_calls]
                plain.append({"role": role, "content": text, **extras})
        if role in ("system", "user"):
            plain.append({"role": role, "content": "\n\n".join(texts)})
    return plain


def tool_texts(request: ChatRequest) -> list[dict[str, Any]]:
    """The tools as training data describes them; none if the model is not to call any."""
    if request.tool_choice == "none":
        return []
    return [tool.model_dump(exclude_unset=True, exclude={"function": {"strict"}}) for tool in request.tools]


def is_forced(request: ChatRequest) -> bool:
    """Whether the answer has to be a tool call."""
    return request.tool_choice == "required" or isinstance(request.tool_choice, NamedTool)


def answer_schema(request: ChatRequest) -> str | None:
    """JSON Schema, as text, that the answer must follow; None for free text.

    A forced call is the JSON between the markers of a tool call: one of the tools' names with its arguments.
    """
    if is_forced(request):
        calls = []
        for tool in request.tools:
            function = tool.function
            if isinstance(request.tool_choice, NamedTool) and function.name != request.tool_choice.function.name:
                continue
            calls.append(
                {
                    "type": "object",
                    "properties": {
                        "name": {"const": function.name},
                        "arguments": function.parameters or {"type": "object"},
                    },
                    "required": ["name", "arguments"],
                    "additionalProperties": False,
                }
            )
        return json.dumps(calls[0] if len(calls) == 1 else {"anyOf": calls})
    if isinstance(request.response_format, SchemaFormat):
        return json.dumps(request.response_format.json_schema.schema_)
    return "{}" if request.response_format.type == "json_object" else None


def open_call(model: Model) -> list[int]:
    """Ids that begin a tool call in the model's format."""
    tokenizer = model.tokenizer
    marker = tokenizer.reserved.get("<tool_call>")
    begin = tokenizer.encode("<tool_call>") if marker is None else [marker]
    return [*begin, *tokenizer.encode("\n")]
