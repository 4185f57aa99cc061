"""A question and one answer to it."""

from __future__ import annotations

from dataclasses import dataclass

from minimind.infer.events import StopReason
from minimind.rl.types import Env, Prompt, StepResult
from minimind.tokenizer.messages import Message


@dataclass
class SingleTurn:
    """The episode ends with the first answer; the rewards judge it."""

    prompt: Prompt

    def step(self, answer: Message, text: str, stop_reason: StopReason) -> StepResult:
        return StepResult()


def begin(prompt: Prompt) -> Env:
    """An episode of the prompt, in its own environment."""
    return SingleTurn(prompt) if prompt.env is None else prompt.env(prompt)
