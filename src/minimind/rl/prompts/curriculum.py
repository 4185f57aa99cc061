"""Ask what can be learned: prompts that are answered rightly about half the time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from minimind.rl.types import Prompt, Rollout

MEMORY = 0.9
"""share of a success rate that is kept when prompts like these are asked again"""
LEAST = 0.02
"""weight of prompts that are always, or never, answered rightly: asked now and then, for that may change"""


class Curriculum:
    """The model's own success rate on prompts of each kind, and a choice by it.

    Where the rate is p, the answers to a prompt differ most, and teach most, at a half: their variance is p(1 − p).
    Prompts are drawn with that weight. A kind is a source (a skill, a file) and the size of the ground truth, the
    number of its digits or about that of its characters. What was never asked counts as answered half the time.
    """

    def __init__(self) -> None:
        self.rates: dict[str, float] = {}

    def choose(self, candidates: Sequence[Prompt], count: int, rng: np.random.Generator) -> list[Prompt]:
        """So many of the candidates, each once at most, in their order."""
        weights = np.array([self.weight(prompt) for prompt in candidates])
        chosen = rng.choice(len(candidates), size=count, replace=False, p=weights / weights.sum())
        return [candidates[at] for at in np.sort(chosen)]

    def weight(self, prompt: Prompt) -> float:
        rate = self.rates.get(kind(prompt), 0.5)
        return LEAST + rate * (1 - rate)

    def update(self, rollouts: Sequence[Rollout]) -> None:
        """Move each kind's rate towards that of these answers, which are of one rollout."""
        found = defaultdict(list)
        for one in rollouts:
            right = one.stop_reason == "stop" and one.prompt.grade(one.text) == 1
            found[kind(one.prompt)].append(float(right))
        for name, grades in found.items():
            rate = sum(grades) / len(grades)
            self.rates[name] = MEMORY * self.rates.get(name, rate) + (1 - MEMORY) * rate

    def state_dict(self) -> dict[str, Any]:
        return {"rates": dict(self.rates)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rates = dict(state.get("rates", {}))


def kind(prompt: Prompt) -> str:
    """Of which difficulty a prompt is, as far as its ground truth tells."""
    right = prompt.gt[0] if prompt.gt else ""
    digits = sum(character.isdigit() for character in right)
    return f"{prompt.source} {digits or len(right).bit_length()}"
