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
from minimind.serve.parts import ChatMessage
from minimind.serve.schemas import ChatRequest, CompletionRequest, Sampling

SAMPLING = ("temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "seed")
ROLES = {"developer": "system", "function": "tool"}
Asked = list[tuple[list[int], SamplingParams]]


def ask_chat(request: ChatRequest, model: Model, longest: int, trim: bool) -> Asked:
    """`request.n` times the conversation's prompt. `longest` bounds an answer; `trim` lets old turns go.

    Raises ApiError, and UserError or ChatError for messages that the tokenizer cannot use.
    """
    params = sampling_params(request, model, longest)
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
        raise too_long(str(error), model, "messages") from None
    offered = json.dumps(tools) if tools else None
    forced = request.calling == "required"
    params = replace(params, top_logprobs=request.top_logprobs, offered_tools=offered, open_call=forced)
    params = replace(params, thinking_budget=request.longest_thought)
    if forced:
        prompt += open_call(model)
    return [(prompt, p) for p in with_seeds(params, request.n)]


def ask_completion(request: CompletionRequest, model: Model, longest: int) -> tuple[list[list[int]], Asked]:
    """The prompts, and `request.n` times each of them with its params; not at all where no token is wanted.

    Raises ApiError.
    """
    prompts = completion_prompts(request, model)
    if request.limit == 0:
        return prompts, []
    params = replace(sampling_params(request, model, longest), top_logprobs=request.logprobs or 0)
    return prompts, [(ids, p) for ids in prompts for p in with_seeds(params, request.n)]


def completion_prompts(request: CompletionRequest, model: Model) -> list[list[int]]:
    """The ids of each prompt. Raises ApiError."""
    begins = not request.echo if request.add_special_tokens is None else request.add_special_tokens
    begin = [model.tokenizer.bos_id] if begins else []
    every = [[*begin, *model.tokenizer.encode(one)] if isinstance(one, str) else one for one in request.prompts]
    room = model.engine.context - (request.limit != 0)  # an answer needs a place
    for ids in every:
        check_ids(ids, model, "prompt")
        if not ids:
            raise ApiError(400, "prompt: is empty; there is no token to go on from", param="prompt")
        if len(ids) > room:
            raise too_long(f"the prompt has {len(ids)}; shorten it, so that an answer has room", model, "prompt")
    return every


def too_long(sentence: str, model: Model, param: str) -> ApiError:
    """With the words by which clients know that they have to send less."""
    usual = f"this model's maximum context length is {model.engine.context} tokens"
    return ApiError(400, f"{usual}: {sentence}", "context_length_exceeded", param)


def sampling_params(request: Sampling, model: Model, longest: int) -> SamplingParams:
    given = {name: getattr(request, name) for name in SAMPLING}
    given["repetition_penalty"] = request.repetition_penalty or request.repeat_penalty
    check_ids(request.logit_bias, model, "logit_bias")
    check_ids(request.stop_token_ids, model, "stop_token_ids")
    params = model.sampling_params(
        **{name: value for name, value in given.items() if value is not None},
        max_tokens=min(request.limit or longest, longest),
        logit_bias=tuple(request.logit_bias.items()),
        json_schema=request.schema_text,
    )
    ends = () if request.ignore_eos else params.stop_ids
    return replace(params, stop_ids=(*ends, *request.stop_token_ids))


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
    plain: list[dict[str, Any]] = []
    for role, group in groupby(messages, key=lambda message: ROLES.get(message.role, message.role)):
        if role in ("system", "user"):
            plain.append({"role": role, "content": "\n\n".join(message.text for message in group)})
            continue
        for message in group:
            extras: dict[str, Any] = {"reasoning_content": message.reasoning_content or message.reasoning}
            if message.calls:
                extras["tool_calls"] = [call.model_dump() for call in message.calls]
            plain.append({"role": role, "content": message.text, **extras})
    return plain


def tool_texts(request: ChatRequest) -> list[dict[str, Any]]:
    """The tools as training data describes them; none if the model is not to call any."""
    return [{"type": "function", "function": tool.model_dump(exclude_unset=True)} for tool in request.offered]


def open_call(model: Model) -> list[int]:
    """Ids that begin a tool call in the model's format."""
    tokenizer = model.tokenizer
    marker = tokenizer.reserved.get("<tool_call>")
    begin = tokenizer.encode("<tool_call>") if marker is None else [marker]
    return [*begin, *tokenizer.encode("\n")]
