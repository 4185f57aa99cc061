"""Code that a model wrote, run in a process of its own: no network, little time and memory, an empty folder."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

from minimind.rl.rewards import sandbox_tests
from minimind.tools.python_file import call
from minimind.tools.tool import Limits, ToolError

LIMITS = Limits(seconds=5.0, memory=1 << 29, characters=2**20, isolated=True)


@lru_cache(2**14)  # an answer is often sampled again, and judged by more than one reward
def passed(code: str, tests: tuple[str, ...], limits: Limits = LIMITS) -> tuple[bool, ...]:
    """Which of the tests hold after the code has run. A test is code, such as `assert double(2) == 4`; it fails by
    raising. None holds where the code raises, ends the process, or needs more than `limits`."""
    arguments = {"code": code, "tests": list(tests)}
    try:
        found = json.loads(call(Path(sandbox_tests.__file__), limits, "run_tests", arguments))
    except (ToolError, ValueError):
        return (False,) * len(tests)
    return tuple(found)
