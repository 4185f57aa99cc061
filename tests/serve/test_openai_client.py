"""The API as OpenAI's own client uses it."""

from __future__ import annotations

import json
import math
from typing import Any

import openai
import pytest
from tests.pupil import LESSONS, SEES
from tests.serve.conftest import Served

GREEDY: dict[str, Any] = {"model": "tiny", "temperature": 0}
COLOURS = {
    "type": "object",
    "properties": {"color": {"enum": ["red", "blue"]}},
    "required": ["color"],
    "additionalProperties": False,
}


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def stream(served: Served, **request: Any) -> tuple[dict[int, dict[str, Any]], list[Any]]:
    """A streamed answer put together, a message a choice, and all chunks."""
    chunks = list(served.client.chat.completions.create(stream=True, **request))
    messages: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            message = messages.setdefault(choice.index, {"tool_calls": [], "finish_reason": None})
            delta = choice.delta.model_dump(exclude_unset=True)
            for call in delta.pop("tool_calls", None) or []:
                assert call["index"] == len(message["tool_calls"])
                message["tool_calls"].append({key: call[key] for key in ("id", "type", "function")})
            for key, value in delta.items():
                message[key] = message.get(key, "") + value
            assert message["finish_reason"] is None, "nothing comes after the finish reason"
            message["finish_reason"] = choice.finish_reason
    return messages, chunks


@pytest.mark.parametrize("lesson", LESSONS[:2], ids=lambda lesson: lesson["ask"])
def test_an_answer_whole_and_streamed(served: Served, lesson: dict[str, Any]) -> None:
    request = {**GREEDY, "messages": user(lesson["ask"])}
    whole = served.client.chat.completions.create(**request)
    assert whole.choices[0].message.content == lesson["content"]
    assert whole.choices[0].message.role == "assistant"
    assert whole.choices[0].finish_reason == "stop"
    messages, chunks = stream(served, **request)
    assert messages == {
        0: {"role": "assistant", "content": lesson["content"], "tool_calls": [], "finish_reason": "stop"}
    }
    assert len(chunks) > 4
    assert {(chunk.object, chunk.model) for chunk in chunks} == {("chat.completion.chunk", "tiny")}
    assert len({chunk.id for chunk in chunks}) == 1


def test_usage_counts_tokens(served: Served) -> None:
    request = {**GREEDY, "messages": user("the cat")}
    prompt = served.model.tokenizer.encode_chat(request["messages"], add_generation_prompt=True)[0]
    usage = served.client.chat.completions.create(**request).usage
    answer = served.model.tokenizer.encode(LESSONS[0]["content"])
    assert (usage.prompt_tokens, usage.completion_tokens) == (len(prompt), len(answer))
    assert usage.total_tokens == len(prompt) + len(answer)
    _, chunks = stream(served, **request, stream_options={"include_usage": True})
    assert chunks[-1].choices == []
    assert chunks[-1].usage == usage
    assert all(chunk.usage is None for chunk in chunks[:-1])


@pytest.mark.parametrize(
    "asked",
    [
        {"open_thinking": True},
        {"chat_template_kwargs": {"enable_thinking": True}},
        {"chat_template_kwargs": {"open_thinking": True}},
        {"thinking": {"type": "enabled"}, "enable_thinking": True, "chat_template_kwargs": {"thinking": True}},
        {"reasoning_effort": "low"},
    ],
)
def test_thinking_has_a_field_of_its_own(served: Served, asked: dict[str, Any]) -> None:
    request = {**GREEDY, "messages": user("the bird"), "extra_body": asked}
    whole = served.client.chat.completions.create(**request)
    message = whole.choices[0].message
    assert message.reasoning_content == "old red river"  # type: ignore[attr-defined]
    assert message.content == "finds a small house"
    assert whole.usage.completion_tokens_details.reasoning_tokens > 3
    streamed = stream(served, **request)[0][0]
    assert (streamed["reasoning_content"], streamed["content"]) == ("old red river", "finds a small house")


def test_tool_calls_whole_and_streamed(served: Served) -> None:
    request = {**GREEDY, "messages": user("both"), "tools": [SEES]}
    choice = served.client.chat.completions.create(**request).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "a cat"
    called = [(call.function.name, json.loads(call.function.arguments)) for call in choice.message.tool_calls]
    assert called == [("sees", {"a": "cat"}), ("sees", {"a": "dog"})]
    assert len({call.id for call in choice.message.tool_calls}) == 2
    streamed = stream(served, **request)[0][0]
    assert [
        (call["function"]["name"], json.loads(call["function"]["arguments"])) for call in streamed["tool_calls"]
    ] == called
    assert (streamed["content"], streamed["finish_reason"]) == ("a cat", "tool_calls")


def test_one_call_at_a_time(served: Served) -> None:
    request = {**GREEDY, "messages": user("both"), "tools": [SEES], "parallel_tool_calls": False}
    choice = served.client.chat.completions.create(**request).choices[0]
    assert len(choice.message.tool_calls) == 1
    assert choice.finish_reason == "tool_calls"
    served.wait_until_idle()


def test_the_model_may_be_kept_from_calling(served: Served) -> None:
    """Then it does not even see the tools, and what looks like a call is text."""
    request = {**GREEDY, "messages": user("both"), "tools": [SEES], "tool_choice": "none"}
    choice = served.client.chat.completions.create(**request).choices[0]
    assert choice.message.tool_calls is None
    without = served.client.chat.completions.create(**GREEDY, messages=user("both")).choices[0]
    assert choice.message.content == without.message.content


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "sees"}}])
def test_a_forced_call_follows_the_parameters(served: Served, choice: Any) -> None:
    other = {"type": "function", "function": {"name": "finds"}}
    for seed in range(3):
        request: dict[str, Any] = {
            "model": "tiny",
            "temperature": 1.5,
            "seed": seed,
            "messages": user("the cat"),
            "tools": [other, SEES] if choice != "required" else [SEES],
            "tool_choice": choice,
        }
        answer = served.client.chat.completions.create(**request).choices[0]
        (call,) = answer.message.tool_calls
        assert (call.function.name, answer.message.content, answer.finish_reason) == ("sees", None, "tool_calls")
        assert json.loads(call.function.arguments)["a"] in ("cat", "dog")
        streamed = stream(served, **request)[0][0]
        assert streamed["tool_calls"][0]["function"]["arguments"] == call.function.arguments


def test_a_conversation_with_tool_results(served: Served) -> None:
    """What the client was given is accepted back as it is."""
    messages = user("both")
    message = served.client.chat.completions.create(**GREEDY, messages=messages, tools=[SEES]).choices[0].message
    messages += [message]
    messages += [{"role": "tool", "tool_call_id": call.id, "content": "a tree"} for call in message.tool_calls]
    answer = served.client.chat.completions.create(**GREEDY, messages=messages, tools=[SEES], max_tokens=5)
    plain = {"role": "assistant", "content": "a cat", "tool_calls": LESSONS[3]["tool_calls"]}
    results = [{"role": "tool", "content": "a tree"}] * 2
    prompt = served.model.tokenizer.encode_chat(
        [*user("both"), plain, *results], [SEES], add_generation_prompt=True
    )
    assert answer.usage.prompt_tokens == len(prompt[0])


def test_logprobs_are_the_models(served: Served) -> None:
    request = {**GREEDY, "messages": user("the cat"), "logprobs": True, "top_logprobs": 3}
    choice = served.client.chat.completions.create(**request).choices[0]
    tokenizer = served.model.tokenizer
    prompt = tokenizer.encode_chat(request["messages"], add_generation_prompt=True)[0]
    answer = tokenizer.encode(choice.message.content)
    wanted = served.model.logits(prompt + answer).log_softmax(-1)[len(prompt) - 1 :]
    entries = choice.logprobs.content
    assert [entry.token for entry in entries] == [tokenizer.decode([token]) for token in answer]
    assert b"".join(bytes(entry.bytes) for entry in entries).decode() == choice.message.content
    for entry, token, row in zip(entries, answer, wanted):
        assert entry.logprob == pytest.approx(float(row[token]), abs=1e-4)
        top = row.topk(3)
        assert [other.logprob for other in entry.top_logprobs] == pytest.approx(top.values.tolist(), abs=1e-4)
        assert entry.top_logprobs[0].token == entry.token
    _, chunks = stream(served, **request)
    streamed = [entry for chunk in chunks for c in chunk.choices if c.logprobs for entry in c.logprobs.content]
    assert streamed == entries


def test_bytes_of_a_character_in_several_tokens(served: Served) -> None:
    choice = served.client.chat.completions.create(**GREEDY, messages=user("a dog"), logprobs=True).choices[0]
    pieces = [bytes(entry.bytes) for entry in choice.logprobs.content]
    assert b"".join(pieces).decode() == LESSONS[1]["content"]
    assert any(piece.decode(errors="ignore").encode() != piece for piece in pieces), (
        "bytes of a part of a character"
    )


def test_several_choices_and_seeds(served: Served) -> None:
    request = {"model": "tiny", "messages": user("the cat"), "temperature": 2.0, "top_p": 1, "max_tokens": 12}
    three = served.client.chat.completions.create(**request, n=3, seed=5)
    contents = [choice.message.content for choice in three.choices]
    assert [choice.index for choice in three.choices] == [0, 1, 2]
    assert len(set(contents)) == 3
    alone = [
        served.client.chat.completions.create(**request, seed=5 + index).choices[0].message.content
        for index in range(3)
    ]
    assert contents == alone
    messages, _ = stream(served, **request, n=3, seed=5)
    assert [messages[index]["content"] for index in range(3)] == contents
    random = {served.client.chat.completions.create(**request).choices[0].message.content for _ in range(3)}
    assert len(random) == 3


@pytest.mark.parametrize(
    ("stop", "wanted"),
    [
        ("big tree", "sees a "),
        (["e\na", "tree"], "sees a big "),
        (["tree\nand"], "sees a big "),
        (["nowhere", "the o"], "sees a big tree\nand "),
    ],
)
def test_a_stop_string_ends_the_answer(served: Served, stop: Any, wanted: str) -> None:
    """Wherever tokens have their borders: one token a character or several make no difference."""
    request = {**GREEDY, "messages": user("the cat"), "stop": stop}
    choice = served.client.chat.completions.create(**request).choices[0]
    assert (choice.message.content, choice.finish_reason) == (wanted, "stop")
    streamed = stream(served, **request)[0][0]
    assert (streamed["content"], streamed["finish_reason"]) == (wanted, "stop")
    served.wait_until_idle()


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_an_answer_has_a_longest_length(served: Served, name: str) -> None:
    answer = served.client.chat.completions.create(**GREEDY, messages=user("the cat"), **{name: 3})
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3


def test_json_is_json(served: Served) -> None:
    request: dict[str, Any] = {"model": "tiny", "messages": user("the cat"), "temperature": 1.5, "max_tokens": 400}
    for seed in range(3):
        answer = served.client.chat.completions.create(
            **request, seed=seed, response_format={"type": "json_object"}
        )
        if answer.choices[0].finish_reason == "stop":
            assert isinstance(json.loads(answer.choices[0].message.content), dict)
        schema = {"type": "json_schema", "json_schema": {"name": "c", "schema": COLOURS, "strict": True}}
        answer = served.client.chat.completions.create(**request, seed=seed, response_format=schema)
        assert json.loads(answer.choices[0].message.content) in ({"color": "red"}, {"color": "blue"})


def test_logit_bias_forbids_and_forces(served: Served) -> None:
    tokenizer = served.model.tokenizer
    first, *_ = tokenizer.encode(LESSONS[0]["content"])
    (forced,) = tokenizer.encode("z")
    request = {**GREEDY, "messages": user("the cat"), "max_tokens": 2}
    other = served.client.chat.completions.create(**request, logit_bias={str(first): -100}).choices[0]
    assert not other.message.content.startswith(tokenizer.decode([first]))
    assert (
        served.client.chat.completions.create(**request, logit_bias={str(forced): 100}).choices[0].message.content
        == "zz"
    )


def test_sampling_parameters_reach_the_engine(served: Served) -> None:
    request = {"model": "tiny", "messages": user("the cat"), "temperature": 2.0, "top_p": 0.9, "max_tokens": 12}
    extra = {"top_k": 40, "min_p": 0.01, "repetition_penalty": 1.2}
    penalties = {"presence_penalty": 0.5, "frequency_penalty": 0.25}
    wanted = served.model.chat(
        user("the cat"), seed=3, max_tokens=12, temperature=2.0, top_p=0.9, **extra, **penalties
    )
    found = served.client.chat.completions.create(**request, seed=3, **penalties, extra_body=extra)
    assert found.choices[0].message.content == wanted["content"]


def test_neighbours_of_one_role_become_one_message(served: Served) -> None:
    several = [{"role": "developer", "content": "old"}, {"role": "system", "content": "dog"}]
    several += [{"role": "user", "content": [{"type": "text", "text": "a "}, {"type": "text", "text": "cat"}]}]
    several += user("sees")
    one = [{"role": "system", "content": "old\n\ndog"}, {"role": "user", "content": "a cat\n\nsees"}]
    answers = [served.client.chat.completions.create(**GREEDY, messages=m, max_tokens=9) for m in (several, one)]
    assert answers[0].choices == answers[1].choices
    assert answers[0].usage == answers[1].usage


def test_texts_are_continued(served: Served) -> None:
    request: dict[str, Any] = {"model": "tiny", "temperature": 0, "max_tokens": 8}
    answer = served.client.completions.create(**request, prompt=["the cat", "a dog"], logprobs=2)
    wanted = [served.model.predict(text, temperature=0, max_tokens=8) for text in ("the cat", "a dog")]
    assert [choice.text for choice in answer.choices] == wanted
    assert answer.object == "text_completion"
    logprobs = answer.choices[0].logprobs
    assert "".join(logprobs.tokens) == wanted[0]
    assert all(
        len(top) == 2 and math.isclose(max(top.values()), own)
        for top, own in zip(logprobs.top_logprobs, logprobs.token_logprobs)
    )
    assert logprobs.text_offset[:2] == [0, len(logprobs.tokens[0])]
    pieces = list(served.client.completions.create(**request, prompt="the cat", stream=True))
    assert "".join(piece.choices[0].text for piece in pieces) == wanted[0]
    ids = [served.model.tokenizer.bos_id, *served.model.tokenizer.encode("the cat")]
    assert served.client.completions.create(**request, prompt=ids).choices[0].text == wanted[0]
    default = served.client.completions.create(model="tiny", prompt="the cat", logit_bias={"2": -100, "0": -100})
    assert default.usage.completion_tokens == 16
    stopped = served.client.completions.create(**request, prompt="the cat", stop=wanted[0][2:5])
    assert stopped.choices[0].text == wanted[0][:2]


def test_models_are_listed(served: Served) -> None:
    (model,) = served.client.models.list()
    assert (model.id, model.object, model.owned_by) == ("tiny", "model", "minimind")
    assert served.client.models.retrieve("tiny") == model
    with pytest.raises(openai.NotFoundError, match="no model 'huge'"):
        served.client.models.retrieve("huge")


@pytest.mark.parametrize(
    ("changes", "kind", "sentence"),
    [
        ({"model": "huge"}, openai.NotFoundError, "there is no model 'huge' here, but 'tiny'"),
        ({"messages": []}, openai.BadRequestError, "messages: List should have at least 1 item"),
        (
            {"messages": [{"role": "cat", "content": ""}]},
            openai.BadRequestError,
            r"messages\[0\].role: Input should be",
        ),
        (
            {"messages": [*user("a"), {"role": "tool", "content": "a"}]},
            openai.BadRequestError,
            "message 2: a tool's result needs a message of the assistant before it",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            openai.BadRequestError,
            r"content\[0\]",
        ),
        ({"messages": user("cat " * 2000)}, openai.BadRequestError, "maximum context length is 1024 tokens"),
        ({"temperature": -1}, openai.BadRequestError, "temperature: Input should be greater than or equal to 0"),
        ({"max_tokens": 0}, openai.BadRequestError, "max_tokens: should be at least 1, or -1"),
        ({"stop": ""}, openai.BadRequestError, "stop: String should have at least 1 character"),
        ({"n": 17}, openai.BadRequestError, "n: Input should be less than or equal to 16"),
        ({"logit_bias": {"100000": 1}}, openai.BadRequestError, "logit_bias: there is no token 100000"),
        ({"top_logprobs": 2}, openai.BadRequestError, "400 - top_logprobs: needs logprobs: true"),
        (
            {"tool_choice": "required"},
            openai.BadRequestError,
            "tool_choice: asks for a call, but there are no tools",
        ),
        ({"extra_body": {"dance": 1}}, openai.BadRequestError, "dance: there is no such field"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "cat"}}}},
            openai.BadRequestError,
            "JSON Schema",
        ),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_mistakes_are_told_in_openais_shape(
    served: Served, changes: dict[str, Any], kind: type[openai.APIStatusError], sentence: str, streaming: bool
) -> None:
    with pytest.raises(kind, match=sentence) as caught:
        served.client.chat.completions.create(
            **{**GREEDY, "messages": user("the cat"), "stream": streaming, **changes}
        )
    assert caught.value.body.keys() == {"message", "type", "param", "code"}
    assert caught.value.type == "invalid_request_error"
    served.wait_until_idle()


def test_a_prompt_that_is_too_long_has_openais_code(served: Served) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        served.client.completions.create(model="tiny", prompt="cat " * 2000)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "prompt")
