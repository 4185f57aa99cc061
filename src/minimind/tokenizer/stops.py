"""Where answers end, as the files of a model say beside its tokenizer."""

from __future__ import annotations

from pathlib import Path
from reprlib import repr as shown

from minimind.errors import UserError
from minimind.util.json_files import read_json


def read_stops(directory: Path) -> list[int]:
    """The `eos_token_id`s, a number, a list or none, of a model's generation_config.json and config.json.

    transformers and vLLM end an answer at all of them, and many a chat model's end of turn stands only there.
    """
    found: list[int] = []
    for path in (directory / "generation_config.json", directory / "config.json"):
        value = read_json(path).get("eos_token_id") if path.is_file() else None
        ids = value if isinstance(value, list) else [] if value is None else [value]
        if not all(type(index) is int and 0 <= index < 2**31 for index in ids):
            raise UserError(f"{path}: eos_token_id must be a token's id or a list of them, not {shown(value)}")
        found += ids
    return found
