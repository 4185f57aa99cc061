"""Answers step by step: the same as the engine gives at once, with tools, stopped, and several at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from minimind import Model
from minimind.infer.conversation import Conversation
from minimind.infer.events import End, ModelEvent, Text, ToolCall
from minimind.tools import Toolbox
from minimind.tools.builtin import builtin_tools

pytest.importorskip("streamlit")

from minimind.web.library import find_models, load
from minimind.web.session import Answer, local

SAMPLING = {"max_tokens": 24, "seed": 3, "temperature": 1.0}
CAT = [{"role": "user", "content": "the cat"}]


def begin(path: Path, **changes: Any) -> Answer:
    answer = Answer()
    answer.begin(partial(local, path), SAMPLING | changes, [], "the cat")
    return answer


def finish(*answers: Answer) -> None:
    while any(answer.steps for answer in answers):
        for answer in answers:
            answer.advance()


def test_an_answer_is_the_models_own(talker: Path) -> None:
    answer = begin(talker / "model")
    finish(answer)
    model = Model(talker)
    assert answer.messages == [model.chat(CAT, **SAMPLING)]
    prompt = model.tokenizer.encode_chat(CAT, add_generation_prompt=True)[0]
    completion = model.engine.generate([prompt], model.sampling_params(**SAMPLING))[0]
    assert answer.tokens == len(completion.ids)
    assert answer.note == ("" if completion.stop_reason == "stop" else completion.stop_reason)
    text = model.tokenizer.decode(completion.ids, skip_special=False)
    said = "".join(token.text for token in answer.shown)
    assert text.startswith(said)
    if said == text:
        assert sum(token.logprob for token in answer.shown) == pytest.approx(sum(completion.logprobs), rel=1e-6)
    whole = [token for token in answer.shown if token.top_logprobs]
    assert whole
    for token in whole:
        logprobs = [one.logprob for one in token.top_logprobs]
        assert logprobs == sorted(logprobs, reverse=True)
        assert len(logprobs) == 5
        assert token.logprob <= logprobs[0] + 1e-6


def test_answers_at_once_are_the_answers_one_by_one(runs: Path) -> None:
    paths = [runs / "talker/model", runs / "talker/model", runs / "twin/model"]
    together = [begin(path, seed=seed) for seed, path in enumerate(paths)]
    finish(*together)
    alone = [begin(path, seed=seed) for seed, path in enumerate(paths)]
    for answer in alone:
        finish(answer)
    assert [answer.messages for answer in together] == [answer.messages for answer in alone]


def test_a_stopped_answer_keeps_what_it_has_and_frees_the_engine(talker: Path) -> None:
    answer = begin(talker / "model", max_tokens=200, logit_bias=((2, -100.0), (0, -100.0)))
    for _ in range(5):
        answer.advance()
    before = [dict(message) for message in answer.messages]
    assert before[0]["content"]
    answer.stop()
    answer.advance()
    assert answer.messages == before
    whole = begin(talker / "model")
    finish(whole)
    assert whole.messages == [load(talker / "model").chat(CAT, **SAMPLING)]


def test_a_mistake_ends_the_answer_and_is_said(talker: Path) -> None:
    answer = begin(talker / "model", temperature=-1.0)
    finish(answer)
    assert answer.note == "temperature must be a number from 0 to 1,000, not -1.0"


class Script:
    """A backend that first calls a tool and then answers."""

    def __init__(self) -> None:
        self.asked: list[list[dict[str, Any]]] = []

    def speak(self, messages: list[dict[str, Any]], schemas: Any, params: Any, think: bool) -> Iterator[ModelEvent]:
        self.asked.append(messages)
        assert [tool["function"]["name"] for tool in schemas] == ["calculate"]
        yield ToolCall("calculate", {"expression": "6*7"}) if len(self.asked) == 1 else Text("42")
        yield End("stop")


def test_tools_run_between_the_models_words() -> None:
    script, answer = Script(), Answer()
    tools = Toolbox([builtin_tools()["calculate"]])
    answer.begin(lambda sampling: Conversation(script), {}, CAT, "6 * 7?", tools=tools, system="Be brief.")
    answer.advance()
    call = {"name": "calculate", "arguments": {"expression": "6*7"}}
    called = {"role": "assistant", "content": "", "tool_calls": [call]}
    assert answer.messages == [called]  # shown before the tool has run
    finish(answer)
    result = {"role": "tool", "content": json.dumps({"result": 42})}
    assert answer.messages == [called, result, {"role": "assistant", "content": "42"}]
    asked = [{"role": "system", "content": "Be brief."}, *CAT, {"role": "user", "content": "6 * 7?"}]
    assert script.asked == [asked, [*asked, called, result]]


def test_models_are_found_once_each(runs: Path, tmp_path: Path) -> None:
    found = find_models(runs)
    assert {name: path.relative_to(runs).as_posix() for name, path in found.items()} == {
        "base": "base/model",
        "talker": "talker/model",
        "twin": "twin/model",
    }
    assert find_models(runs / "talker") == {"talker": runs / "talker/model"}
    assert find_models(tmp_path) == {}
