"""What every skill makes: messages that end with the right answer, and how to check an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from minimind.tokenizer.messages import Message

LANGUAGES = ("zh", "en")


def user(content: str) -> Message:
    return {"role": "user", "content": content}


def assistant(content: str, **extra: str) -> Message:
    """`extra` may hold `reasoning_content` or `tool_calls` (JSON text)."""
    return {"role": "assistant", "content": content, **extra}


@dataclass(frozen=True)
class Sample:
    """A conversation whose last message is the assistant's right answer.

    check  "answer": the answer is one of `gt`, or one short sentence that ends in one
           "exact": the answer is one of `gt`
           "states": the answer contains all of `gt`, as whole words and numbers
           "tool_call": the answer calls the tool named in gt[0] (JSON text) with the same arguments
           "list": the answer is `count` different members of `gt`
           "sentence": the answer is one sentence that contains all of `gt`
    calls  of tools, each with its result (JSON texts), that lead to the answer; they do not stand in `messages`
    """

    skill: str
    lang: str
    messages: list[Message]
    gt: list[str]
    check: str = "answer"
    count: int = 0
    calls: Sequence[tuple[str, str]] = ()

    @property
    def demonstration(self) -> list[Message]:
        """The conversation with its calls and their results."""
        *asked, answer = self.messages
        for call, result in self.calls:
            asked += [assistant("", tool_calls=f"[{call}]"), {"role": "tool", "content": result}]
        return [*asked, answer]


@dataclass(frozen=True)
class Question:
    """A held-out question: the published RL schema (last assistant turn empty) and what a right answer is."""

    skill: str
    lang: str
    conversations: list[Message]
    gt: list[str]
    check: str = "answer"
    count: int = 0
    calls: Sequence[tuple[str, str]] = ()

    @classmethod
    def of(cls, sample: Sample) -> Question:
        conversation = [*sample.messages[:-1], assistant("")]
        return cls(sample.skill, sample.lang, conversation, sample.gt, sample.check, sample.count, sample.calls)

    @property
    def prompt(self) -> list[Message]:
        """The messages before the empty assistant turn."""
        return self.conversations[:-1]

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "calls"}
