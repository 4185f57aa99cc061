"""The words of a server's model on the page: probabilities, tools, what ended it, and mistakes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from tests.stub_server import DONE, StubServer, call, event, stub_server

pytest.importorskip("streamlit")

from minimind.infer.events import Token
from minimind.infer.remote import Server
from minimind.tools import Toolbox
from minimind.tools.builtin import builtin_tools
from minimind.web.session import Answer, remote

LOGPROBS = {"content": [{"token": "Hi", "logprob": -0.5, "top_logprobs": [{"token": "Ho", "logprob": -0.25}]}]}


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with stub_server() as server:
        yield server


def begin(stub: StubServer, *tools: str, think: bool = False, **sampling: Any) -> Answer:
    answer = Answer()
    toolbox = Toolbox([builtin_tools()[name] for name in tools])
    answer.begin(partial(remote, Server(stub.url), "small"), sampling, [], "hello", tools=toolbox, think=think)
    return answer


def finish(answer: Answer) -> list[list[dict[str, Any]]]:
    """The messages after every step."""
    grown = []
    while answer.steps:
        answer.advance()
        grown.append([dict(message) for message in answer.messages])
    return grown


def test_text_thinking_and_probabilities_come_in_pieces(stub: StubServer) -> None:
    pieces = [event(reasoning_content="hm"), event(content="Hi", logprobs=LOGPROBS), event("length", content="!")]
    stub.answers = [[*pieces, DONE]]
    answer = begin(stub, think=True, temperature=0.5, seed=None)
    grown = finish(answer)
    assert grown[0] == [{"role": "assistant", "content": "", "reasoning_content": "hm"}]
    assert grown[-1] == [{"role": "assistant", "content": "Hi!", "reasoning_content": "hm"}]
    assert answer.shown == [Token(text="Hi", logprob=-0.5, top_logprobs=(Token(text="Ho", logprob=-0.25),))]
    assert (answer.tokens, answer.note) == (3, "length")
    (asked,) = stub.asked
    assert (asked["temperature"], asked["logprobs"], asked["top_logprobs"]) == (0.5, True, 5)
    assert asked["chat_template_kwargs"]["enable_thinking"]
    assert "seed" not in asked


def test_tools_run_between_its_words(stub: StubServer) -> None:
    called = call(name="calculate", arguments='{"expression": "6 * 7"}')
    stub.answers = [[called, DONE], [event(content="It is 42."), DONE]]
    answer = begin(stub, "calculate")
    finish(answer)
    assert [one["role"] for one in answer.messages] == ["assistant", "tool", "assistant"]
    assert answer.messages[0]["tool_calls"][0]["arguments"] == {"expression": "6 * 7"}
    assert answer.messages[1]["content"] == '{"result": 42}'
    assert answer.tokens == 2
    assert stub.asked[1]["messages"][-1]["tool_call_id"] == "abc"


def test_a_stopped_answer_is_kept_as_far_as_it_came(stub: StubServer) -> None:
    stub.answers = [[event(content="Hi"), event(content=" there"), DONE]]
    answer = begin(stub)
    answer.advance()
    answer.stop()
    answer.advance()
    assert answer.messages == [{"role": "assistant", "content": "Hi"}]


def test_a_mistake_ends_the_answer_and_is_said(stub: StubServer) -> None:
    answer = begin(stub)
    finish(answer)
    assert answer.note == f"{stub.url}/chat/completions answers with status 400: top_k is too large"
    answer = begin(stub, temperature=-1.0)
    finish(answer)
    assert answer.note == "temperature must be a number from 0 to 1,000, not -1.0"
