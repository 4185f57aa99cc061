"""Rewards by name and weight: each is logged alone, and their weighted sum is what is learned from."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from minimind.errors import UserError
from minimind.rl.envs.tools import PARTS
from minimind.rl.rewards import form, verify
from minimind.rl.rewards.functions import Reward, bind
from minimind.rl.rewards.guard import Guard
from minimind.rl.rewards.judge import Judge
from minimind.rl.rewards.model import RewardModel
from minimind.rl.rewards.unit_tests import RUN_CODE, unit_tests
from minimind.rl.types import Rollout
from minimind.train.setup import Setup
from minimind.util.suggest import did_you_mean
from minimind.util.typed import number
from minimind.util.user_code import load_name

BUILT_IN: Mapping[str, Callable[..., Any]] = {
    "correct": verify.correct,
    "partial": verify.partial,
    "ended": verify.ended,
    "format": form.well_formed,
    "length": form.length,
    "cosine": form.cosine,
    "overlong": form.overlong,
    "repetition": form.repetition,
    "language": form.language,
    "unit_tests": unit_tests,
    "model": RewardModel,
    "judge": Judge,
}


@dataclass(frozen=True)
class Part:
    """One reward. Without a function, it is a part that the environment gives. It may have no opinion (nan) of an
    answer."""

    name: str
    weight: float
    reward: Reward | None
    may_skip: bool = False


class Rewards:
    """The parts of a reward, and their sum."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts

    @property
    def learned(self) -> list[str]:
        """Names of the parts that a model can gain by, right answers aside."""
        return [part.name for part in self.parts if part.weight > 0 and part.name != "correct"]

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """The same rollouts with their parts and the weighted sum of these. What the environments gave is kept; a
        part without a weight is only logged.

        Where a part has no opinion, it counts as much as the mean of the answers to the same prompt, which says
        nothing for or against this one; `skipped` counts such parts.
        """
        columns = {part.name: list(part.reward(rollouts)) for part in self.parts if part.reward is not None}
        if any(part.may_skip for part in self.parts):
            columns["skipped"] = [float(sum(map(math.isnan, values))) for values in zip(*columns.values())]
        columns = {name: fill_with_means(column, rollouts) for name, column in columns.items()}
        weights = {part.name: part.weight for part in self.parts}
        scored = []
        for at, one in enumerate(rollouts):
            parts = {
                **dict.fromkeys(weights, 0.0),
                **{name: column[at] for name, column in columns.items()},
                **one.parts,
            }
            total = sum(weights.get(name, 0.0) * value for name, value in parts.items())
            scored.append(replace(one, parts=parts, reward=total))
        return scored


def fill_with_means(values: Sequence[float], rollouts: Sequence[Rollout]) -> list[float]:
    """The values, with the mean of the others of its group for each nan; 0 where there are none."""
    known = defaultdict(list)
    for value, one in zip(values, rollouts, strict=True):
        if not math.isnan(value):
            known[one.group].append(value)
    means = {group: sum(found) / len(found) for group, found in known.items()}
    return [means.get(one.group, 0.0) if math.isnan(value) else value for value, one in zip(values, rollouts)]


def make_rewards(setup: Setup) -> Rewards:
    """What the recipe's `rl.rewards` says. UserError for a reward that there is not, and for options it has not."""
    options = setup.recipe.rl
    given = {
        "tokenizer": setup.tokenizer,
        "device": setup.device,
        "think": options.think,
        "max_tokens": options.max_tokens,
    }
    guard = Guard(options.on_reward_error, options.reward_seconds)
    if not options.run_code and any(re.match("unit_tests(?![^=,])", text) for text in options.rewards):
        raise UserError(f"rl.rewards unit_tests runs code that the model writes; {RUN_CODE}")
    parts = [make_part(text, given, guard, own_env=bool(options.env)) for text in options.rewards]
    names = [part.name for part in parts]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"rl.rewards names {twice[0]} twice; each part of a reward has a name of its own")
    return Rewards(parts)


def make_part(text: str, given: Mapping[str, Any], guard: Guard, own_env: bool = False) -> Part:
    """One of `rl.rewards`: NAME=WEIGHT,OPTION=VALUE,…; NAME is built in, FILE.py:FUNCTION, or a part that the
    environment gives; which these are of the user's own, nobody knows beforehand."""
    head, *pairs = text.split(",")
    name, _, weight_text = head.partition("=")
    where = f"rl.rewards {text}"
    try:
        weight = float(number(weight_text or "1", float))
    except ValueError:
        raise UserError(f"{where}: {weight_text} is no number; a reward is NAME=WEIGHT") from None
    options = dict(pair.partition("=")[::2] for pair in pairs)
    function = name.rpartition(":")[2]
    if function != name:
        reward = bind(load_name(name, "rl.rewards"), options, given, where)
        return Part(function, weight, guard.around(function, reward), guard.on_error == "skip")
    if name in PARTS or (own_env and name not in BUILT_IN):
        return Part(name, weight, None)
    if name not in BUILT_IN:
        known = [*BUILT_IN, *PARTS]
        otherwise = f"there are {', '.join(known)}, and your own: FILE.py:FUNCTION=WEIGHT"
        raise UserError(f"rl.rewards: there is no reward {name}; {did_you_mean(name, known, otherwise)}")
    return Part(name, weight, bind(BUILT_IN[name], options, given, where), BUILT_IN[name] is Judge)
