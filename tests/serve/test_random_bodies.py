"""Whatever a client sends, it is answered or told what is wrong, and the answer beside it does not change."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.pupil import SEES
from tests.serve.conftest import Served, serve

from minimind import Model
from minimind.serve import fields
from minimind.serve.schemas import ChatRequest, CompletionRequest

NUMBERS = st.sampled_from([0, 1, -1, 2, 0.5, 1e-40, -0.0, 1e308, float("nan"), float("inf"), 10**30, True])
TEXTS = st.sampled_from(
    ["", " ", "the cat", "<|im_end|>", "</think>", "<tool_call>\n{}", "\ud800", "\x00", "{", "null"]
)
SCHEMAS = st.recursive(
    st.sampled_from(
        [{}, {"type": "string"}, {"type": "cat"}, {"const": float("nan")}, {"$ref": "#"}, {"enum": []}]
    ),
    lambda inner: (
        st.builds(lambda one: {"type": "object", "properties": {"a": one}, "required": ["a"]}, inner)
        | st.builds(lambda one: {"type": "array", "items": one}, inner)
        | st.builds(lambda one, other: {"anyOf": [one, other]}, inner, inner)
    ),
    max_leaves=4,
)
JSON = st.recursive(
    st.none() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
CALLS = st.lists(
    st.fixed_dictionaries(
        {"function": st.fixed_dictionaries({"name": TEXTS, "arguments": TEXTS | st.just('{"a": "cat"}') | JSON})},
        optional={"type": st.just("function"), "id": TEXTS},
    ),
    max_size=2,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"])},
        optional={
            "content": TEXTS
            | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": TEXTS}), max_size=2),
            "reasoning_content": TEXTS,
            "tool_calls": CALLS,
            "refusal": TEXTS,
        },
    ),
    max_size=4,
)
NAMED = {"type": "function", "function": {"name": "sees"}}
LIKELY: dict[str, Any] = {
    "messages": MESSAGES,
    "tools": st.just([SEES]),
    "tool_choice": st.sampled_from(["auto", "none", "required", NAMED]),
    "functions": st.just([SEES["function"]]),
    "response_format": st.builds(lambda s: {"type": "json_schema", "json_schema": {"schema": s}}, SCHEMAS),
    "guided_json": SCHEMAS,
    "logit_bias": st.dictionaries(st.sampled_from(["0", "2", "5", "a"]), NUMBERS, max_size=3),
    "logprobs": st.booleans() | st.integers(0, 3),
    "prompt": TEXTS | st.lists(st.integers(0, 300), max_size=5) | st.lists(TEXTS, max_size=2),
    "stop": TEXTS | st.lists(TEXTS, max_size=2),
    "stream": st.booleans(),
    "echo": st.booleans(),
    "reasoning_effort": st.sampled_from(["none", "low", "max"]),
    "seed": st.integers(-(2**63), 2**63 - 1) | NUMBERS,
}


def bodies(used: Any, accepted: Any, always: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of the fields, mostly with values that somebody may mean."""
    one = (st.sampled_from(sorted(used)) | st.sampled_from(sorted(accepted))).flatmap(
        lambda name: st.tuples(st.just(name), LIKELY.get(name, NUMBERS | TEXTS) | JSON)
    )
    return st.lists(one, max_size=5).map(lambda pairs: always | dict(pairs))


QUESTION = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 4}
CHAT = bodies(ChatRequest.model_fields, fields.CHAT, QUESTION)
COMPLETIONS = bodies(CompletionRequest.model_fields, fields.COMPLETIONS, {"prompt": "a", "max_tokens": 4})


@pytest.fixture(scope="module")
def crowded(endless: Path) -> Iterator[Served]:
    with serve(Model(endless, device="cpu"), max_tokens=60) as server:
        yield server


def neighbor(served: Served) -> str:
    """A sampled answer of someone else."""
    body = {"messages": [{"role": "user", "content": "the cat"}], "seed": 7, "temperature": 1, "stream": True}
    with httpx.stream("POST", served.url + "/v1/chat/completions", json=body, timeout=120) as response:
        events = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: {")]
    return "".join(event["choices"][0]["delta"].get("content", "") for event in events)


@pytest.mark.parametrize(("path", "strategy"), [("chat/completions", CHAT), ("completions", COMPLETIONS)])
def test_any_body_harms_at_most_itself(crowded: Served, path: str, strategy: Any) -> None:
    alone = neighbor(crowded)
    heard: list[str] = []
    over = threading.Event()

    def listen() -> None:
        while not over.is_set():
            heard.append(neighbor(crowded))

    listener = threading.Thread(target=listen)
    listener.start()

    @given(body=strategy)
    @settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def check(body: dict[str, Any]) -> None:
        content, headers = json.dumps(body).encode(), {"content-type": "application/json"}
        response = httpx.post(f"{crowded.url}/v1/{path}", content=content, headers=headers, timeout=120)
        assert response.status_code < 500, response.text
        if response.status_code != 200:
            error = response.json()["error"]
            assert error["message"].strip().rstrip(".")[-1] not in ":,"
            assert not {"ToolChoice", "Named", "Sampling", "Annotated"} & set(
                error["message"].replace(".", " ").split()
            )
        elif body.get("stream") is True:
            assert '"server_error"' not in response.text

    try:
        check()
    finally:
        over.set()
        listener.join()
    assert len(heard) > 1
    assert set(heard) == {alone}
    crowded.wait_until_idle()
