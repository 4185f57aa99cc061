"""Arguments checked against a JSON schema, as far as tools use it: what is wrong comes out as one clause.

Keywords that are not known here (`format`, `pattern`, …) are not checked; the tool itself says what it cannot use.
"""

from __future__ import annotations

import json
import math
from typing import Any

TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}
BOUNDS = (
    ("minimum", "at least", lambda value, bound: value >= bound),
    ("maximum", "at most", lambda value, bound: value <= bound),
    ("exclusiveMinimum", "above", lambda value, bound: value > bound),
    ("exclusiveMaximum", "below", lambda value, bound: value < bound),
)


def problem(value: Any, schema: Any, name: str = "arguments", root: Any = None) -> str | None:
    """What is wrong with the value, naming the place; None if it fits.

    root  where `$ref` looks; the schema itself at the beginning
    """
    root = schema if root is None else root
    if not isinstance(schema, dict):  # true and false are schemas too
        return f"{name} is not allowed" if schema is False else None
    if "$ref" in schema:
        return problem(value, resolve(schema["$ref"], root), name, root)
    wrong = _wrong_type(value, schema, name) or _wrong_value(value, schema, name)
    if wrong:
        return wrong
    for part in schema.get("allOf", ()):
        if wrong := problem(value, part, name, root):
            return wrong
    for choice in ("anyOf", "oneOf"):
        wrongs = [problem(value, part, name, root) for part in schema.get(choice, ())]
        if wrongs and None not in wrongs:
            return " or ".join(dict.fromkeys(filter(None, wrongs)))
    if isinstance(value, dict):
        return _wrong_member(value, schema, name, root)
    if isinstance(value, list):
        checked = (problem(item, schema.get("items", True), f"{name}[{i}]", root) for i, item in enumerate(value))
        return next(filter(None, checked), None)
    return None


def resolve(reference: str, root: Any) -> Any:
    """What a reference within a document (`#/a/b`) points to; ValueError where there is nothing."""
    here = root
    beginning, *path = reference.split("/")
    for key in path:
        key = key.replace("~1", "/").replace("~0", "~")
        if not isinstance(here, dict) or key not in here:
            raise ValueError(f"there is no {reference} in it")
        here = here[key]
    if beginning != "#":
        raise ValueError(f"{reference} lies in another document")
    return here


def _wrong_type(value: Any, schema: dict[str, Any], name: str) -> str | None:
    wanted = schema.get("type", [])
    wanted = [wanted] if isinstance(wanted, str) else wanted
    wanted = [*wanted, "null"] if schema.get("nullable") else wanted
    if wanted and not any(_is(value, kind) for kind in wanted):
        return f"{name} must be {' or '.join(wanted)}, not {_short(value)}"
    return None


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if isinstance(value, float) and not math.isfinite(value):  # Python reads NaN and 1e999 as numbers
        return False
    return isinstance(value, TYPES.get(kind, (object,)))


def _wrong_value(value: Any, schema: dict[str, Any], name: str) -> str | None:
    choices = [schema["const"]] if "const" in schema else schema.get("enum")
    if choices is not None and value not in choices:
        return f"{name} must be {' or '.join(map(_short, choices))}, not {_short(value)}"
    if isinstance(value, int | float):
        for keyword, words, fits in BOUNDS:
            if not isinstance(schema.get(keyword), bool | None) and not fits(value, schema[keyword]):
                return f"{name} must be {words} {schema[keyword]}, not {_short(value)}"
    if isinstance(value, str | list):
        unit = "characters" if isinstance(value, str) else "items"
        least, most = ("minLength", "maxLength") if isinstance(value, str) else ("minItems", "maxItems")
        if len(value) < schema.get(least, 0):
            return f"{name} must have at least {schema[least]} {unit}"
        if len(value) > schema.get(most, len(value)):
            return f"{name} must have at most {schema[most]} {unit}"
    return None


def _wrong_member(value: dict[str, Any], schema: dict[str, Any], name: str, root: Any) -> str | None:
    known = schema.get("properties", {})
    missing = [key for key in schema.get("required", ()) if key not in value]
    if missing:
        return f"{name} must have {', '.join(missing)}"
    for key, item in value.items():
        if key not in known and schema.get("additionalProperties") is False:
            return f"there is no argument {_short(key)}; there {_are(list(known))}"
        inside = known[key] if key in known else schema.get("additionalProperties", True)
        if wrong := problem(item, inside, key if name == "arguments" else f"{name}.{key}", root):
            return wrong
    return None


def _are(names: list[str]) -> str:
    return f"{'is' if len(names) == 1 else 'are'} {', '.join(names) or 'none'}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"
