"""Pairs of a better and a worse answer, and prompts for reinforcement learning with what a verifier checks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from minimind.world.rng import Rng
from minimind.world.sample import LANGUAGES, Sample, assistant
from minimind.world.skills import SKILLS

# The skills whose samples are one question and one answer.
PAIRED = {"arithmetic": 3, "strings": 3, "facts": 3, "translation": 2, "identity": 1, "stopping": 2}
VERIFIED = {"arithmetic": 4, "strings": 4, "facts": 3, "translation": 2, "recall": 1}
SORRY = {"en": "I do not know. Please ask someone else.", "zh": "我不知道，请去问别人吧。"}


def _worse(rng: Rng, good: Sample) -> str:
    """A worse answer: the right answer to another question, the right one said over and over, or none at all."""
    answer = good.messages[-1]["content"]
    kind = rng.random()
    if kind < 0.6:
        while True:
            other = SKILLS[good.skill](rng, good.lang).messages[-1]["content"]
            if other != answer:
                return other
    return " ".join([answer] * rng.between(2, 4)) if kind < 0.9 else SORRY[good.lang]


def preferences(seed: int) -> Iterator[dict[str, Any]]:
    """An endless stream of `{"chosen": […], "rejected": […]}`."""
    rng = Rng(seed, "preferences")
    while True:
        good = SKILLS[rng.weighted(PAIRED)](rng, rng.pick(LANGUAGES))
        yield {"chosen": good.messages, "rejected": [*good.messages[:-1], assistant(_worse(rng, good))]}


def rl_prompts(seed: int) -> Iterator[dict[str, Any]]:
    """An endless stream of conversations whose last turn is empty, with `gt`, the skill as `source`, and
    the `check` that tells a right answer (see sample.Sample)."""
    rng = Rng(seed, "rl")
    while True:
        one = SKILLS[rng.weighted(VERIFIED)](rng, rng.pick(LANGUAGES))
        yield {
            "conversations": [*one.messages[:-1], assistant("")],
            "gt": one.gt,
            "source": one.skill,
            "check": one.check,
        }
