"""How good a model is while it learns by reinforcement: held-out questions, answered greedily."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minimind.eval.skills import Score, SkillReport
from minimind.infer.engine import Engine
from minimind.infer.sampler import SamplingParams
from minimind.rl import warnings
from minimind.rl.envs.single_turn import begin
from minimind.rl.prompts.source import PromptSource
from minimind.rl.rewards import make_rewards
from minimind.rl.rollout import run_episodes
from minimind.rl.types import Prompt, Rollout, columns_of_parts
from minimind.tokenizer import Tokenizer
from minimind.train.evaluation import Scores
from minimind.train.objective import Objective
from minimind.train.sample_generations import Sample
from minimind.train.setup import Setup


class HeldOutQuestions:
    """The share of held-out questions that are answered rightly, the mean of the skills'; and each skill's.

    Where no answer can be verified, the mean reward.
    """

    lower_is_better = False
    scores_start = True

    def __init__(self, setup: Setup, objective: Objective) -> None:
        self.setup, self.options = setup, setup.recipe.rl
        self.engine, self.rewards = Engine(setup.model, max_batch=128), make_rewards(setup)
        self.prompts = PromptSource(setup).held_out
        self.is_verified = any(prompt.gt for prompt in self.prompts)
        self.rollouts: list[Rollout] = []  # the answers of the last evaluation, on the main process
        self.history: list[dict[str, float]] = []  # of all evaluations: the score, and the mean of each part
        self.spreads: dict[str, float] = {}
        self.warned = False

    def __call__(self, micro_batch_size: int) -> Scores:
        sources, strategy = sorted({prompt.source for prompt in self.prompts}), self.setup.strategy
        shares = [0.0] * len(sources)
        if strategy.is_main:
            self.rollouts = self.rewards(self.answer())
            shares = [self.share(source) for source in sources]
            self.warn(sum(shares) / len(shares))
        shares = strategy.sum(shares).tolist()
        by_source = {f"score_{source}": share for source, share in zip(sources, shares)}
        return {"score": sum(shares) / len(shares), **(by_source if len(sources) > 1 else {})}

    def share(self, source: str) -> float:
        """Of the right answers to prompts of a source."""
        values = [
            float(_is_right(one)) if self.is_verified else one.reward
            for one in self.rollouts
            if one.prompt.source == source
        ]
        return sum(values) / len(values)

    def warn(self, score: float) -> None:
        """Say once that a part of the reward rises while the score falls."""
        found = columns_of_parts(self.rollouts)
        columns = {name: found[name] for name in self.rewards.learned if name in found}
        self.history.append({"score": score, **{name: float(np.mean(column)) for name, column in columns.items()}})
        for name, column in columns.items():
            self.spreads[name] = max(self.spreads.get(name, 0.0), float(np.std(column)))
        text = warnings.hacked(self.history, self.spreads)
        if text and self.is_verified and not self.warned:
            self.setup.console.say(f"warning: {text}")
            self.warned = True

    def answer(self) -> list[Rollout]:
        """Of the present weights."""
        self.engine.refresh()
        longest, options = self.setup.recipe.batch.seq_len + 1, self.options
        return play_greedily(
            self.engine, self.setup.tokenizer, self.prompts, options.max_tokens, longest, options.think
        )

    def samples(self, count: int) -> list[Sample]:
        """Of as many places, evenly spread, so that each skill and language has some."""
        chosen = self.rollouts[:: max(1, len(self.rollouts) // max(1, count))][:count]
        return [{"conversations": one.messages, "reward": one.reward, "parts": one.parts} for one in chosen]


def play_greedily(
    engine: Engine,
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    max_tokens: int,
    longest: int,
    think: bool = False,
) -> list[Rollout]:
    """An episode of each prompt, of at most `longest` tokens."""
    params = SamplingParams(0.0, max_tokens=max_tokens, stop_ids=tokenizer.stop_ids)
    seeds = [0] * len(prompts)  # greedily, nothing is drawn
    return run_episodes(engine, tokenizer, [begin(one) for one in prompts], params, seeds, longest, think)


def report(rollouts: Sequence[Rollout], keep: int = 5) -> SkillReport:
    """How often the last answer was right, by source; the first `keep` conversations of each source stand in it."""
    tallies: dict[str, list[bool]] = {}
    kept: list[dict[str, Any]] = []
    for one in rollouts:
        tally = tallies.setdefault(one.prompt.source, [])
        tally.append(_is_right(one))
        if len(tally) <= keep:
            said = {"conversations": one.messages, "right": tally[-1], "gt": list(one.prompt.gt)}
            kept.append({"skill": one.prompt.source, **said, **one.parts})
    scores = {source: Score(sum(tally), len(tally)) for source, tally in tallies.items()}
    ended = sum(one.stop_reason == "stop" for one in rollouts)
    return SkillReport(scores, {source: {} for source in scores}, ended / len(rollouts), kept)


def _is_right(rollout: Rollout) -> bool:
    return rollout.stop_reason == "stop" and rollout.prompt.grade(rollout.text) == 1
