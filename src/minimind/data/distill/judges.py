"""Who says which of several answers is the best: a reward model, or a stronger model that is asked for a mark."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from minimind.api import Model
from minimind.data.distill.teachers import Teacher, Usage
from minimind.infer.sampler import SamplingParams
from minimind.tokenizer.messages import Message

QUESTION = """\
Below is a conversation, and a possible answer to its last message. How good is the answer: right, helpful, clear,
in the language of the question? Say nothing but one whole number from 1 (useless) to 10 (could not be better).

[conversation]
{conversation}

[answer]
{answer}

[mark from 1 to 10]
"""


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
        said = "\n".join(f"{message['role']}: {message['content']}" for message in messages)
        question = QUESTION.format(conversation=said, answer=answer["content"])
        params = SamplingParams(temperature=0.0, top_p=1.0, max_tokens=16)
        given = self.teacher.ask([{"role": "user", "content": question}], params, think=False)
        usage.add(given.usage)
        found = re.search(r"\d+(\.\d+)?", given.message["content"])
        return float(found[0]) if found and 1 <= float(found[0]) <= 10 else None
