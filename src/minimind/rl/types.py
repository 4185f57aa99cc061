"""The values that flow through reinforcement learning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from minimind.infer.events import StopReason
from minimind.tokenizer.messages import Message


@dataclass(frozen=True)
class Prompt:
    """What a model is asked, and how its answer is verified.

    messages  up to the assistant's turn
    gt        the ground truth, for people to read
    grade     whether the text of an answer is right
    """

    messages: list[Message]
    gt: Sequence[str]
    grade: Callable[[str], bool]


@dataclass(frozen=True)
class Rollout:
    """One sampled answer.

    ids       the sampled tokens, with the one that ended the answer: the model learns to end, too
    logprobs  of each of `ids` in nats, from the distribution it was sampled from
    text      of the answer, without the token that ended it
    reward    the weighted sum of `parts`
    group     the number of its prompt: answers of one group are compared with each other
    """

    prompt_ids: list[int]
    ids: list[int]
    logprobs: list[float]
    text: str
    stop_reason: StopReason
    reward: float
    parts: dict[str, float]
    group: int
