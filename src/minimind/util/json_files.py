"""JSON files read in one way: what is wrong with one is said in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from minimind.errors import UserError


def read_json(path: Path, missing: str = "check the path") -> dict[str, Any]:
    """Read a file that holds one JSON object; `missing` says what to do where there is no such file.

    Raises UserError for a file that does not exist, is not JSON in UTF-8, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; {missing}") from None
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
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            objects.append(value)
    return objects
