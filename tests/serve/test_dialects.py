"""What clients really send: fields that ask for nothing, other names for one thing, histories of every order."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from tests.pupil import SEES
from tests.serve.conftest import Served

from minimind.serve import fields
from minimind.serve.responses import ResponsesRequest
from minimind.serve.schemas import ChatRequest, CompletionRequest

GREEDY: dict[str, Any] = {"model": "tiny", "temperature": 0}
CAT: list[Any] = [{"role": "user", "content": "the cat"}]
ANSWER = "sees a big tree\nand the old house"
DEEP: dict[str, Any] = {}
for _ in range(150):
    DEEP = {"type": "object", "properties": {"a": DEEP}}


def chat(served: Served, messages: list[Any] = CAT, **body: Any) -> Any:
    return served.client.chat.completions.create(messages=messages, **GREEDY, extra_body=body).choices[0]


def post(served: Served, path: str = "chat/completions", **body: Any) -> httpx.Response:
    """Sent as it is: numbers that JSON has not, too."""
    content = json.dumps({**({"messages": CAT} if path.startswith("chat") else {}), **body}).encode()
    headers = {"content-type": "application/json"}
    return httpx.post(f"{served.url}/v1/{path}", content=content, headers=headers, timeout=60)


@pytest.fixture(scope="module")
def plain(served: Served) -> str:
    """The greedy answer where nothing else is asked."""
    return chat(served).message.content


NEUTRAL: list[dict[str, Any]] = [
    {name: value} for name, values in fields.CHAT.items() for value in ([5] if values is None else values)
]


def test_values_that_ask_for_nothing_change_nothing(served: Served, plain: str) -> None:
    together: dict[str, Any] = {}
    for one in NEUTRAL:
        together |= one
    assert chat(served, **together).message.content == plain
    several = [{**CAT[0], **{name: values[0] for name, values in fields.MESSAGE.items() if values}}]
    assert chat(served, several).message.content == plain
    part = {"type": "text", "text": "the cat", "cache_control": {"type": "ephemeral"}}
    assert chat(served, [{"role": "user", "content": [part]}]).message.content == plain
    for value in (None, "", "x"):
        messages = [*CAT, {"role": "assistant", "content": "a", "refusal": value}, *CAT]
        assert post(served, messages=messages, max_tokens=1).status_code == (400 if value == "x" else 200)


@pytest.mark.parametrize("name", sorted({*fields.CHAT, *ChatRequest.model_fields} - {"messages"}))
def test_null_is_not_given(served: Served, name: str) -> None:
    assert post(served, **{"max_tokens": 1, name: None}).status_code == 200


@pytest.mark.parametrize("name", [name for name, values in fields.CHAT.items() if values is not None])
def test_what_is_lacking_is_refused_by_name(served: Served, name: str) -> None:
    error = post(served, **{name: {"something": 1}}).json()["error"]
    assert (error["param"], error["message"].split(":")[0]) == (name, name)


@pytest.mark.parametrize(
    "body",
    [
        {"top_p": 0, "temperature": 2},
        {"top_p": 0.0, "temperature": 2, "n": 2},
        {"top_k": -1},
        {"top_k": 0},
        {"max_tokens": -1},
        {"n_predict": -1},
        {"max_completion_tokens": -1},
        {"max_tokens": -1, "max_completion_tokens": 300},
        {"repeat_penalty": 1.0, "repetition_penalty": 1.0},
        {"stop_token_ids": []},
        {"ignore_eos": False},
        {"reasoning": {"effort": "none"}},
        {"think": False},
        {"add_generation_prompt": True, "continue_final_message": False},
        {"response_format": {"type": "text"}},
        {"stream_options": {"include_obfuscation": False}},
    ],
)
def test_values_mean_what_clients_mean(served: Served, plain: str, body: dict[str, Any]) -> None:
    assert chat(served, **body).message.content == plain


def test_the_shortest_limit_counts(served: Served) -> None:
    for body in (
        {"n_predict": 3},
        {"max_tokens": 9, "max_completion_tokens": 3},
        {"max_tokens": 3, "n_predict": -1},
    ):
        answer = served.client.chat.completions.create(messages=CAT, **GREEDY, extra_body=body)
        assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (3, "length")


def test_where_an_answer_ends_may_be_chosen(served: Served, plain: str) -> None:
    third = served.model.tokenizer.encode(plain)[2]
    stopped = chat(served, stop_token_ids=[third])
    assert stopped.finish_reason == "stop"
    assert plain.startswith(stopped.message.content)
    assert len(stopped.message.content) < len(plain)
    endless = chat(served, ignore_eos=True, max_tokens=60)
    assert endless.finish_reason == "length"
    assert endless.message.content.startswith(plain)


@pytest.mark.parametrize(
    "budget",
    [
        {"thinking_budget": 2, "think": True},
        {"thinking_token_budget": 2, "thinking_budget": 9, "think": True},
        {"thinking": {"type": "enabled", "budget_tokens": 2}},
        {"reasoning": {"effort": "low", "max_tokens": 2}},
        {"chat_template_kwargs": {"open_thinking": True, "thinking_budget": 2}},
    ],
)
def test_a_thought_has_a_budget(served: Served, budget: dict[str, Any]) -> None:
    asked = [{"role": "user", "content": "the bird"}]
    free = chat(served, asked, think=True).message.reasoning_content  # type: ignore[attr-defined]
    thought = chat(served, asked, **budget).message.reasoning_content  # type: ignore[attr-defined]
    assert 0 < len(thought) < len(free)
    assert free.startswith(thought)
    assert len(served.model.tokenizer.encode(thought)) == 2


@pytest.mark.parametrize("asked", [{"reasoning": {"effort": "low"}}, {"think": True}, {"reasoning_effort": "high"}])
def test_thinking_is_asked_for_in_many_ways(served: Served, asked: dict[str, Any]) -> None:
    message = chat(served, [{"role": "user", "content": "the bird"}], **asked).message
    assert message.reasoning_content == "old red river"  # type: ignore[attr-defined]
    # Clients send back what they were given, in either word; only the next answer may differ by it.
    for word in ("reasoning", "reasoning_content"):
        back = [*CAT, {"role": "assistant", "content": "a", word: "old red river"}, *CAT]
        assert post(served, messages=back, max_tokens=1).status_code == 200


COLOR = {
    "type": "object",
    "properties": {"color": {"enum": ["red"]}},
    "required": ["color"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "asked",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "c", "schema": COLOR}}},
        {"response_format": {"type": "json_schema", "schema": COLOR}},
        {"response_format": {"type": "json_object", "schema": COLOR}},
        {"guided_json": COLOR},
        {"guided_json": json.dumps(COLOR)},
        {"json_schema": COLOR},
        {"structured_outputs": {"json": COLOR}},
        {"guided_json": COLOR, "reasoning_effort": "medium"},
    ],
)
def test_json_is_asked_for_in_many_ways(served: Served, asked: dict[str, Any]) -> None:
    content = chat(served, **asked).message.content
    assert json.loads(content)["color"] == "red"


@pytest.mark.parametrize("streaming", [False, True])
def test_json_and_tools_go_together(served: Served, streaming: bool) -> None:
    """The model calls, or answers in JSON; here it is pushed either way."""
    schema = {"type": "json_schema", "json_schema": {"name": "c", "schema": COLOR}}
    marker = served.model.tokenizer.reserved["<tool_call>"]
    for bias in (100, -100):
        asked: dict[str, Any] = {"tools": [SEES], "response_format": schema, "logit_bias": {marker: bias}}
        body = {**GREEDY, "messages": CAT, **asked, "max_tokens": 300, "parallel_tool_calls": False}
        if streaming:
            deltas = [
                chunk.choices[0].delta for chunk in served.client.chat.completions.create(**body, stream=True)
            ]
            calls = [call for delta in deltas for call in delta.tool_calls or ()]
            content = "".join(delta.content or "" for delta in deltas)
        else:
            message = served.client.chat.completions.create(**body).choices[0].message
            calls, content = message.tool_calls or [], message.content or ""
        if bias > 0:
            assert [call.function.name for call in calls] == ["sees"]
            assert json.loads(calls[0].function.arguments)["a"] in ("cat", "dog")
        else:
            assert (calls, json.loads(content)["color"]) == ([], "red")


# Tools in OpenAI's former words


def test_functions_are_called_in_their_own_words(served: Served) -> None:
    both: list[Any] = [{"role": "user", "content": "both"}]
    functions: Any = [SEES["function"]]
    choice = chat(served, both, functions=functions)
    assert choice.finish_reason == "function_call"
    call = choice.message.function_call
    assert (call.name, json.loads(call.arguments)) == ("sees", {"a": "cat"})
    assert choice.message.tool_calls is None
    chunks = list(served.client.chat.completions.create(messages=both, functions=functions, stream=True, **GREEDY))
    deltas = [chunk.choices[0].delta.function_call for chunk in chunks if chunk.choices[0].delta.function_call]
    assert [(one.name, json.loads(one.arguments)) for one in deltas] == [("sees", {"a": "cat"})]
    forced = chat(served, functions=functions, function_call={"name": "sees"})
    assert json.loads(forced.message.function_call.arguments)["a"] in ("cat", "dog")
    assert chat(served, both, functions=functions, function_call="none").message.function_call is None
    result = {"role": "function", "name": "sees", "content": "a tree"}
    assert post(served, messages=[*both, choice.message.model_dump(), result], max_tokens=1).status_code == 200


def test_only_allowed_tools_are_offered(served: Served) -> None:
    other = {"type": "function", "function": {"name": "finds"}}
    named = {"type": "function", "function": {"name": "sees"}}
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [named]}}
    both: list[Any] = [{"role": "user", "content": "both"}]
    alone = served.client.chat.completions.create(messages=both, tools=[SEES], **GREEDY)
    among = served.client.chat.completions.create(
        messages=both, tools=[other, SEES], **GREEDY, extra_body={"tool_choice": allowed}
    )
    assert among.usage == alone.usage
    assert among.choices[0].message.content == alone.choices[0].message.content
    allowed["allowed_tools"]["mode"] = "required"  # type: ignore[index]
    forced = chat(served, tools=[other, SEES], tool_choice=allowed)
    assert [call.function.name for call in forced.message.tool_calls] == ["sees"]


# Conversations


def test_a_last_message_of_the_assistant_is_continued(served: Served) -> None:
    begun = ANSWER[:10]
    messages = [*CAT, {"role": "assistant", "content": begun}]
    for asked in ({}, {"continue_final_message": True, "add_generation_prompt": False}):
        choice = chat(served, messages, **asked)
        assert begun + choice.message.content == ANSWER
    # At a line end, too: what the answer begins with is not trimmed.
    line = ANSWER.index("\n")
    assert chat(served, [*CAT, {"role": "assistant", "content": ANSWER[:line]}]).message.content == ANSWER[line:]
    chunks = served.client.chat.completions.create(messages=messages, stream=True, **GREEDY)
    assert begun + "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER


def test_a_prefilled_prompt_is_the_beginning_of_the_whole(served: Served) -> None:
    tokenizer = served.model.tokenizer
    turn = {"role": "assistant", "content": ANSWER}
    whole, _ = tokenizer.encode_chat([*CAT, turn])
    prefix, _ = tokenizer.encode_chat([*CAT, turn], add_generation_prompt=True)
    assert whole[: len(prefix)] == prefix
    assert whole[len(prefix)] == tokenizer.eos_id


@pytest.mark.parametrize(
    "messages",
    [
        [*CAT, {"role": "system", "content": "old"}],
        [{"role": "system", "content": "old"}],
        [*CAT, {"role": "assistant", "content": "a"}, {"role": "system", "content": "old"}, *CAT],
        [{"role": "assistant", "content": "hello"}, *CAT],
        [{"role": "assistant", "content": "hello"}],
        [*CAT, {"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}, *CAT],
        [*CAT, {"role": "assistant", "content": ""}],
        [*CAT, {"role": "assistant", "content": "", "reasoning_content": "old"}],
    ],
)
def test_conversations_of_any_order_are_answered(served: Served, messages: list[Any]) -> None:
    answer = served.client.chat.completions.create(messages=messages, **GREEDY, max_tokens=4)
    tokenizer = served.model.tokenizer
    prompt = tokenizer.encode_chat(messages, add_generation_prompt=True)[0]
    assert answer.usage.prompt_tokens == len(prompt)
    assert all(message["content"] in tokenizer.decode(prompt) for message in messages)


def history(arguments: Any) -> list[Any]:
    call = {"id": "a", "type": "function", "function": {"name": "sees", "arguments": arguments}}
    return [
        *CAT,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "b"},
    ]


def test_calls_in_the_history_have_an_object_of_arguments(served: Served) -> None:
    usual = post(served, messages=history("{}"), max_tokens=1).json()["usage"]
    for blank in ("", "  \n", None, {}):
        assert post(served, messages=history(blank), max_tokens=1).json()["usage"] == usual
    for wrong in ('{"a": ', "null", "7", "[]", '{"a": NaN}', '{"a": 1e999}', 7, [], {"a": float("nan")}):
        error = post(served, messages=history(wrong)).json()["error"]
        assert error["param"] == "messages[1].tool_calls[0].function.arguments"
    open_call = post(served, messages=history("{}")[:2])
    assert "add their results" in open_call.json()["error"]["message"]


# Mistakes


@pytest.mark.parametrize(
    ("body", "param", "sentence"),
    [
        ({"top_logprobs": 2}, "top_logprobs", "needs logprobs: true"),
        ({"tool_choice": {"type": "cat"}}, "tool_choice.type", "Input should be"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function", "is missing"),
        ({"tool_choice": {"function": {"name": "a"}}}, "tool_choice.type", "Field required"),
        ({"tool_choice": "sees"}, "tool_choice", "Input should be"),
        ({"tools": [{"type": "custom"}]}, "tools[0].type", "Input should be"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "Field required"),
        ({"messages": [{"content": "a"}]}, "messages[0].role", "Field required"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "Input should be"),
        ({"messages": [{"role": "user", "refusal": "no"}]}, "messages[0].refusal", "leave it out"),
        ({"stop": [""]}, "stop[0]", "at least 1 character"),
        ({"stop": ["a"] * 17}, "stop", "at most 16 items"),
        ({"logit_bias": {"a": 1}}, "logit_bias.a", "valid integer"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "is missing"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "Input should be"),
        (
            {"guided_json": COLOR, "response_format": {"type": "json_object"}},
            "guided_json",
            "beside response_format",
        ),
        ({"guided_json": "{"}, "guided_json", "not JSON"),
        ({"repeat_penalty": 1.5, "repetition_penalty": 1.2}, "repeat_penalty", "another than repetition_penalty"),
        ({"stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation", "leave it out"),
        ({"continue_final_message": True}, "continue_final_message", "not the assistant's"),
        ({"enable_thinking": True, "guided_json": COLOR}, "thinking", "cannot come before"),
        ({"tools": [SEES], "functions": [SEES["function"]]}, "functions", "former name"),
        ({"functions": [SEES["function"]], "function_call": {"name": "b"}}, "function_call", "not among the tools"),
        ({"modalities": ["text", "audio"]}, "modalities", 'send ["text"]'),
    ],
)
def test_mistakes_name_their_fields(served: Served, body: dict[str, Any], param: str, sentence: str) -> None:
    response = post(served, **body)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param)
    assert error["message"].startswith(param + ": ")
    assert sentence in error["message"]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 10**400])
def test_schemas_have_json_in_them(served: Served, number: Any) -> None:
    for schema in (DEEP, {"type": "number", "minimum": number}, {"const": number}, {"enum": [[number]]}):
        asked: dict[str, Any] = {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}
        tool = {"type": "function", "function": {"name": "sees", "parameters": schema}}
        for body, place in ((asked, "response_format"), ({"tools": [tool], "tool_choice": "required"}, "tools")):
            response = post(served, **body)
            assert response.status_code == 400
            assert response.json()["error"]["message"].startswith(place)


def test_a_schema_that_cannot_be_followed_is_named(served: Served) -> None:
    for body in (
        {"guided_json": {"type": "cat"}},
        {"response_format": {"type": "json_object", "schema": {"type": 5}}},
    ):
        error = post(served, **body).json()["error"]
        assert error["param"] in body


@pytest.mark.parametrize("path", ["embeddings", "audio/speech", "images/generations", "moderations"])
def test_other_endpoints_are_refused_in_a_sentence(served: Served, path: str) -> None:
    with pytest.raises(openai.NotFoundError, match=f"/v1/{path}") as caught:
        served.client.post(f"/{path}", body={"input": "a", "model": "tiny"}, cast_to=object)
    assert "/v1/chat/completions" in caught.value.message


# The page says the same


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_docs_have_the_table(language: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / language / "serve.md").read_text(encoding="utf-8")
    supported = {
        name for row in re.findall(r"^\| (`.+?) \|", page, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    assert supported >= {*ChatRequest.model_fields, *CompletionRequest.model_fields, *ResponsesRequest.model_fields}
    for rows in TABLES:
        assert table(*rows) in page


TABLES = [
    ("OpenAI", fields.OPENAI),
    ("vLLM", fields.VLLM),
    ("llama.cpp", fields.LLAMA_CPP),
    ("Ollama", fields.OLLAMA),
    ("`/v1/responses`", fields.RESPONSES),
    ("`input[]`", fields.RESPONSE_ITEM),
    ("`input[].content[]`", fields.RESPONSE_PART),
    ("`messages[]`", fields.MESSAGE),
    ("`content[]`", fields.PART),
    ("`tool_calls[]`", fields.CALL),
    ("`tools[]`", fields.TOOL),
    ("`stream_options`", fields.STREAM_OPTIONS),
    ("`structured_outputs`", fields.STRUCTURED_OUTPUTS),
    ("`reasoning`", fields.REASONING),
]


def table(name: str, rows: fields.Rows) -> str:
    """One row: what may have any value, what only some, and what must be empty."""
    free = ", ".join(f"`{field}`" for field, values in rows.items() if values is None)
    empty = ", ".join(f"`{field}`" for field, values in rows.items() if values is fields.EMPTY)
    only = [
        f"`{field}: {json.dumps(value)}`"
        for field, values in rows.items()
        if values is not fields.EMPTY
        for value in values or ()
    ]
    return f"| {name} | {free} | {', '.join(only)} | {empty} |"
