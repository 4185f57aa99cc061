"""OpenAI's newer endpoint /v1/responses: its requests, said in the words of /v1/chat/completions.

Both are one conversation to the model. Nothing is stored here, so a client sends the whole conversation each time.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, PrivateAttr, Tag, ValidationError, model_validator

from minimind.serve import fields
from minimind.serve.errors import ApiError
from minimind.serve.parts import Body, Effort, Function, JsonObject, Named, arguments_object, wrong
from minimind.serve.schemas import ChatRequest

IN_RESPONSES = {"messages": "input", "response_format": "text", "max_completion_tokens": "max_output_tokens"}


class Part(Body):
    accepted = fields.RESPONSE_PART

    type: Literal["input_text", "output_text", "text", "reasoning_text", "summary_text"]
    text: str


Parts = str | list[Part]


class Message(Body):
    accepted = fields.RESPONSE_ITEM

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Parts


class FunctionCall(Body):
    accepted = fields.RESPONSE_ITEM

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: Annotated[str, AfterValidator(arguments_object)]


class FunctionCallOutput(Body):
    accepted = fields.RESPONSE_ITEM

    type: Literal["function_call_output"]
    call_id: str
    name: str | None = None
    output: Parts


class ReasoningItem(Body):
    accepted = fields.RESPONSE_ITEM

    type: Literal["reasoning"]
    summary: list[Part] = Field([])
    content: list[Part] = Field([])


def kind_of(item: Any) -> str:
    kind = item.get("type") if isinstance(item, dict) else getattr(item, "type", None)
    return str(kind or "message")


Item = Annotated[
    Annotated[Message, Tag("message")]
    | Annotated[FunctionCall, Tag("function_call")]
    | Annotated[FunctionCallOutput, Tag("function_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")],
    Discriminator(
        kind_of,
        custom_error_type="item",
        custom_error_message="an item is a message, function_call, function_call_output or reasoning",
    ),
]


class FunctionTool(Function):
    type: Literal["function"]


class Choice(Body):
    """One tool by name, or those of which the model may choose."""

    type: Literal["function", "allowed_tools"]
    name: str | None = None
    mode: Literal["auto", "required"] = "auto"
    tools: list[NamedTool] = Field([])


class NamedTool(Named):
    type: Literal["function"]


class TextFormat(Body):
    accepted = fields.TOOL

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str | None = None
    description: str | None = None
    schema_: Annotated[JsonObject | None, Field(alias="schema")] = None


class TextOptions(Body):
    accepted = {"verbosity": fields.OPENAI["verbosity"]}  # noqa: RUF012 (pydantic takes it for the class's own)

    format: TextFormat = TextFormat()


class Reasoning(Body):
    accepted = fields.REASONING

    effort: Effort | None = None


class StreamOptions(Body):
    accepted = fields.STREAM_OPTIONS


class PassedOn(Body):
    """The fields that mean what they mean in /v1/chat/completions, where they are checked."""

    model: Any = None
    stream: Any = None
    temperature: Any = None
    top_p: Any = None
    top_k: Any = None
    min_p: Any = None
    seed: Any = None
    stop: Any = None
    repetition_penalty: Any = None
    presence_penalty: Any = None
    frequency_penalty: Any = None
    parallel_tool_calls: Any = None
    top_logprobs: Any = None


class ResponsesRequest(PassedOn):
    accepted = fields.RESPONSES

    input: Annotated[list[Item], Field(min_length=1, max_length=2048)] | str
    instructions: str | None = None
    max_output_tokens: Any = None
    tools: Annotated[list[FunctionTool], Field(max_length=128)] = Field([])
    tool_choice: Literal["none", "auto", "required"] | Choice = "auto"
    text: TextOptions = TextOptions()
    reasoning: Reasoning = Reasoning()
    include: list[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]] = Field([])
    stream_options: StreamOptions = StreamOptions()
    truncation: Literal["auto", "disabled"] = "disabled"
    """auto: the oldest turns go where the conversation does not fit"""
    _chat: ChatRequest = PrivateAttr()

    @property
    def chat(self) -> ChatRequest:
        """The same request to /v1/chat/completions."""
        return self._chat

    @model_validator(mode="after")
    def _say_it_in_chat(self) -> ResponsesRequest:
        format_ = self.text.format
        if format_.type == "json_schema" and format_.schema_ is None:
            raise wrong("text", "format.schema is missing")
        body: dict[str, Any] = {name: getattr(self, name) for name in PassedOn.model_fields}
        body |= {
            "messages": self._messages(),
            "max_completion_tokens": self.max_output_tokens,
            "logprobs": bool(self.top_logprobs) or "message.output_text.logprobs" in self.include,
            "reasoning_effort": self.reasoning.effort,
            "tools": [{"type": "function", "function": one.model_dump(exclude={"type"})} for one in self.tools],
            "tool_choice": self._tool_choice(),
        }
        if format_.type == "json_schema":
            schema = {"name": format_.name, "schema": format_.schema_}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif format_.type == "json_object":
            body["response_format"] = {"type": "json_object"}
        try:
            self._chat = ChatRequest.model_validate(body)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            raise wrong(IN_RESPONSES.get(name, name), first["msg"].removeprefix("Value error, ")) from None
        return self

    def _tool_choice(self) -> Any:
        choice = self.tool_choice
        if isinstance(choice, str):
            return choice
        if choice.type == "function":
            return {"type": "function", "function": {"name": choice.name}}
        named = [{"type": "function", "function": {"name": one.name}} for one in choice.tools]
        return {"type": "allowed_tools", "allowed_tools": {"mode": choice.mode, "tools": named}}

    def _messages(self) -> list[dict[str, Any]]:
        """The items as messages: what the model thought, said and called one after another is one turn."""
        messages: list[dict[str, Any]] = []
        if self.instructions:
            messages.append({"role": "system", "content": self.instructions})
        if isinstance(self.input, str):
            return [*messages, {"role": "user", "content": self.input}]
        turn: dict[str, Any] = {}  # of the assistant, if that spoke last
        for item in self.input:
            if isinstance(item, FunctionCallOutput):
                messages.append({"role": "tool", "content": text_of(item.output), "tool_call_id": item.call_id})
                turn = {}
            elif isinstance(item, Message) and item.role != "assistant":
                messages.append({"role": item.role, "content": text_of(item.content)})
                turn = {}
            else:
                if not turn or (not isinstance(item, FunctionCall) and (turn["content"] or "tool_calls" in turn)):
                    turn = {"role": "assistant", "content": ""}
                    messages.append(turn)
                if isinstance(item, Message):
                    turn["content"] = text_of(item.content)
                elif isinstance(item, ReasoningItem):
                    turn["reasoning_content"] = text_of(item.content or item.summary)
                else:
                    function = {"name": item.name, "arguments": item.arguments}
                    call = {"id": item.call_id, "type": "function", "function": function}
                    turn.setdefault("tool_calls", []).append(call)
        return messages

    def described(self) -> dict[str, Any]:
        """What of the request stands in its answer, too."""
        chat = self.chat
        tools = [{"type": "function", "strict": True, **tool.model_dump(exclude={"type"})} for tool in self.tools]
        choice = self.tool_choice
        return {
            "instructions": self.instructions,
            "max_output_tokens": chat.max_completion_tokens,
            "metadata": {},
            "parallel_tool_calls": chat.parallel_tool_calls,
            "previous_response_id": None,
            "reasoning": {"effort": self.reasoning.effort, "summary": None},
            "store": False,
            "temperature": chat.temperature,
            "text": {"format": self.text.format.model_dump(by_alias=True, exclude_none=True)},
            "tool_choice": choice if isinstance(choice, str) else choice.model_dump(exclude_none=True),
            "tools": tools,
            "top_p": chat.top_p,
            "truncation": self.truncation,
        }


def in_responses(error: ApiError) -> ApiError:
    """An error about the same request to /v1/chat/completions, with the names of this endpoint."""
    body = error.body["error"]
    theirs, message = body["param"] or "", body["message"] or ""
    ours = IN_RESPONSES.get(theirs, theirs)
    return ApiError(
        error.status, message.replace(f"{theirs}:", f"{ours}:"), body["code"], ours or None, error.headers
    )


def text_of(parts: Parts) -> str:
    return parts if isinstance(parts, str) else "".join(part.text for part in parts)
