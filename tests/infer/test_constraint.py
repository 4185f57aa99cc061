"""Answers that must be JSON, from a model that wants to say anything but that."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.random_models import random_model

from minimind.errors import UserError
from minimind.infer.engine import Engine
from minimind.infer.sampler import SamplingParams
from minimind.tokenizer import Tokenizer

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 5},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "color": {"enum": ["red", "blue"]},
        "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
    },
    "required": ["name", "age", "color", "tags"],
    "additionalProperties": False,
}
PARAMS = SamplingParams(temperature=1.0, max_tokens=200, json_schema=json.dumps(SCHEMA))


@pytest.fixture(scope="module")
def tokenizer(tokenizer_directory: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_directory)


@pytest.fixture(scope="module")
def engine(tokenizer: Tokenizer) -> Engine:
    # More ids than the tokenizer has: no word of their own must not mean no bit of their own.
    return Engine(random_model(vocab_size=tokenizer.vocab_size + 13), max_batch=8, tokenizer=tokenizer)


def check(value: dict[str, Any]) -> None:
    assert set(value) == set(SCHEMA["properties"])  # type: ignore[arg-type]
    assert isinstance(value["name"], str)
    assert len(value["name"]) <= 5
    assert type(value["age"]) is int
    assert 0 <= value["age"] <= 120
    assert value["color"] in ("red", "blue")
    assert len(value["tags"]) <= 2
    assert all(type(tag) is bool for tag in value["tags"])


@pytest.mark.parametrize("temperature", [0.0, 1.0, 3.0])
def test_answers_follow_the_schema(engine: Engine, tokenizer: Tokenizer, temperature: float) -> None:
    params = [replace(PARAMS, temperature=temperature, seed=seed) for seed in range(12)]
    for completion in engine.generate([[1, 5, 9]] * 12, params):
        assert completion.stop_reason == "stop"
        check(json.loads(tokenizer.decode(completion.ids)))


def test_an_empty_schema_is_any_object(engine: Engine, tokenizer: Tokenizer) -> None:
    params = [replace(PARAMS, json_schema="{}", max_tokens=100, seed=seed) for seed in range(12)]
    completions = engine.generate([[1, 5, 9]] * 12, params)
    ended = [tokenizer.decode(c.ids) for c in completions if c.stop_reason == "stop"]
    assert ended
    assert all(isinstance(json.loads(text), dict) for text in ended)
    assert all(tokenizer.decode(c.ids).lstrip().startswith("{") for c in completions)


def test_other_requests_of_the_batch_stay_free(engine: Engine) -> None:
    free = SamplingParams(temperature=0, max_tokens=10, stop_ids=())
    alone = engine.generate([[1, 2, 3]], free)[0].ids
    assert engine.generate([[5], [1, 2, 3], [6]], [PARAMS, free, PARAMS])[1].ids == alone


@pytest.mark.parametrize(
    ("schema", "message"),
    [("{", "not JSON"), ("[1]", "JSON object"), ('{"type": "nonsense"}', "cannot be followed")],
)
def test_what_is_no_schema_is_refused(engine: Engine, schema: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        engine.submit([1], replace(PARAMS, json_schema=schema))
    assert not engine.waiting


def test_without_a_tokenizer_it_is_refused() -> None:
    with pytest.raises(UserError, match="tokenizer"):
        Engine(random_model()).submit([1], PARAMS)


def test_the_extra_is_named(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    engine = Engine(random_model(vocab_size=tokenizer.vocab_size), tokenizer=tokenizer)
    with pytest.raises(UserError, match=r"minimind\[json\]"):
        engine.submit([1], PARAMS)
