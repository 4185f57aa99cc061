"""An environment of the user's own: a class in a Python file.

It is made with a `random.Random`, which decides all of the episode that is not the model's doing: so the same one
can be played again and again. It has a `prompt` and a `step`, as `rl.types.Env` says.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from minimind.errors import UserError
from minimind.infer.events import StopReason
from minimind.rl.types import Env, Prompt, StepResult
from minimind.tokenizer.messages import Message
from minimind.util.user_code import load_name


class OwnEnv:
    """Episodes of the class that `FILE.py:CLASS` names; what is held out are other random numbers."""

    def __init__(self, spec: str) -> None:
        self.spec = spec
        self.make: Callable[[random.Random], Env] = load_name(spec, "rl.env")

    def training(self, seed: int, iteration: int, count: int) -> list[Prompt]:
        return [self.prompt(f"train {seed} {iteration} {place}") for place in range(count)]

    def held_out(self, count: int) -> list[Prompt]:
        return [self.prompt(f"held out {place}") for place in range(count)]

    def prompt(self, key: str) -> Prompt:
        """Of the episode with this key; each time that it is begun, it is the same one."""
        return replace(self.begin(key).prompt, env=lambda prompt: self.begin(key))

    def begin(self, key: str) -> Env:
        return Checked(self.spec, self.make, random.Random(key))


class Checked:
    """The user's environment; what goes wrong in it is said in a sentence."""

    def __init__(self, spec: str, make: Callable[[random.Random], Env], rng: random.Random) -> None:
        self.spec = spec
        try:
            self.env = make(rng)
            self.prompt = self.env.prompt
        except Exception as error:
            raise UserError(f"rl.env: {spec} cannot be made: {type(error).__name__}: {error}") from error
        if not isinstance(self.prompt, Prompt):
            raise UserError(f"rl.env: the prompt of {spec} is no minimind.rl.types.Prompt")
        self.prompt = replace(self.prompt, source=self.prompt.source or spec.rpartition(":")[2])

    def step(self, answer: Message, text: str, stop_reason: StopReason) -> StepResult:
        try:
            result = self.env.step(answer, text, stop_reason)
        except Exception as error:
            raise UserError(f"rl.env: step of {self.spec} failed: {type(error).__name__}: {error}") from error
        if not isinstance(result, StepResult):
            raise UserError(f"rl.env: step of {self.spec} gave no minimind.rl.types.StepResult, but {result!r}")
        if not result.done and not result.messages:
            raise UserError(f"rl.env: step of {self.spec} goes on (done=False) without a message to the model")
        return result
