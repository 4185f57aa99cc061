"""A request can only harm itself: whatever one asks for, the others' answers are bit for bit those given alone.

In fp64, since the order of a sum depends on what else is in the batch; what is sampled from and reported is fp32.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.random_models import random_model

from minimind.errors import UserError
from minimind.infer.constraint import Constraint
from minimind.infer.engine import Engine
from minimind.infer.generate import generate
from minimind.infer.request import Request
from minimind.infer.sampler import SamplingParams
from minimind.model import Transformer
from minimind.tokenizer import Tokenizer

ROOMY = {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(20)}}
PATTERNS = {
    "type": "object",
    "patternProperties": {"^(.*a){20}b.{9}$": {"type": "string", "pattern": "a.{99}b"}},
}
TOOLS = [
    {"type": "function", "function": {"name": "now"}},
    {"type": "function", "function": {"name": "roll", "parameters": {"properties": {"sides": {"enum": [6, 20]}}}}},
]
CONTEXT = 256
PLAIN = [([5, 9, 30, 7], SamplingParams(temperature=0, max_tokens=20, stop_ids=()))]
PLAIN += [([3] * 50, SamplingParams(max_tokens=25, seed=4)), ([8, 9], SamplingParams(temperature=1.5, seed=-1))]


@pytest.fixture(scope="module")
def tokenizer(tokenizer_directory: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_directory)


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Transformer:
    return random_model(vocab_size=tokenizer.vocab_size + 13).cast(torch.float64)


@pytest.fixture(scope="module")
def engine(model: Transformer, tokenizer: Tokenizer) -> Engine:
    return Engine(model, max_batch=6, tokenizer=tokenizer, prefill_tokens=40, prefix_bytes=10**6)


@pytest.fixture(scope="module")
def alone(model: Transformer) -> list[Any]:
    return [Engine(model).generate([prompt], params)[0] for prompt, params in PLAIN]


def run(engine: Engine, requests: list[Request]) -> None:
    while any(request.stop_reason is None for request in requests):
        engine.step()


penalty = st.floats(-100, 100)
token = st.integers(0, 450)
biases = st.lists(st.tuples(token, st.floats(allow_nan=False, allow_infinity=False)), max_size=8)
hostile_params = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.sampled_from([0.0, 1e-320, 1e-40, 1e-6, 1e-5, 1e-3, 1.0, 1000.0]),
        "top_k": st.sampled_from([0, 1, 3, 10**9]),
        "top_p": st.sampled_from([1.0, 0.5, 1e-300, 0.0]),
        "min_p": st.sampled_from([0.0, 1.0, 1e-320, 0.1]),
        "repetition_penalty": st.floats(0.01, 100),
        "presence_penalty": penalty,
        "frequency_penalty": penalty,
        "logit_bias": st.lists(st.tuples(token, st.floats(allow_nan=False, allow_infinity=False)), max_size=8).map(
            tuple
        ),
        "top_logprobs": st.sampled_from([0, 3, 1000]),
        "json_schema": st.sampled_from(["{}", json.dumps(ROOMY), json.dumps(PATTERNS), '{"type": "no"}']),
        "offered_tools": st.just(json.dumps(TOOLS)),
        "open_call": st.booleans(),
        "stop_ids": st.lists(token, max_size=400).map(tuple),
        "seed": st.integers(-(2**63), 2**63),
    },
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    hostile=st.lists(
        st.tuples(st.integers(0, 15), st.lists(token, min_size=1, max_size=100), hostile_params), max_size=5
    )
)
def test_whatever_is_asked_the_others_answers_stay(
    engine: Engine, model: Transformer, tokenizer: Tokenizer, alone: list[Any], hostile: list[Any]
) -> None:
    plain = [engine.submit(prompt, params) for prompt, params in PLAIN]
    accepted: list[Request] = []
    for step in range(16):
        for when, prompt, asked in hostile:
            if when == step:
                try:
                    accepted.append(engine.submit(prompt, SamplingParams(**{"seed": 0, "max_tokens": 40, **asked})))
                except UserError:
                    assert max(prompt) >= model.config.vocab_size or asked.get("json_schema") == '{"type": "no"}'
        engine.step()
    run(engine, [*plain, *accepted])
    assert [request.completion() for request in plain] == alone
    for request in accepted:
        assert isinstance(request.error, UserError | None)
        assert all(map(math.isfinite, request.logprobs))
        if request.constraint is None:
            sampled = [*request.ids, *([] if request.stop_id is None else [request.stop_id])]
            assert sampled == [one.id for one in generate(model, request.prompt, request.params)]
        elif request.params.json_schema is not None and request.stop_reason == "stop":
            text = tokenizer.decode(request.ids, skip_special=False)
            for part in text.replace("</tool_call>", "").split("<tool_call>")[-1:]:
                assert isinstance(json.loads(part), dict)
    assert not engine.active


class Broken(Constraint):
    """Fails at the third token, as no constraint is to."""

    def __init__(self, at: str) -> None:
        self.at, self.received = at, 0
        self.begins_with = self.matcher = None

    holds = True

    def forbid(self, logits_V: torch.Tensor) -> torch.Tensor:
        if self.at == "forbid" and self.received == 3:
            raise RuntimeError("broken")
        return logits_V

    def receive(self, token: int) -> None:
        self.received += 1
        if self.at == "receive" and self.received == 3:
            raise RuntimeError("broken")


@pytest.mark.parametrize("at", ["forbid", "receive"])
def test_an_error_ends_the_request_that_has_it(engine: Engine, alone: list[Any], at: str) -> None:
    plain = [engine.submit(prompt, params) for prompt, params in PLAIN]
    broken = engine.request([1, 2, 3], replace(PLAIN[0][1], max_tokens=10))
    broken.constraint = Broken(at)
    engine.add([broken])
    run(engine, [*plain, broken])
    assert [request.completion() for request in plain] == alone
    assert broken.stop_reason == "error"
    assert len(broken.ids) == 3
    with pytest.raises(RuntimeError, match="broken"):
        broken.completion()


def test_what_is_no_number_stays_with_its_request() -> None:
    """Neither do its keys and values, in a slot or the prefix cache, reach those who come after it."""
    model = random_model(tie_word_embeddings=False).cast(torch.float64)
    model.model.embed_tokens.weight.data[50] = math.nan
    params = SamplingParams(temperature=0.9, max_tokens=40, seed=1, stop_ids=(), logit_bias=((50, -1e300),))
    prompts = [[3] * 40, [1, 2], [4] * 7, [50 - i for i in range(1, 20)]]
    alone = [Engine(model).generate([prompt], params)[0] for prompt in prompts]
    engine = Engine(model, max_batch=3)
    forced = replace(params, logit_bias=((50, 1e300),))
    poisoned = [engine.submit([50] * 30, params), engine.submit([5] * 60, forced)]
    requests = [engine.submit(prompt, params) for prompt in prompts]
    poisoned.append(engine.submit([50] * 29 + [1, 1], params))
    run(engine, [*requests, *poisoned])
    assert [request.completion() for request in requests] == alone
    for request in poisoned:
        assert request.stop_reason == "error"
        with pytest.raises(UserError, match="not finite"):
            request.completion()


def test_ids_that_the_model_has_not_are_refused() -> None:
    for prompt in ([97], [1, -1]):
        with pytest.raises(UserError, match="go from 0 to 96"):
            Engine(random_model()).submit(prompt, PLAIN[0][1])


def test_a_stream_ends_in_the_error() -> None:
    model = random_model(tie_word_embeddings=False)
    model.model.embed_tokens.weight.data[50] = math.nan
    engine = Engine(model)
    with pytest.raises(UserError, match="not finite"):
        list(engine.stream([50], SamplingParams()))
    assert not engine.active
