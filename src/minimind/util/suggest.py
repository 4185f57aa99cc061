"""The known name that a mistyped one most likely means."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Find the known name most like another; None when none is alike enough (`cutoff`: 1 is the same)."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)), None)


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Ask for the nearest known name, or say `otherwise` where none is near."""
    match = nearest(name, known)
    return f"did you mean {match}?" if match else otherwise
