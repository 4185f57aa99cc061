"""Answers that must be JSON, from a model that wants to say anything but that."""

import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.random_models import random_model

from minimind.errors import UserError
from minimind.infer import constraint
from minimind.infer.constraint import SchemaError
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


def test_no_property_is_invented(engine: Engine, tokenizer: Tokenizer) -> None:
    """A schema that says nothing of others allows them, but a small model would name them without end."""
    inner = {"type": "object", "properties": {"properties": {"type": "boolean"}}, "required": ["properties"]}
    schema = {
        "type": "object",
        "$defs": {"Inner": inner},
        "properties": {"a": {"enum": [1, 2]}, "inner": {"$ref": "#/$defs/Inner"}},
        "required": ["a", "inner"],
    }
    params = [replace(PARAMS, json_schema=json.dumps(schema), seed=seed) for seed in range(8)]
    for completion in engine.generate([[1, 5, 9]] * 8, params):
        assert completion.stop_reason == "stop"
        value = json.loads(tokenizer.decode(completion.ids))
        assert set(value) == {"a", "inner"}
        assert set(value["inner"]) == {"properties"}


def test_schemas_that_share_an_object_stay_open(engine: Engine, tokenizer: Tokenizer) -> None:
    parts = [{"properties": {name: {"const": 1}}, "required": [name]} for name in "ab"]
    schema = {"type": "object", "allOf": parts, "additionalProperties": {"const": 2}}
    for part in (schema, {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a", "b"]}):
        assert constraint._rule(part).endswith(json.dumps(part)[1:])


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
    [
        ("{", "not JSON"),
        ("[1]", "JSON object"),
        ('{"type": "nonsense"}', "cannot be followed"),
        ('{"const": NaN}', "NaN is no JSON"),
        ('{"type": "number", "minimum": 1e999}', "too large"),
        ('{"type": "integer", "minimum": 1' + "0" * 400 + "}", "cannot be followed: .*out of range"),
        ('{"items": ' * 150 + "{}" + "}" * 150, "nested"),
        (json.dumps({"properties": {f"p{i}": {"pattern": f"^[a-z]{{3,9}}{i}$"} for i in range(3000)}}), "followed"),
        (json.dumps({"enum": ["x" * 3000] * 100}), "more than 262144 characters"),
    ],
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


def test_a_schema_without_end_costs_its_own_request_some_seconds(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every pair of the patterns is compared when they are compiled; steps go on meanwhile."""
    monkeypatch.setattr(constraint, "COMPILE_SECONDS", 1.5)
    patterns = {"patternProperties": {f"^p{i}[a-z]+$": {"type": "string"} for i in range(3000)}}
    other = engine.submit([1], replace(PARAMS, json_schema=None, stop_ids=(), max_tokens=10**6))
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(engine.submit, [1], replace(PARAMS, json_schema=json.dumps(patterns)))
        while not asking.done() and len(other.ids) < 10:
            engine.step()
        assert not asking.done()
        engine.cancel([other])
        with pytest.raises(SchemaError, match=r"not compiled within 1.5 seconds"):
            asking.result()


def test_an_end_inside_the_json_is_no_stop(engine: Engine, tokenizer: Tokenizer) -> None:
    """Whatever a stop token spells, "stop" means whole JSON."""
    brace = tokenizer.encode("}")
    params = [replace(PARAMS, stop_ids=tuple(range(3, 300)), seed=seed) for seed in range(8)]
    params += [replace(PARAMS, stop_ids=tuple(brace), seed=seed) for seed in range(8)]
    assert {c.stop_reason for c in engine.generate([[1, 5, 9]] * 16, params)} == {"length"}


TOOLS = [
    {"type": "function", "function": {"name": "clock"}},
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "$defs": {"city": {"enum": ["Rome", "Paris"]}},
                "properties": {
                    "city": {"$ref": "#/$defs/city"},
                    "days": {"type": "array", "items": {"enum": [1, 2]}},
                },
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    },
]
CALLING = SamplingParams(temperature=1.0, max_tokens=250, offered_tools=json.dumps(TOOLS[1:]), stop_ids=())


def calls_in(text: str) -> list[dict[str, Any]]:
    return [json.loads(call) for call in re.findall(r"<tool_call>(.*?)</tool_call>", text, re.DOTALL)]


def check_call(call: dict[str, Any]) -> None:
    assert list(call) == ["name", "arguments"]
    assert call["name"] == "weather"
    assert call["arguments"]["city"] in ("Rome", "Paris")
    assert call["arguments"].keys() <= {"city", "days"}


def test_a_call_that_the_model_begins_is_one_of_the_tools(engine: Engine, tokenizer: Tokenizer) -> None:
    """Before and after it the answer is as free as ever."""
    begins = tokenizer.reserved["<tool_call>"]
    params = [replace(CALLING, logit_bias=((begins, 12.0),), seed=seed) for seed in range(6)]
    for one, completion in zip(params, engine.generate([[1, 5, 9]] * 6, params)):
        calls = calls_in(tokenizer.decode(completion.ids, skip_special=False))
        assert len(calls) > 1
        for call in calls:
            check_call(call)
        free = replace(one, offered_tools=None, max_tokens=20)
        before = completion.ids.index(begins) + 1
        assert engine.generate([[1, 5, 9]], free)[0].ids[:before] == completion.ids[: min(before, 20)]


def test_a_call_that_the_prompt_opens_is_one_of_the_tools(engine: Engine, tokenizer: Tokenizer) -> None:
    params = [replace(CALLING, open_call=True, seed=seed) for seed in range(6)]
    for completion in engine.generate([[1, 5, 9]] * 6, params):
        assert completion.stop_reason == "stop"
        check_call(json.loads(tokenizer.decode(completion.ids)))


def test_an_answer_may_be_json_or_calls(engine: Engine, tokenizer: Tokenizer) -> None:
    begins, stops = tokenizer.reserved["<tool_call>"], (tokenizer.eos_id,)
    both = replace(CALLING, json_schema=json.dumps(SCHEMA), stop_ids=stops)
    for seed, bias in ((0, -100.0), (1, 100.0)):
        params = replace(both, logit_bias=((begins, bias), (tokenizer.eos_id, 100.0)), seed=seed)
        completion = engine.generate([[1, 5, 9]], params)[0]
        text = tokenizer.decode(completion.ids, skip_special=False)
        assert completion.stop_reason == "stop"
        if bias > 0:
            check_call(*calls_in(text))
        else:
            check(json.loads(text))


def test_tools_that_cannot_be_followed_are_held_to_their_names(engine: Engine, tokenizer: Tokenizer) -> None:
    odd = [{"name": "odd", "parameters": {"type": "object", "propertyNames": {"pattern": "a"}}}]
    begins = tokenizer.reserved["<tool_call>"]
    params = replace(CALLING, offered_tools=json.dumps(odd), logit_bias=((begins, 100.0),), max_tokens=20)
    text = tokenizer.decode(engine.generate([[1]], params)[0].ids, skip_special=False)
    assert re.match(r'<tool_call>\s*{\s*"name"\s*:\s*"odd"', text)
    with pytest.raises(SchemaError, match="propertyNames"):
        engine.submit([1], replace(params, open_call=True))
