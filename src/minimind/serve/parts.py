"""What requests are made of: messages, tools and formats of answers.

A field that is null counts as absent; a field that is not known is refused. Fields that are accepted because they
ask for nothing are in fields.py: of them nothing is left here.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from minimind.serve import fields
from minimind.util.json_files import loads


def json_object(value: dict[str, Any] | str) -> dict[str, Any]:
    """An object of JSON, or its text: Python's own reader lets NaN, Infinity and any depth pass."""
    try:
        found = loads(value if isinstance(value, str) else json.dumps(value))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object")
    return found


def arguments_object(value: str | dict[str, Any]) -> str | dict[str, Any]:
    """The arguments of a call as a client sends them back, of a text its own spelling; blank is none."""
    if isinstance(value, str) and not value.strip():
        return {}
    json_object(value)
    return value


FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
JsonObject = Annotated[dict[str, Any], AfterValidator(json_object)]
JsonText = Annotated[dict[str, Any] | str, AfterValidator(json_object)]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    accepted: ClassVar[fields.Rows] = {}
    """fields that may come and are dropped"""

    @model_validator(mode="before")
    @classmethod
    def _drop(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        kept = {}
        for name, value in data.items():
            if name in cls.accepted and value is not None:
                if (why := fields.lacks(name, value, cls.accepted)) is not None:
                    raise wrong(name, why)
            elif value is not None:
                kept[name] = value
        return kept


def wrong(field: str, why: str) -> ValidationError:
    """The error of one field of a body, raised by a check of the whole body."""
    error = PydanticCustomError("field", "{why}", {"why": why})
    return ValidationError.from_exception_data("body", [InitErrorDetails(type=error, loc=(field,), input=None)])


class TextPart(Body):
    accepted = fields.PART

    type: Literal["text"]
    text: str


class CalledFunction(Body):
    name: str
    arguments: Annotated[str | dict[str, Any], AfterValidator(arguments_object)] = "{}"


class CalledTool(Body):
    accepted = fields.CALL

    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(Body):
    accepted = fields.MESSAGE

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[TextPart] = ""
    reasoning_content: str | None = None
    reasoning: str | None = None
    """the same in the words of others"""
    tool_calls: list[CalledTool] | None = None
    function_call: CalledFunction | None = None
    """OpenAI's former way to say `tool_calls`"""

    @property
    def text(self) -> str:
        parts = self.content
        return parts if isinstance(parts, str) else "".join(part.text for part in parts)

    @property
    def calls(self) -> list[CalledTool]:
        former = [CalledTool(function=self.function_call)] if self.function_call else []
        return [*(self.tool_calls or []), *former]


class Function(Body):
    accepted = fields.TOOL

    name: FunctionName
    description: str | None = None
    parameters: JsonObject | None = None


class ToolParam(Body):
    accepted = fields.TOOL

    type: Literal["function"]
    function: Function


class Named(Body):
    name: str


class AllowedTool(Body):
    type: Literal["function"]
    function: Named


class AllowedTools(Body):
    mode: Literal["auto", "required"]
    tools: Annotated[list[AllowedTool], Field(min_length=1)]


class ToolChoice(Body):
    """One tool by name, or those of which the model may choose."""

    type: Literal["function", "allowed_tools"]
    function: Named | None = None
    allowed_tools: AllowedTools | None = None

    @model_validator(mode="after")
    def _has_its_part(self) -> ToolChoice:
        if getattr(self, self.type) is None:
            raise wrong(self.type, "is missing")
        return self


class Schema(Body):
    model_config = ConfigDict(serialize_by_alias=True)
    accepted = fields.TOOL

    name: str | None = None
    description: str | None = None
    schema_: Annotated[JsonObject, Field(alias="schema")]


class Format(Body):
    """`schema`: llama.cpp's place for it."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: Schema | None = None
    schema_: Annotated[JsonObject | None, Field(alias="schema")] = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> Format:
        if self.type == "json_schema" and self.json_schema is None and self.schema_ is None:
            raise wrong("json_schema", "is missing")
        return self

    @property
    def schema_text(self) -> str | None:
        """The JSON Schema as text, "{}" for any object; None for free text."""
        if self.type == "text":
            return None
        return json.dumps(self.json_schema.schema_ if self.json_schema else self.schema_ or {})


class StructuredOutputs(Body):
    """vLLM's way to ask for JSON."""

    accepted = fields.STRUCTURED_OUTPUTS

    json_: Annotated[JsonText | None, Field(alias="json")] = None
    json_object: bool = False


Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


Budget = Annotated[int, Field(ge=1)] | None
"""tokens of thinking"""


class Thinking(Body):
    type: Literal["enabled", "disabled"]
    budget_tokens: Budget = None


class Reasoning(Body):
    accepted = fields.REASONING

    effort: Effort | None = None
    enabled: bool = False
    max_tokens: Budget = None


class TemplateFlags(Body):
    """How vLLM and SGLang are asked for thinking."""

    open_thinking: bool = False
    enable_thinking: bool = False
    thinking: bool = False
    thinking_budget: Budget = None
    reasoning_effort: Effort | None = None
