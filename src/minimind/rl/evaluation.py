"""How good a model is while it learns by reinforcement: held-out questions, answered greedily."""

from __future__ import annotations

from minimind.infer.engine import Engine
from minimind.infer.sampler import SamplingParams
from minimind.rl.envs.single_turn import SingleTurn
from minimind.rl.prompts import held_out_questions, to_prompt
from minimind.rl.rewards import score
from minimind.rl.rollout import run_episodes
from minimind.rl.types import Rollout
from minimind.train.evaluation import Scores
from minimind.train.objective import Objective
from minimind.train.sample_generations import Sample
from minimind.train.setup import Setup


class HeldOutQuestions:
    """The share of held-out questions that are answered rightly; every skill has as many."""

    lower_is_better = False
    scores_start = True

    def __init__(self, setup: Setup, objective: Objective) -> None:
        self.setup, self.options = setup, setup.recipe.rl
        self.engine = Engine(setup.model, max_batch=128)
        questions = held_out_questions(0, self.options.questions, self.options.skills)
        self.prompts = [to_prompt(question, self.options.think) for question in questions]
        self.rollouts: list[Rollout] = []  # the answers of the last evaluation, on the main process

    def __call__(self, micro_batch_size: int) -> Scores:
        right, strategy = 0.0, self.setup.strategy
        if strategy.is_main:
            self.rollouts = score(self.answer())
            right = sum(_is_right(one) for one in self.rollouts) / len(self.rollouts)
        return {"score": float(strategy.sum([right])[0])}

    def answer(self) -> list[Rollout]:
        """Of the present weights."""
        self.engine.refresh()
        tokenizer, seq_len = self.setup.tokenizer, self.setup.recipe.batch.seq_len
        params = SamplingParams(0.0, max_tokens=self.options.max_tokens, stop_ids=tokenizer.stop_ids)
        envs = [SingleTurn(prompt) for prompt in self.prompts]
        seeds = [0] * len(envs)  # greedily, nothing is drawn
        return run_episodes(self.engine, tokenizer, envs, params, seeds, seq_len + 1, self.options.think)

    def samples(self, count: int) -> list[Sample]:
        """Of as many places, evenly spread, so that each skill and language has some."""
        chosen = self.rollouts[:: max(1, len(self.rollouts) // max(1, count))][:count]
        return [{"conversations": one.messages, "reward": one.reward, "parts": one.parts} for one in chosen]


def _is_right(rollout: Rollout) -> bool:
    return rollout.stop_reason == "stop" and rollout.prompt.grade(rollout.text) == 1
