"""Arguments against schemas: what fits, and what is said where they do not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minimind.tools.arguments import problem

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")

OBJECT = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 5},
        "days": {"type": "integer", "minimum": 1, "maximum": 7},
        "unit": {"enum": ["c", "f"]},
        "near": {"type": "array", "items": {"$ref": "#/$defs/place"}, "maxItems": 2},
        "size": {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}]},
    },
    "required": ["city"],
    "additionalProperties": False,
    "$defs": {"place": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}},
}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"city": "Rome", "days": 7, "unit": "c", "near": [{"x": 1}], "size": None}, None),
        ({}, "arguments must have city"),
        ([], "arguments must be object, not []"),
        (None, "arguments must be object, not null"),
        ({"city": 5}, "city must be string, not 5"),
        ({"city": "Rome", "town": 1}, 'there is no argument "town"; there are city, days, unit, near, size'),
        ({"city": "Vienna"}, "city must have at most 5 characters"),
        ({"city": "Rome", "days": 0}, "days must be at least 1, not 0"),
        ({"city": "Rome", "days": 8}, "days must be at most 7, not 8"),
        ({"city": "Rome", "days": True}, "days must be integer, not true"),
        ({"city": "Rome", "days": 2.5}, "days must be integer, not 2.5"),
        ({"city": "Rome", "days": "2"}, 'days must be integer, not "2"'),
        ({"city": "Rome", "unit": "k"}, 'unit must be "c" or "f", not "k"'),
        ({"city": "Rome", "near": [{"x": 1}, {}]}, "near[1] must have x"),
        ({"city": "Rome", "near": [{"x": "1"}]}, 'near[0].x must be number, not "1"'),
        ({"city": "Rome", "near": [1, 2, 3]}, "near must have at most 2 items"),
        ({"city": "Rome", "size": 0}, "size must be above 0, not 0 or size must be null, not 0"),
        ({"city": "Rome", "size": float("nan")}, "size must be number, not NaN or size must be null, not NaN"),
    ],
)
def test_what_is_wrong_is_said(value: Any, said: str | None) -> None:
    assert problem(value, OBJECT) == said


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from([0.5, "a", "abcdefg", "c"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["city", "days", "unit", "near", "size", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)
schemas = st.recursive(
    st.sampled_from(
        [
            True,
            {},
            OBJECT,
            *({"type": kind} for kind in ("string", "integer", "number", "boolean", "null", "array", "object")),
            {"type": ["string", "null"]},
            {"const": "a"},
            {"minimum": 0, "exclusiveMaximum": 5},
            {"minLength": 2},
            {"minItems": 1},
        ]
    ),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=2).map(lambda parts: {"anyOf": parts}),
        st.lists(inner, min_size=1, max_size=2).map(lambda parts: {"allOf": parts}),
        inner.map(lambda part: {"type": "array", "items": part}),
        inner.map(
            lambda part: {"properties": {"x": part}, "required": ["x"], "additionalProperties": {"type": "null"}}
        ),
    ),
    max_leaves=4,
)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(schemas, json_values)
def test_it_agrees_with_jsonschema(schema: Any, value: Any) -> None:
    if isinstance(schema, dict) and "$defs" not in schema:
        schema = {**schema, "$defs": OBJECT["$defs"]}
    wanted = jsonschema.Draft202012Validator(schema).is_valid(value)
    assert (problem(value, schema) is None) == wanted


def test_a_reference_to_nowhere_is_an_error_of_the_schema() -> None:
    with pytest.raises(ValueError, match="there is no #/nowhere in it"):
        problem(1, {"$ref": "#/nowhere"})
