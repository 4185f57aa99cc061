"""Prompts of the embedded world, made without end, and held-out questions to score by.

What is held out is decided by a question's own content, so the two never meet whatever their seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from minimind.errors import UserError
from minimind.eval.skills import grade
from minimind.rl.envs.tools import use_tools
from minimind.rl.types import Prompt
from minimind.tokenizer.messages import normalize
from minimind.world.questions import questions
from minimind.world.rng import Rng
from minimind.world.sample import LANGUAGES, Question
from minimind.world.skills import SKILLS, chains, reasoning

ARITHMETIC = ("arithmetic",)
ASKED = {**SKILLS, **reasoning.SKILLS, **chains.SKILLS}


@dataclass(frozen=True)
class WorldPrompts:
    """Of some of the world's skills."""

    skills: Sequence[str]
    think: bool = False

    def training(self, seed: int, iteration: int, count: int) -> list[Prompt]:
        return training_prompts(seed, iteration, count, self.skills, self.think)

    def held_out(self, count: int) -> list[Prompt]:
        return [to_prompt(question, self.think) for question in held_out_questions(0, count, self.skills)]


def training_prompts(
    seed: int, step: int, count: int, skills: Sequence[str] = ARITHMETIC, think: bool = False
) -> list[Prompt]:
    """`count` prompts for a step, which depend on seed and step alone.

    think  whether the answers begin inside a thought
    """
    rng = Rng(seed, "rl prompts", step)
    samples = (ASKED[rng.pick(skills)](rng, rng.pick(LANGUAGES)) for _ in range(count))
    return [to_prompt(Question.of(sample), think) for sample in samples]


def held_out_questions(seed: int, per_skill: int, skills: Sequence[str] = ARITHMETIC) -> list[Question]:
    """`per_skill` different questions of each skill that training never asks, half of them in each language."""
    if unknown := [skill for skill in skills if skill not in ASKED]:
        raise UserError(f"rl.skills: the world has no skill {unknown[0]}; it has {', '.join(ASKED)}")
    return questions(seed, per_skill, {skill: ASKED[skill] for skill in skills})


def to_prompt(question: Question, think: bool = False) -> Prompt:
    """The question as a prompt; where its answer is found by calling tools, these can be called."""
    check = partial(grade, question, open_thinking=think)
    prompt = Prompt(question.prompt, question.gt, check, source=question.skill)
    if not question.calls:
        return prompt
    _, tools = normalize(question.prompt)
    return replace(prompt, tools=tools or (), env=partial(use_tools, calls=question.calls))
