"""What a client may send. A field that is null counts as absent; a field that is not known is refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(ge=1)]
Stop = Annotated[str, Field(min_length=1)]
TokenId = Annotated[int, Field(ge=0)]
Bias = Annotated[float, Field(ge=-100, le=100)]
FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data


class TextPart(Body):
    type: Literal["text"]
    text: str


class CalledFunction(Body):
    name: str
    arguments: str | dict[str, Any] = "{}"


class CalledTool(Body):
    id: str | None = None
    index: int | None = None
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(Body):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] = ""
    reasoning_content: str | None = None
    tool_calls: list[CalledTool] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    annotations: Any = None
    """accepted because OpenAI's client sends back what it was given; without effect"""


class Function(Body):
    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    """without effect: forced calls always follow `parameters`"""


class ToolParam(Body):
    type: Literal["function"]
    function: Function


class FunctionChoice(Body):
    name: str


class NamedTool(Body):
    type: Literal["function"]
    function: FunctionChoice


class PlainFormat(Body):
    type: Literal["text", "json_object"]


class Schema(Body):
    model_config = ConfigDict(extra="forbid", serialize_by_alias=True)

    name: str | None = None
    description: str | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None
    """without effect: the schema is always followed"""


class SchemaFormat(Body):
    type: Literal["json_schema"]
    json_schema: Schema


class StreamOptions(Body):
    include_usage: bool = False


Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]


class Thinking(Body):
    type: Literal["enabled", "disabled"]


class TemplateFlags(Body):
    """How vLLM and SGLang are asked for thinking."""

    open_thinking: bool = False
    enable_thinking: bool = False
    thinking: bool = False
    reasoning_effort: Effort | None = None


class Sampling(Body):
    """What both endpoints take. Sampling parameters left out have MiniMind's defaults, as in `minimind chat`."""

    model: str | None = None
    """a name from /v1/models; without one, the served model"""
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    n: Annotated[int, Field(ge=1, le=16)] = 1
    max_tokens: Count | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] = []
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    """choice i of an answer is sampled with seed + i"""
    temperature: Annotated[float, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[TokenId, Bias] = {}
    user: Any = None
    """this and the following: accepted, without effect"""
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    prompt_cache_key: Any = None
    safety_identifier: Any = None

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop


class ChatRequest(Sampling):
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=2048)]
    max_completion_tokens: Count | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] = 0
    tools: Annotated[list[ToolParam], Field(max_length=128)] = []
    tool_choice: Literal["none", "auto", "required"] | NamedTool = "auto"
    parallel_tool_calls: bool = True
    response_format: Annotated[PlainFormat | SchemaFormat, Field(discriminator="type")] = PlainFormat(type="text")
    open_thinking: bool = False
    """this and the following: whether the model thinks first; clients ask for it in many ways"""
    enable_thinking: bool = False
    thinking: Thinking = Thinking(type="disabled")
    reasoning_effort: Effort | None = None
    chat_template_kwargs: TemplateFlags = TemplateFlags()

    @property
    def thinks(self) -> bool:
        flags = self.chat_template_kwargs
        efforts = {self.reasoning_effort, flags.reasoning_effort} - {None, "none", "minimal"}
        asked = (self.open_thinking, self.enable_thinking, self.thinking.type == "enabled", bool(efforts))
        return any((*asked, flags.open_thinking, flags.enable_thinking, flags.thinking))

    @model_validator(mode="after")
    def _fields_agree(self) -> ChatRequest:
        forced = self.tool_choice not in ("none", "auto")
        constrained = forced or self.response_format.type != "text"
        offered = [tool.function.name for tool in self.tools]
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        if forced and not self.tools:
            raise ValueError("tool_choice asks for a call, but there are no tools")
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in offered:
            raise ValueError(f"tool_choice names {self.tool_choice.function.name}, which is not among the tools")
        if self.response_format.type != "text" and self.tools and self.tool_choice != "none":
            raise ValueError("response_format and tools exclude each other; leave one out or set tool_choice: none")
        if constrained and self.thinks:
            raise ValueError("thinking cannot come before a forced tool call or JSON; ask for one of them")
        return self


class CompletionRequest(Sampling):
    prompt: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=128)]
        | Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[list[Annotated[list[TokenId], Field(min_length=1)]], Field(min_length=1, max_length=128)]
    )
    """a text, texts, ids, or lists of ids"""
    max_tokens: Count | None = 16
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    """how many of the likeliest tokens are reported beside each token"""
