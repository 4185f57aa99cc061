"""The values that flow through reinforcement learning: prompt -> episode in an environment -> rollout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from minimind.infer.events import StopReason
from minimind.tokenizer.messages import Message


@dataclass(frozen=True)
class Prompt:
    """What a model is asked, and how its answer is verified.

    messages  up to the assistant's turn
    gt        the ground truth, for people to read
    grade     how right the text of an answer is, from 0 to 1
    tools     schemas of the tools that it may call
    source    the skill or the data that it is of
    env       begins an episode; None: a question and one answer to it
    """

    messages: list[Message]
    gt: Sequence[str]
    grade: Callable[[str], float]
    tools: Sequence[dict[str, Any]] = ()
    source: str = ""
    env: Callable[[Prompt], Env] | None = None


@dataclass(frozen=True)
class StepResult:
    """What an answer leads to.

    messages  that the model is told next: results of tools, a user's words
    done      whether the episode is over
    parts     of the reward that this answer earned, by name; added up over the episode
    """

    messages: Sequence[Message] = ()
    done: bool = True
    parts: Mapping[str, float] = field(default_factory=dict)


class Env(Protocol):
    """One episode: a prompt, and what happens after each of the model's answers."""

    prompt: Prompt

    def step(self, answer: Message, text: str, stop_reason: StopReason) -> StepResult:
        """What comes after an answer: its message, and its text with all control strings."""


@dataclass(frozen=True)
class Rollout:
    """One sampled episode, token by token.

    ids       all of it: prompts, what was sampled (with the tokens that ended turns: a model learns to end, too),
              what the environment said
    mask      1 where the model sampled
    logprobs  of the sampled tokens in nats, from the distribution they were sampled from; elsewhere 0
    messages  of the conversation, the model's included
    text      of the model's last turn, without the token that ended it
    parts     of the reward; `reward` is their weighted sum
    group     the number of its prompt: answers of one group are compared with each other
    columns   by name a value for each of `ids`: the reference's log-probabilities, a critic's values
    """

    prompt: Prompt
    ids: list[int]
    mask: list[int]
    logprobs: list[float]
    messages: list[Message]
    text: str
    stop_reason: StopReason
    parts: dict[str, float] = field(default_factory=dict)
    reward: float = 0.0
    group: int = 0
    columns: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """Sampled tokens."""
        return sum(self.mask)


def columns_of_parts(rollouts: Sequence[Rollout]) -> dict[str, list[float]]:
    """By the name of each part of the reward its value in every rollout; 0 in one that did not earn it, for an
    environment may give a part in some episodes only."""
    names = dict.fromkeys(name for one in rollouts for name in one.parts)
    return {name: [one.parts.get(name, 0.0) for one in rollouts] for name in names}
