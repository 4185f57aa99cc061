"""What a training asks: prompts of the world, of files or of an environment, as they come or by a curriculum."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from minimind.data.batches.documents import MemoryDocuments
from minimind.data.shards.holdout import holdout
from minimind.errors import UserError
from minimind.recipe import Recipe
from minimind.rl.envs.own import OwnEnv
from minimind.rl.prompts.curriculum import Curriculum
from minimind.rl.prompts.files import FilePrompts, read_prompts
from minimind.rl.prompts.world import WorldPrompts
from minimind.rl.types import Prompt, Rollout
from minimind.stage_options import RLOptions
from minimind.tokenizer import Tokenizer
from minimind.train.setup import Setup

BUDGET = "sampled answers have no epochs and no fixed length; give --budget.steps or --budget.minutes"
CANDIDATES = 4
"""prompts that a curriculum chooses one of"""


class Prompts(Protocol):
    """Where prompts come from."""

    def training(self, seed: int, iteration: int, count: int) -> list[Prompt]:
        """`count` prompts of a rollout, a function of seed and iteration: a resumed training asks the same. More of
        them begin with these."""

    def held_out(self, count: int) -> list[Prompt]:
        """Prompts that no training asks, always the same: `count` of each source."""


def make_prompts(options: RLOptions) -> Prompts:
    """Of the user's own environment, or of the embedded world. UserError where there are none."""
    return OwnEnv(options.env) if options.env else WorldPrompts(options.skills, options.think)


@dataclass
class PromptDocuments(MemoryDocuments):
    """Prompts as documents: what is asked, and a token that stands for the answer."""

    prompts: Sequence[Prompt] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        verified = json.dumps([[*one.gt, one.source] for one in self.prompts])
        self.fingerprint = hashlib.sha256((self.fingerprint + verified).encode()).hexdigest()


def load_prompts(recipe: Recipe, tokenizer: Tokenizer, kind: str) -> tuple[PromptDocuments, np.ndarray, np.ndarray]:
    """The prompts of the recipe's files, and which of them are trained on and held out. Without files prompts are
    made step by step: the held-out ones alone."""
    if recipe.budget.epochs or recipe.budget.tokens:
        raise UserError(BUDGET)
    options = recipe.rl
    if recipe.data and options.env:
        raise UserError("rl.env makes its own prompts; leave out --data, or the environment")
    if recipe.data:
        prompts, hashes = read_prompts(recipe)
        held_out = holdout(hashes, recipe.evaluation.holdout, recipe.seed)
    else:
        prompts = make_prompts(options).held_out(options.questions)
        held_out = np.ones(len(prompts), bool)
    ids = [tokenizer.encode_chat(one.messages, list(one.tools) or None, True, options.think)[0] for one in prompts]
    lengths = np.array([len(one) for one in ids])
    needed = (lengths + options.max_tokens) * (2 if options.loss == "dpo" else 1)  # a pair shares a sequence
    fits = needed <= recipe.batch.seq_len
    if not fits.any() or not (recipe.data or fits.all()):
        raise UserError(f"a question and rl.max_tokens do not fit batch.seq_len; make that at least {needed.max()}")
    documents = PromptDocuments(
        [np.array([*one, tokenizer.eos_id]) for one in ids],
        [np.arange(length + 1) == length for length in lengths],
        prompts=prompts,
    )
    train, held_out = np.flatnonzero(~held_out & fits), np.flatnonzero(held_out & fits)
    if recipe.data and not len(train):
        raise UserError("all prompts are held out; lower evaluation.holdout or add data")
    if not len(held_out):
        raise UserError(
            f"of {len(prompts)} prompts none is held out to measure the score on; raise evaluation.holdout"
        )
    return documents, train, held_out


class PromptSource:
    """What is asked at each step, and the held-out prompts.

    Without a curriculum, the prompts of a step are a function of the data, the seed and the step. With one they
    depend also on what was answered rightly so far, which is its state.
    """

    def __init__(self, setup: Setup) -> None:
        self.options, self.seed = setup.recipe.rl, setup.recipe.seed
        self.curriculum = Curriculum() if self.options.curriculum else None
        self.candidates = self.options.prompts * (CANDIDATES if self.options.curriculum else 1)
        self.prompts: Prompts = make_prompts(self.options)
        if setup.recipe.data:
            data: Any = setup.data
            train, held_out = (
                [data.prompts[at] for at in part] for part in (setup.train_documents, setup.held_out)
            )
            self.prompts = FilePrompts(train, held_out, self.candidates)
        self.held_out = self.prompts.held_out(self.options.questions)

    def training(self, iteration: int, attempt: int = 0) -> list[Prompt]:
        """`rl.prompts` prompts of a rollout; another attempt at it gives others."""
        before = attempt * self.candidates
        found = self.prompts.training(self.seed, iteration, before + self.candidates)[before:]
        if self.curriculum is None:
            return found
        rng = np.random.default_rng((self.seed, iteration, attempt))
        return self.curriculum.choose(found, self.options.prompts, rng)

    def learn(self, rollouts: Sequence[Rollout]) -> None:
        """Remember how the answers turned out."""
        if self.curriculum is not None:
            self.curriculum.update(rollouts)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.curriculum is None else self.curriculum.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.curriculum is not None:
            self.curriculum.load_state_dict(state)
