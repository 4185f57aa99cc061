"""What an answer earns: a few parts, each logged alone, and their weighted sum."""

from __future__ import annotations

from collections.abc import Mapping

from minimind.infer.events import StopReason
from minimind.rl.types import Prompt

WEIGHTS: Mapping[str, float] = {"correct": 1.0, "ended": 0.1}


def reward_parts(prompt: Prompt, text: str, stop_reason: StopReason) -> dict[str, float]:
    """Each 0 or 1: `correct`, the answer is right and complete; `ended`, the model ended it by itself."""
    ended = stop_reason == "stop"
    return {"correct": float(ended and prompt.grade(text)), "ended": float(ended)}


def reward(parts: Mapping[str, float], weights: Mapping[str, float] = WEIGHTS) -> float:
    """The weighted sum; a part without a weight is only logged."""
    return sum(weights.get(name, 0.0) * value for name, value in parts.items())
