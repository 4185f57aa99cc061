"""JSON read in one way: strictly, and what is wrong with a file is said in a sentence."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from minimind.errors import UserError
from minimind.util.files import check_input

MAX_DEPTH = 100  # of arrays and objects in each other: far from Python's own limit, so that any walk is safe

_HALF = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")  # where half of a surrogate pair may be


def loads(text: str) -> Any:
    """Read JSON that says the same to everybody who reads it.

    Raises ValueError for what is no JSON, and for what `json.loads` lets pass while others refuse it or read it
    otherwise: NaN and Infinity, a number beyond a float, an integer of thousands of digits, a key that stands
    twice, half of a surrogate pair, and nesting beyond MAX_DEPTH.
    """
    try:
        value = _decoder.decode(text)
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        if "int_max_str_digits" in str(error):
            raise ValueError("an integer of thousands of digits") from None
        raise
    if text.count("{") + text.count("[") > MAX_DEPTH and _depth_exceeds(value, MAX_DEPTH):
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    if _HALF.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("half of a surrogate pair: an escape like \\ud83d without its other half") from None
    return value


def _constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"the number {digits[:20]} is too large")
    return number


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice in one object")
    return value


_decoder = json.JSONDecoder(parse_constant=_constant, parse_float=_float, object_pairs_hook=_object)


def _depth_exceeds(value: Any, depth: int) -> bool:
    level = [value]
    for _ in range(depth + 1):
        level = [outer for outer in level if isinstance(outer, dict | list)]
        if not level:
            return False
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]
    return True


def read_json(path: Path, missing: str = "check the path") -> dict[str, Any]:
    """Read a file that holds one JSON object; `missing` says what to do where there is no such file.

    Raises UserError for a file that does not exist, is not JSON in UTF-8, or holds something else.
    """
    check_input(path, missing)
    try:
        content = loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # also for bytes that are no UTF-8
        raise UserError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is no JSON object")
    return content


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read the objects of a JSON lines file, passing over lines that are none (cut short by a kill)."""
    objects = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else []:
        try:
            value = loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            objects.append(value)
    return objects
