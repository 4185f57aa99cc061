"""Pairs of a better and a worse answer, and prompts for reinforcement learning with what a verifier checks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from minimind.tokenizer.messages import Message
from minimind.world.near_misses import near_miss
from minimind.world.rng import Rng
from minimind.world.sample import LANGUAGES, Sample, assistant
from minimind.world.skills import SKILLS, stopping

# The skills whose samples are one question and one answer.
PAIRED = {"arithmetic": 3, "strings": 3, "facts": 3, "translation": 2, "identity": 1, "stopping": 2}
PREFERRED = {**PAIRED, "tools": 1}
VERIFIED = {"arithmetic": 4, "strings": 4, "facts": 3, "translation": 2, "recall": 1}
TASTE = 0.25
"""share of pairs of which both answers are right"""
NEAR_MISSES = 0.8
"""share of wrong answers that are almost right"""
SORRY = {"en": "I do not know. Please ask someone else.", "zh": "我不知道，请去问别人吧。"}


def _worse(rng: Rng, good: Sample) -> Message:
    """A worse answer: mostly one that is almost right, else the right one to another question, the right one said
    over and over, or none at all."""
    answer = good.messages[-1]
    if rng.chance(NEAR_MISSES) and (almost := near_miss(rng, good)) is not None:
        return almost
    kind = rng.random()
    if kind < 0.6:
        while (other := SKILLS[good.skill](rng, good.lang).messages[-1]) == answer:
            pass
        return other
    if kind < 0.9 and answer["content"]:
        return assistant(" ".join([answer["content"]] * rng.between(2, 4)))
    return assistant(SORRY[good.lang])


def _two_lists(rng: Rng, asked: Sample) -> list[Message]:
    """Two right lists of the things that are asked for, the better one from farther ahead in their table: there the
    best-known things stand."""
    starts = sorted(rng.several(range(len(asked.gt)), 2))
    lists = [[asked.gt[(start + i) % len(asked.gt)] for i in range(asked.count)] for start in starts]
    return [assistant(stopping.COMMA[asked.lang].join(things)) for things in lists]


def preferences(seed: int) -> Iterator[dict[str, Any]]:
    """An endless stream of `{"chosen": […], "rejected": […]}`.

    Most of it a model that was taught the world knows already. What is new to it is a taste: see `_two_lists`.
    """
    rng = Rng(seed, "preferences")
    while True:
        lang = rng.pick(LANGUAGES)
        if rng.chance(TASTE):
            good = stopping.things(rng, lang)
            better, worse = _two_lists(rng, good)
        else:
            good = SKILLS[rng.weighted(PREFERRED)](rng, lang)
            better, worse = good.messages[-1], _worse(rng, good)
        yield {side: [*good.messages[:-1], answer] for side, answer in (("chosen", better), ("rejected", worse))}


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
