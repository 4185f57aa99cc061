"""Where reinforcement learning gets its batches and its score: sampled answers, held-out questions."""

from __future__ import annotations

import numpy as np

from minimind.data.batches.batch import Batch
from minimind.data.batches.documents import MemoryDocuments
from minimind.data.batches.loader import pack_once
from minimind.errors import UserError
from minimind.eval.skills import evaluate
from minimind.infer.engine import Engine
from minimind.infer.sampler import SamplingParams
from minimind.recipe import Recipe
from minimind.rl.advantages import group_advantages
from minimind.rl.prompts import held_out_questions, training_prompts
from minimind.rl.rewards import RewardModel
from minimind.rl.rollout import sample_groups, to_documents
from minimind.tokenizer import Tokenizer
from minimind.train.evaluation import Scores
from minimind.train.objective import Objective
from minimind.train.setup import Setup

BUDGET = "sampled answers have no epochs and no fixed length; give --budget.steps or --budget.minutes"


class Rollouts:
    """Batches that the model makes with its present weights; step k is a function of these, the seed and k."""

    prefetch = False

    def __init__(self, setup: Setup) -> None:
        self.setup, self.options = setup, setup.recipe.grpo
        self.sequences = setup.recipe.batch.sequences
        self.engine = Engine(setup.model, max_batch=self.options.prompts * self.options.group_size)
        path = self.options.reward_model
        self.reward_model = RewardModel(path, setup.tokenizer, setup.device) if path else None
        self.params = SamplingParams(
            temperature=self.options.temperature,
            top_p=1.0,
            max_tokens=self.options.max_tokens,
            stop_ids=setup.tokenizer.stop_ids,
        )

    def step(self, k: int, rank: int = 0, world: int = 1) -> Batch:
        options, recipe = self.options, self.setup.recipe
        if options.prompts % world:
            raise UserError(f"grpo.prompts {options.prompts} cannot be shared equally by {world} processes")
        share = options.prompts // world
        prompts = training_prompts(recipe.seed, k, options.prompts)[rank * share : (rank + 1) * share]
        rollouts = sample_groups(
            self.engine, self.setup.tokenizer, prompts, options.group_size, self.params, recipe.seed, k,
            first_group=rank * share,
        )  # fmt: skip
        if self.reward_model is not None:
            rollouts = self.reward_model.score(rollouts)
        rewards = np.array([rollout.reward for rollout in rollouts])
        advantages = group_advantages(rewards, np.array([rollout.group for rollout in rollouts]))
        return pack_once(to_documents(rollouts, advantages), recipe.batch.seq_len)

    def steps(self, epochs: float) -> int:
        raise UserError(BUDGET)

    def epoch(self, k: int) -> float:
        return 0.0


class HeldOutQuestions:
    """The share of held-out questions that are answered rightly, greedily."""

    lower_is_better = False

    def __init__(self, setup: Setup, objective: Objective) -> None:
        self.setup = setup
        self.engine = Engine(setup.model, max_batch=128)
        self.questions = held_out_questions(0, setup.recipe.grpo.questions)

    def __call__(self, micro_batch_size: int) -> Scores:
        score, strategy = 0.0, self.setup.strategy
        if strategy.is_main:
            self.engine.refresh()
            limit = self.setup.recipe.grpo.max_tokens
            score = evaluate(self.engine, self.setup.tokenizer, self.questions, limit).macro
        return {"score": float(strategy.sum([score])[0])}


def world_prompts(
    recipe: Recipe, tokenizer: Tokenizer, kind: str
) -> tuple[MemoryDocuments, np.ndarray, np.ndarray]:
    """No files: prompts are made step by step. The documents are the held-out questions, for sample generations."""
    if recipe.data:
        raise UserError("grpo makes its prompts from the embedded world; leave out --data")
    if recipe.budget.epochs or recipe.budget.tokens:
        raise UserError(BUDGET)
    questions = held_out_questions(0, recipe.grpo.questions)
    prompts = [np.array(tokenizer.encode_chat(q.prompt, add_generation_prompt=True)[0]) for q in questions]
    ids = [np.append(prompt, tokenizer.eos_id) for prompt in prompts]
    masks = [np.arange(len(document)) == len(document) - 1 for document in ids]
    if (longest := max(map(len, prompts)) + recipe.grpo.max_tokens) > recipe.batch.seq_len:
        raise UserError(f"a question and grpo.max_tokens do not fit batch.seq_len; make that at least {longest}")
    return MemoryDocuments(ids, masks), np.arange(0), np.arange(len(ids))
