"""What every kind of export has in common: what it reports, and the directories that it may replace."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from minimind.errors import UserError
from minimind.model.hf.adapter import find_base, is_adapter, read_settings


@dataclass
class Exported:
    """What was written."""

    architecture: str
    """what computes the model: a class of transformers, or llama.cpp's name of an architecture"""
    bytes: int
    """size of the weights on disk"""
    notes: list[str]
    """what their user should know"""
    files: int = 1
    """number of files with weights"""


def merge_notes(directory: Path) -> list[str]:
    """What is said of a model directory that holds an adapter: the export is its base with the adapter in it."""
    if not is_adapter(directory):
        return []
    rank = read_settings(directory).get("r")
    return [f"the LoRA adapter of rank {rank} was merged into its base, {find_base(directory)}"]


def check_replaceable(out: Path, names: str, marked: str, is_ours: Callable[[str], bool]) -> None:
    """Raise UserError unless `out` is new, empty or an earlier export.

    An export holds only files whose names match `names`, among them `marked`, whose text `is_ours` recognizes.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"{out} is a file; give a directory as --out")
    present = sorted(path.name for path in out.iterdir())
    if foreign := [name for name in present if not re.fullmatch(names, name)]:
        raise UserError(f"{out} holds {foreign[0]}, which is no part of an export; choose another --out")
    if present and marked not in present:
        raise UserError(f"{out} is not empty and no earlier export; choose another --out")
    if present and not is_ours((out / marked).read_text(encoding="utf-8", errors="replace")):
        raise UserError(f"{out / marked} was not written by an export, or edited since; choose another --out")
