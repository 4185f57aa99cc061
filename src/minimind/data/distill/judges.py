"""Who says which of several answers is the best: a reward model, or a stronger model that is asked for a mark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from minimind.api import Model
from minimind.data.distill.teachers import Teacher, Usage
from minimind.infer.marks import MARKING, ask_for_mark, read_mark
from minimind.tokenizer.messages import Message


class Judge(Protocol):
    """requests  that a score takes"""

    requests: int

    @property
    def name(self) -> str: ...

    def score(self, messages: Sequence[Message], answer: Message, usage: Usage) -> float | None:
        """The higher the better; None where it has no opinion. What it cost is added to `usage`."""


@dataclass
class RewardJudge:
    """A reward model (`minimind train reward`)."""

    model: Model
    name: str
    requests: int = 0

    def score(self, messages: Sequence[Message], answer: Message, usage: Usage) -> float:
        return self.model.reward([*messages, answer])


@dataclass
class MarkingJudge:
    """A model that is asked for a mark from 1 to 10 (Zheng et al. 2023, arXiv:2306.05685, 3.1)."""

    teacher: Teacher
    requests: int = 1

    @property
    def name(self) -> str:
        return self.teacher.name

    def score(self, messages: Sequence[Message], answer: Message, usage: Usage) -> float | None:
        question = ask_for_mark(messages, answer["content"])
        given = self.teacher.ask([{"role": "user", "content": question}], MARKING, think=False)
        usage.add(given.usage)
        return read_mark(given.message["content"])
