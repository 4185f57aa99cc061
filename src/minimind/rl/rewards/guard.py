"""A user's own reward can raise, hang or return nonsense: the training then stops with its name and the answer, or
goes on without its opinion."""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from minimind.errors import UserError
from minimind.rl.rewards.functions import Reward
from minimind.rl.types import Rollout

SHOWN = 200  # characters of a question and of an answer


class Failure(Exception):
    """What went wrong, in words that follow the name of the reward."""


class Abandoned(BaseException):
    """Raised inside a function that nobody waits for any more."""


@dataclass(frozen=True)
class Guard:
    """seconds  that one call may take"""

    on_error: Literal["stop", "skip"]
    seconds: float

    def around(self, name: str, reward: Reward) -> Reward:
        """The same reward, whose values are finite numbers; nan where it failed and `on_error` is skip."""

        def guarded(rollouts: Sequence[Rollout]) -> list[float]:
            try:
                values = self.call(reward, rollouts)
            except Failure as failure:
                if len(rollouts) > 1:  # one by one: which is it that cannot be judged?
                    return [guarded([one])[0] for one in rollouts]
                values, why = [math.nan], str(failure)
            else:
                why = ""
            if len(values) != len(rollouts):
                raise UserError(f"the reward {name} gave {len(values)} values for {len(rollouts)} answers")
            for one, value in zip(rollouts, values):
                if not math.isfinite(value) and self.on_error == "stop":
                    raise UserError(f"the reward {name} {why or f'gave {value}'} for {named(one)}")
            return [value if math.isfinite(value) else math.nan for value in values]

        return guarded

    def call(self, reward: Reward, rollouts: Sequence[Rollout]) -> list[float]:
        """Its values, from a thread that is left behind when its time is over."""
        found: list[list[float]] = []
        failure: list[Exception] = []

        def work() -> None:
            try:
                found.append([float(value) for value in reward(rollouts)])
            except Exception as error:
                failure.append(error)
            except Abandoned:
                pass

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(self.seconds)
        if thread.is_alive():
            assert thread.ident is not None
            # A loop ends with it; what waits in a call of the system goes on waiting, and takes no processor.
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Abandoned))
            raise Failure(f"took longer than {self.seconds:g} seconds (rl.reward_seconds)")
        if failure:
            raise Failure(f"raised {type(failure[0]).__name__}: {failure[0]}") from failure[0]
        return found[0]


def named(rollout: Rollout) -> str:
    """A question and its answer, to find them by."""
    question = str(rollout.prompt.messages[-1]["content"])
    return f"the answer {shortened(rollout.text)} to {shortened(question)}"


def shortened(text: str) -> str:
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")
