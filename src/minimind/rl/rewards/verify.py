"""Whether an answer is right, and how much of it."""

from __future__ import annotations

from collections.abc import Sequence

from minimind.eval.skills import normal
from minimind.rl.rewards.checks import as_number, last_number
from minimind.rl.types import Rollout
from minimind.tokenizer import parse_assistant


def correct(rollouts: Sequence[Rollout]) -> list[float]:
    """Whether the answer is right, by its prompt's check, and the model ended it: 0 to 1."""
    return [float(one.prompt.grade(one.text)) if one.stop_reason == "stop" else 0.0 for one in rollouts]


def ended(rollouts: Sequence[Rollout]) -> list[float]:
    """Whether the model ended the answer by itself: 0 or 1."""
    return [float(one.stop_reason == "stop") for one in rollouts]


def partial(rollouts: Sequence[Rollout], think: bool) -> list[float]:
    """How much of the ended answer is right: 1 for a right one, else `resemblance` to the ground truth."""
    found = []
    for one in rollouts:
        if one.stop_reason != "stop":
            found.append(0.0)
            continue
        said = parse_assistant(one.text, open_thinking=think)
        content = said["content"] or str(said["tool_calls"] or "")
        near = max((resemblance(content, right) for right in one.prompt.gt), default=0.0)
        found.append(max(float(one.prompt.grade(one.text)), near))
    return found


def resemblance(answer: str, right: str) -> float:
    """From 0 to 1. Of a number the share of right digits, from the right, of the longer of it and the answer's last
    number: digits are right from the units on, as they are worked out. Of text the longest part that both have in
    common, as a share of the longer of the two's (an answer of more than twice the length has surely more)."""
    if as_number(right) is not None:
        found = last_number(answer)
        if found is None:
            return 0.0
        a, b = found.replace(",", ""), right.strip().replace(",", "")
        return sum(x == y for x, y in zip(reversed(a), reversed(b))) / max(len(a), len(b))
    a, b = normal(answer), normal(right)
    return longest_common_part(a, b) / max(len(b), len(a) // 2, 1)


def longest_common_part(a: str, b: str) -> int:
    """The length of the longest text that stands in both."""
    longest, before = 0, [0] * (len(b) + 1)
    for x in a:
        now = [0] * (len(b) + 1)
        for at, y in enumerate(b):
            if x == y:
                now[at + 1] = before[at] + 1
                longest = max(longest, now[at + 1])
        before = now
    return longest
