"""Prompts from files: who asks what, and how an answer is verified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from minimind.data.sources.documents import BadLine, Document, content_hash, read_documents
from minimind.data.sources.folder import data_files
from minimind.errors import UserError
from minimind.recipe import Recipe
from minimind.rl.envs.tools import use_tools
from minimind.rl.rewards.checks import make_grade
from minimind.rl.rewards.unit_tests import RUN_CODE
from minimind.rl.types import Prompt
from minimind.stage_options import RLOptions
from minimind.tokenizer.messages import normalize


def read_prompts(recipe: Recipe) -> tuple[list[Prompt], np.ndarray]:
    """The prompts of the recipe's files, and 64 bits of each one's content (its answer and ground truth are none of
    it, so that a question is on one side of the split whatever is said of it). UserError for a line that is no
    prompt, or whose ground truth its check cannot use."""
    prompts, hashes = [], []
    for path in data_files([Path(file) for file in recipe.data]):
        for item in read_documents(path, "chat", encoding=recipe.encoding or None):
            if isinstance(item, BadLine):
                raise UserError(f"{item}; mend it or take it out")
            prompts.append(_prompt_of(item, recipe.rl))
            hashes.append(content_hash(replace(item, messages=prompts[-1].messages, gt=[])))
    if not prompts:
        raise UserError(f"there is no prompt in {', '.join(recipe.data)}")
    return prompts, np.array(hashes, np.uint64)


def _prompt_of(item: Document, options: RLOptions) -> Prompt:
    is_answered = item.messages[-1]["role"] == "assistant"
    where = f"{item.file}:{item.line}"
    if is_answered and not item.gt:
        raise UserError(f'{where}: it has an answer, and no "gt" to verify another one by; empty its last turn')
    messages, tools = normalize(item.messages[:-1] if is_answered else item.messages, item.tools)
    if not messages:
        raise UserError(f"{where}: nobody asks anything before the answer")
    if item.check == "unit_tests" and not options.run_code:
        raise UserError(f"{where}: the check unit_tests runs code; {RUN_CODE}")
    try:
        # Of tool use, as in the public MiniMind's data, the values count, wherever the answer has them.
        check = make_grade(item.gt, item.check or ("all" if tools else ""), item.count, options.think)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    source = item.source or Path(item.file).name.split(".")[0]
    env = use_tools if tools and item.check != "tool_call" else None  # a call that is asked for is the answer
    return Prompt(messages, item.gt, check, tools or (), source, env)


@dataclass(frozen=True)
class FilePrompts:
    """The prompts of files, each once in an epoch, in a new order every time.

    at_once  prompts of a rollout; where it asks for more, any of them
    """

    train: Sequence[Prompt]
    kept: Sequence[Prompt]
    at_once: int

    def training(self, seed: int, iteration: int, count: int) -> list[Prompt]:
        size, start = len(self.train), iteration * self.at_once
        places = [divmod(place, size) for place in range(start, start + min(count, self.at_once))]
        order = [_order(seed, epoch, size)[place] for epoch, place in places]
        more = np.random.default_rng((seed, iteration)).integers(size, size=max(0, count - self.at_once))
        return [self.train[one] for one in (*order, *more)]

    def held_out(self, count: int) -> list[Prompt]:
        return list(self.kept[:count])


@lru_cache(2)
def _order(seed: int, epoch: int, size: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(size)
