"""What is remembered from one rollout to the next: what prompts earned, and the price of leaving the reference.

Both are numbers on the host, the same in all processes, and part of a checkpoint.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from minimind.rl.types import Prompt

HALF_LIFE = 0.06  # nats per token that the policy moves until what was seen before counts half
KEPT = 0.875, 0.96  # least and most of what was seen that is kept at each visit


class Values:
    """The reward to be expected of a prompt, by what answers to it earned: a baseline that needs neither a group
    nor a critic.

    Single-stream policy optimization (Xu & Ding 2025, arXiv:2509.13232). Its Beta(α, β) of right
    and wrong answers has the mean α / (α + β); kept here as that mean and α + β, the number of answers that it
    stands for, it is right for any reward:

        number ← ρ · number + 1        mean ← mean + (reward − mean) / number        ρ = 2^(−KL / half-life)

    What was seen counts the less the further the policy has moved since, by its own divergence. A prompt that was
    never seen begins with what its source (its skill) earned so far: a source has such a mean, too, and begins
    with its first rewards. The paper begins with answers that the start model gave.
    """

    def __init__(self) -> None:
        self.moved = 0.0
        self.seen: dict[str, tuple[float, float, float]] = {}
        """mean, number and `moved` at the last visit, by prompt and by source"""

    def advantages(self, prompts: Sequence[Prompt], rewards_R: np.ndarray) -> np.ndarray:
        """(R,): each reward minus what was expected before, which it then changes."""
        of_source = defaultdict(list)
        for prompt, reward in zip(prompts, rewards_R.tolist(), strict=True):
            of_source[prompt.source].append(reward)
        for source, rewards in of_source.items():
            self.seen.setdefault(_source_key(source), (float(np.mean(rewards)), 0.0, self.moved))
        expected = [self.expected(prompt) for prompt in prompts]
        for prompt, mean, reward in zip(prompts, expected, rewards_R.tolist()):
            self.seen.setdefault(_key(prompt), (mean, 1 / (1 - KEPT[0]), self.moved))
            for key in (_key(prompt), _source_key(prompt.source)):
                self._see(key, reward)
        return rewards_R - np.array(expected)

    def expected(self, prompt: Prompt) -> float:
        return self.seen.get(_key(prompt), self.seen[_source_key(prompt.source)])[0]

    def _see(self, key: str, reward: float) -> None:
        mean, number, moved = self.seen[key]
        number = number * float(np.clip(2 ** (-(self.moved - moved) / HALF_LIFE), *KEPT)) + 1
        self.seen[key] = mean + (reward - mean) / number, number, self.moved

    def state_dict(self) -> dict[str, Any]:
        return {"moved": self.moved, "seen": dict(self.seen)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.moved, self.seen = state["moved"], dict(state["seen"])


def _key(prompt: Prompt) -> str:
    return hashlib.sha256(json.dumps(prompt.messages, sort_keys=True).encode()).hexdigest()[:16]


def _source_key(source: str) -> str:
    return f"all of {source}"


class AdaptiveWeight:
    """The weight of the KL divergence from the reference, moved until the divergence is what it should be.

    Ziegler et al. 2019 (arXiv:1909.08593, section 2.2): the weight grows by up to a fiftieth a rollout while the
    divergence is above its target, and falls while it is below.
    """

    def __init__(self, weight: float, target: float) -> None:
        self.weight, self.target = weight, target

    def update(self, kl: float) -> None:
        self.weight *= 1 + 0.1 * float(np.clip(kl / self.target - 1, -0.2, 0.2))

    def state_dict(self) -> dict[str, Any]:
        return {"weight": self.weight}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.weight = state["weight"]
