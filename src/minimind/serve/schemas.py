"""The bodies of requests, their fields checked one by one and against each other."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from minimind.infer.sampler import SamplingParams
from minimind.serve import fields
from minimind.serve.parts import (
    Body,
    ChatMessage,
    Effort,
    Format,
    Function,
    JsonText,
    Named,
    Reasoning,
    StructuredOutputs,
    TemplateFlags,
    Thinking,
    ToolChoice,
    ToolParam,
    wrong,
)
from minimind.util.typed import hints, range_of


def declared(name: str) -> Any:
    """The range of a sampling parameter, where SamplingParams declares it."""
    allowed = range_of(hints(SamplingParams)[name])
    assert allowed is not None
    return Field(ge=allowed.low, le=allowed.high)


def no_limit(value: int) -> int:
    if value < 1 and value != -1:
        raise ValueError("should be at least 1, or -1 for no limit")
    return value


def unless_false(value: Any) -> Any:
    """Some say false where the other endpoint would."""
    return None if value is False else value


Count = Annotated[int, Field(ge=1)]
Limit = Annotated[int, AfterValidator(no_limit)]
Stop = Annotated[str, Field(min_length=1)]
TokenId = Annotated[int, Field(ge=0)]
Bias = Annotated[float, Field(ge=-100, le=100)]

FORMATS = ("response_format", "json_schema", "guided_json", "structured_outputs")


class StreamOptions(Body):
    accepted = fields.STREAM_OPTIONS

    include_usage: bool = False


class Sampling(Body):
    """What both endpoints take. Sampling parameters left out have MiniMind's defaults, as in `minimind chat`."""

    model: str | None = None
    """a name from /v1/models; without one, the served model"""
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    n: Annotated[int, Field(ge=1, le=16)] = 1
    max_tokens: Limit | None = None
    n_predict: Limit | None = None
    """llama.cpp's name for it"""
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] = Field([])
    stop_token_ids: Annotated[list[TokenId], Field(max_length=64)] = Field([])
    ignore_eos: bool = False
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    """choice i of an answer is sampled with seed + i"""
    temperature: Annotated[float, declared("temperature")] | None = None
    top_p: Annotated[float, declared("top_p")] | None = None
    top_k: Annotated[int, BeforeValidator(lambda value: 0 if value == -1 else value), declared("top_k")] | None = (
        None
    )
    """0 and -1 are all tokens"""
    min_p: Annotated[float, declared("min_p")] | None = None
    repetition_penalty: Annotated[float, declared("repetition_penalty")] | None = None
    repeat_penalty: Annotated[float, declared("repetition_penalty")] | None = None
    """llama.cpp's name for it"""
    presence_penalty: Annotated[float, declared("presence_penalty")] | None = None
    frequency_penalty: Annotated[float, declared("frequency_penalty")] | None = None
    logit_bias: dict[TokenId, Bias] = Field({})
    response_format: Format | None = None
    json_schema: JsonText | None = None
    """this and the following: llama.cpp's and vLLM's names for it"""
    guided_json: JsonText | None = None
    structured_outputs: StructuredOutputs | None = None

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop

    @property
    def limits(self) -> list[int | None]:
        return [self.max_tokens, self.n_predict]

    @property
    def limit(self) -> int | None:
        """The longest answer that is wanted; None: what there is room for."""
        return min((limit for limit in self.limits if limit is not None and limit >= 0), default=None)

    @property
    def schema_field(self) -> str | None:
        """Which field asks for a format of the answer."""
        return next((name for name in FORMATS if name in self.model_fields_set), None)

    @property
    def schema_text(self) -> str | None:
        """The JSON Schema of the answer as text, "{}" for any object; None for free text."""
        structured = self.structured_outputs or StructuredOutputs()
        for schema in (self.json_schema, self.guided_json, structured.json_):
            if schema is not None:
                return json.dumps(schema)
        if structured.json_object:
            return "{}"
        return self.response_format.schema_text if self.response_format else None

    @model_validator(mode="after")
    def _names_agree(self) -> Sampling:
        penalty = self.repetition_penalty
        if self.repeat_penalty not in (None, penalty) and penalty is not None:
            raise wrong("repeat_penalty", "is another than repetition_penalty; leave one of them out")
        given = [name for name in FORMATS if name in self.model_fields_set]
        if len(given) > 1:
            raise wrong(given[1], f"asks for a format beside {given[0]}; leave one of them out")
        return self


class ChatRequest(Sampling):
    accepted = fields.CHAT

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=2048)]
    max_completion_tokens: Limit | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] = 0
    tools: Annotated[list[ToolParam], Field(max_length=128)] = Field([])
    tool_choice: Literal["none", "auto", "required"] | ToolChoice = "auto"
    parallel_tool_calls: bool = True
    functions: Annotated[list[Function], Field(max_length=128)] = Field([])
    """this and `function_call`: OpenAI's former names for tools"""
    function_call: Literal["none", "auto"] | Named = "auto"
    add_generation_prompt: bool = True
    """this and the following: vLLM's words; a last message of the assistant is always continued"""
    continue_final_message: bool | None = None
    open_thinking: bool = False
    """this and the following: whether the model thinks first; clients ask for it in many ways"""
    enable_thinking: bool = False
    think: bool | Effort | None = None
    thinking: Thinking = Thinking(type="disabled")
    reasoning: Reasoning = Reasoning()
    reasoning_effort: Effort | None = None
    chat_template_kwargs: TemplateFlags = TemplateFlags()
    thinking_budget: Count | None = None
    """tokens after which a thought is closed"""
    thinking_token_budget: Count | None = None
    """vLLM's name for it"""

    @property
    def limits(self) -> list[int | None]:
        return [*super().limits, self.max_completion_tokens]

    @property
    def continues(self) -> bool:
        """Whether the answer goes on from a last message of the assistant."""
        return self.messages[-1].role == "assistant"

    @property
    def must_think(self) -> bool:
        flags = self.chat_template_kwargs
        asked = (self.open_thinking, self.enable_thinking, self.thinking.type == "enabled", self.think is True)
        return any((*asked, self.reasoning.enabled, flags.open_thinking, flags.enable_thinking, flags.thinking))

    @property
    def thinks(self) -> bool:
        """An effort is a hint: nobody thinks in the middle of an answer, nor before a forced call or JSON."""
        efforts = {self.reasoning_effort, self.reasoning.effort, self.chat_template_kwargs.reasoning_effort}
        if isinstance(self.think, str):
            efforts.add(self.think)
        hinted = bool(efforts - {None, "none", "minimal"})
        return self.must_think or (hinted and not self.constrained and not self.continues)

    @property
    def longest_thought(self) -> int | None:
        """In tokens; None: as long as the model thinks."""
        flags, given = self.chat_template_kwargs, (self.thinking_budget, self.thinking_token_budget)
        budgets = (*given, self.thinking.budget_tokens, self.reasoning.max_tokens, flags.thinking_budget)
        return min((budget for budget in budgets if budget is not None), default=None)

    @property
    def calling(self) -> str:
        """Whether the model may call tools: none, auto or required."""
        choice = self.function_call if self.functions else self.tool_choice
        if isinstance(choice, str):
            return choice
        allowed = choice.allowed_tools if isinstance(choice, ToolChoice) else None
        return allowed.mode if allowed else "required"

    @property
    def chosen(self) -> list[str] | None:
        """The names among which the model must stay; None: all."""
        choice = self.function_call if self.functions else self.tool_choice
        if isinstance(choice, Named):
            return [choice.name]
        if isinstance(choice, ToolChoice):
            named = [choice] if choice.function else choice.allowed_tools.tools if choice.allowed_tools else []
            return [one.function.name for one in named if one.function]
        return None

    @property
    def offered(self) -> list[Function]:
        """The tools that the model may call."""
        tools = [*(tool.function for tool in self.tools), *self.functions]
        chosen = self.chosen
        return [tool for tool in tools if self.calling != "none" and (chosen is None or tool.name in chosen)]

    @property
    def schema_field(self) -> str | None:
        return "tools" if self.calling == "required" else super().schema_field

    @property
    def constrained(self) -> bool:
        return self.calling == "required" or self.schema_text is not None

    @model_validator(mode="after")
    def _fields_agree(self) -> ChatRequest:
        choice = "function_call" if self.functions else "tool_choice"
        names = {tool.name for tool in (*(tool.function for tool in self.tools), *self.functions)}
        if self.top_logprobs and not self.logprobs:
            raise wrong("top_logprobs", "needs logprobs: true")
        if self.tools and self.functions:
            raise wrong("functions", "is the former name of tools; leave one of them out")
        if unknown := [name for name in self.chosen or () if name not in names]:
            raise wrong(choice, f"names {unknown[0]}, which is not among the tools")
        if self.calling == "required" and not names:
            raise wrong(choice, "asks for a call, but there are no tools")
        if self.calling == "required" and self.schema_text is not None:
            raise wrong(choice, "forces a call, and response_format JSON as the answer; leave one of them out")
        if not self.continues and (self.continue_final_message or not self.add_generation_prompt):
            field = "continue_final_message" if self.continue_final_message else "add_generation_prompt"
            raise wrong(field, "asks to continue the last message, which is not the assistant's")
        if self.continues and self.continue_final_message is False:
            raise wrong("continue_final_message", "a last message of the assistant is always continued here")
        if self.continues and self.constrained:
            raise wrong("messages", "a last message of the assistant cannot be continued by a forced call or JSON")
        if self.must_think and (self.constrained or self.continues):
            after = "a forced tool call or JSON" if self.constrained else "the rest of a message"
            raise wrong("thinking", f"cannot come before {after}; ask for one of them")
        return self


class CompletionRequest(Sampling):
    accepted = fields.COMPLETIONS

    prompt: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=128)]
        | Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[list[Annotated[list[TokenId], Field(min_length=1)]], Field(min_length=1, max_length=128)]
    )
    """a text, texts, ids, or lists of ids"""
    max_tokens: Annotated[int, AfterValidator(lambda value: value and no_limit(value))] | None = None
    """default 16; 0: with `echo`, the prompt alone"""
    best_of: Count | None = None
    echo: bool = False
    """whether the answer begins with the prompt, and with its log-probabilities if those are asked for"""
    logprobs: Annotated[Annotated[int, Field(ge=0, le=20)] | None, BeforeValidator(unless_false)] = None
    """how many of the likeliest tokens are reported beside each token"""
    add_special_tokens: bool | None = None
    """whether a text begins with the tokenizer's token for beginnings; default: unless it is echoed"""

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        one = self.prompt
        return [one] if isinstance(one, str) or isinstance(one[0], int) else one  # type: ignore[list-item, return-value]

    @property
    def limit(self) -> int | None:
        """The default is OpenAI's."""
        return 16 if self.limits == [None, None] else super().limit

    @model_validator(mode="after")
    def _best_is_all(self) -> CompletionRequest:
        if self.best_of not in (None, 1, self.n):
            raise wrong("best_of", "no answers are made to be thrown away here; leave it out or give the same as n")
        return self
