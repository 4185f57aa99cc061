"""Whether code does what it should."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from minimind.rl.rewards.checks import code_of
from minimind.rl.rewards.sandbox import passed
from minimind.rl.types import Rollout
from minimind.tokenizer import parse_assistant

RUN_CODE = "read what the sandbox holds off (docs/en/rewards.md), then allow it with --rl.run_code true"


def unit_tests(rollouts: Sequence[Rollout], think: bool) -> list[float]:
    """The share of the tests in the prompt's `gt` that the answer's code passes, in a sandbox: 0 to 1. The code is
    the answer's last Markdown block, or all of it."""

    def share(rollout: Rollout) -> float:
        content = parse_assistant(rollout.text, open_thinking=think)["content"].strip()
        results = passed(code_of(content), tuple(rollout.prompt.gt))
        return sum(results) / max(1, len(results))

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # each waits for a process
        return list(pool.map(share, rollouts))
