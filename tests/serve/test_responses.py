"""/v1/responses as OpenAI's own client uses it: the same answers as /v1/chat/completions, in another form."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from tests.pupil import LESSONS, SEES
from tests.serve.conftest import Served
from tests.serve.test_openai_client import COLOURS, user

GREEDY: dict[str, Any] = {"model": "tiny", "temperature": 0}
TOOL = {"type": "function", "strict": True, **SEES["function"]}


def streamed(served: Served, **request: Any) -> tuple[Any, list[Any]]:
    """The final response of a stream, and its events, which the client has put together and checked itself."""
    with served.client.responses.stream(**request) as events:
        every = list(events)
        return events.get_final_response(), every


def items(response: Any) -> list[dict[str, Any]]:
    """The output without its random ids, and what the client itself adds to a stream's."""
    own = ("id", "call_id", "parsed_arguments")
    dumped = [item.model_dump(exclude_none=True) for item in response.output]
    return [{key: value for key, value in item.items() if key not in own} for item in dumped]


@pytest.mark.parametrize("lesson", LESSONS[:2], ids=lambda lesson: lesson["ask"])
def test_an_answer_whole_and_streamed(served: Served, lesson: dict[str, Any]) -> None:
    request = {**GREEDY, "input": lesson["ask"]}
    whole = served.client.responses.create(**request)
    assert (whole.output_text, whole.status, whole.error) == (lesson["content"], "completed", None)
    chat = served.client.chat.completions.create(**GREEDY, messages=user(lesson["ask"]))
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (
        chat.usage.prompt_tokens,
        chat.usage.completion_tokens,
    )
    final, events = streamed(served, **request)
    assert final.output_text == lesson["content"]
    assert final.usage == whole.usage
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert len(deltas) > 3
    assert "".join(deltas) == lesson["content"]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"


def test_thinking_is_an_item_before_the_message(served: Served) -> None:
    request = {**GREEDY, "input": "the bird", "reasoning": {"effort": "low"}}
    whole = served.client.responses.create(**request)
    thought, message = whole.output
    assert thought.content[0].text == "old red river"
    assert message.content[0].text == "finds a small house"
    assert whole.usage.output_tokens_details.reasoning_tokens > 3
    final, events = streamed(served, **request)
    assert items(final) == items(whole)
    assert [event.item.type for event in events if event.type == "response.output_item.done"] == [
        "reasoning",
        "message",
    ]
    assert (
        "".join(event.delta for event in events if event.type == "response.reasoning_text.delta") == "old red river"
    )


def test_calls_and_their_results(served: Served) -> None:
    """What was given is accepted back as it is, and the model reads the same as in /v1/chat/completions."""
    request: dict[str, Any] = {**GREEDY, "input": user("both"), "tools": [TOOL]}
    whole = served.client.responses.create(**request)
    message, *calls = whole.output
    assert message.content[0].text == "a cat"
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        ("sees", {"a": "cat"}),
        ("sees", {"a": "dog"}),
    ]
    final, events = streamed(served, **request)
    assert items(final) == items(whole)
    done = [event for event in events if event.type == "response.function_call_arguments.done"]
    assert [event.arguments for event in done] == [call.arguments for call in calls]

    history = [*user("both"), *whole.output]
    for call, result in zip(calls, ("red", "big")):
        history.append({"type": "function_call_output", "call_id": call.call_id, "output": result})
    answer = served.client.responses.create(**{**request, "input": history})
    assert answer.output_text == LESSONS[4]["content"]
    assert len(served.client.responses.create(**request, parallel_tool_calls=False).output) == 2


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "name": "sees"}, {"type": "allowed_tools", "mode": "required"}]
)
def test_a_forced_call(served: Served, choice: Any) -> None:
    if isinstance(choice, dict) and choice["type"] == "allowed_tools":
        choice = {**choice, "tools": [{"type": "function", "name": "sees"}]}
    request = {"model": "tiny", "temperature": 1.5, "input": "the cat", "tools": [TOOL], "tool_choice": choice}
    (call,) = served.client.responses.create(**request, extra_body={"seed": 3}).output
    assert (call.type, call.name) == ("function_call", "sees")
    assert json.loads(call.arguments)["a"] in ("cat", "dog")


def test_json_follows_its_schema(served: Served) -> None:
    text = {"format": {"type": "json_schema", "name": "colours", "schema": COLOURS, "strict": True}}
    for seed in range(3):
        answer = served.client.responses.create(
            model="tiny", temperature=1.5, input="the cat", text=text, extra_body={"seed": seed}
        )
        assert json.loads(answer.output_text)["color"] in ("red", "blue")


def test_an_answer_that_is_cut_off_says_so(served: Served) -> None:
    request = {**GREEDY, "input": "the cat", "max_output_tokens": 2}
    whole = served.client.responses.create(**request)
    assert (whole.status, whole.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert whole.output[0].status == "incomplete"
    events = list(served.client.responses.create(**request, stream=True))
    assert events[-1].type == "response.incomplete"
    assert items(events[-1].response) == items(whole)


def test_logprobs_are_those_of_chat(served: Served) -> None:
    chat = served.client.chat.completions.create(
        **GREEDY, messages=user("a dog"), logprobs=True, top_logprobs=2
    ).choices[0]
    request = {**GREEDY, "input": "a dog", "top_logprobs": 2, "include": ["message.output_text.logprobs"]}
    whole = served.client.responses.create(**request)
    of_chat = [(entry.token, entry.logprob) for entry in chat.logprobs.content]
    of_whole = [(entry.token, entry.logprob) for entry in whole.output[0].content[0].logprobs]
    assert (
        of_whole == pytest.approx(of_chat) if not of_chat else [t for t, _ in of_whole] == [t for t, _ in of_chat]
    )
    assert [p for _, p in of_whole] == pytest.approx([p for _, p in of_chat], abs=1e-6)
    final, _ = streamed(served, **request)
    assert len(final.output[0].content[0].logprobs) == len(of_chat)


def test_instructions_and_items_become_one_conversation(served: Served) -> None:
    items = [
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "the "}, {"type": "input_text", "text": "cat"}],
        },
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "old"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "sees"}]},
        {"type": "function_call", "call_id": "c", "name": "sees", "arguments": ""},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "red"}]},
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": "a dog"},
    ]
    call = {"id": "c", "type": "function", "function": {"name": "sees", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "the cat"},
        {"role": "assistant", "content": "sees", "reasoning_content": "old", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "red"},
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": "a dog"},
    ]
    answer = served.client.responses.create(**GREEDY, instructions="be kind", input=items)
    chat = served.client.chat.completions.create(**GREEDY, messages=messages)
    assert answer.output_text == chat.choices[0].message.content
    assert answer.usage.input_tokens == chat.usage.prompt_tokens


@pytest.mark.parametrize(
    ("changes", "param", "sentence"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", "nothing of the kind"),
        ({"input": [{"type": "computer_call"}]}, "input[0]", "an item is a message"),
        ({"input": []}, "input", "at least 1 item"),
        ({"temperature": -1}, "temperature", "greater than or equal to 0"),
        ({"max_output_tokens": -5}, "max_output_tokens", "at least 1"),
        ({"tool_choice": "required"}, "tool_choice", "there are no tools"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text", "schema is missing"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "'function'"),
        ({"input": "the cat " * 2000}, "input", "maximum context length is 1024 tokens"),
        ({"background": True}, "background", "nothing of the kind"),
    ],
)
def test_mistakes_name_their_fields(served: Served, changes: dict[str, Any], param: str, sentence: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        served.client.post("/responses", body={"input": "the cat", **changes}, cast_to=object)
    assert caught.value.param == param
    assert sentence in caught.value.body["message"]  # type: ignore[index]
