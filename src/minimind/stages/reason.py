"""Reasoning: a model learns to think before it answers, and to answer without, as it is asked.

Supervised fine-tuning on answers with their thinking, as DeepSeek-R1 was distilled into small models (DeepSeek-AI
2025, arXiv:2501.12948, section 2.4). Two things are added. Where the thinking ends is one token among hundreds, and
everything hangs on it: the format tokens weigh more. And a share of the conversations is answered without thinking,
after the empty block that the chat template writes when thinking is off: so one model does both.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from minimind.data.batches.batch import Batch
from minimind.data.shards.thoughts import Thoughts
from minimind.model import Transformer
from minimind.recipe import Recipe
from minimind.stages import sft
from minimind.stages.stage import Split, Stage, load_files
from minimind.tokenizer import Tokenizer
from minimind.train.objective import NextToken, Terms
from minimind.train.setup import Setup


class Reason(NextToken):
    """Σ w · −log p(target) / Σ w, with w = reason.format_weight for <think> and </think>, else 1."""

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.weight, self.ids = setup.recipe.reason.format_weight, format_ids(setup.tokenizer)

    def units(self, batch: Batch) -> dict[str, float]:
        return super().units(self.weighted(batch))

    def forward(self, model: Transformer, batch: Batch) -> Terms:
        return super().forward(model, self.weighted(batch))

    def weighted(self, batch: Batch) -> Batch:
        """The batch with the weight of each target, which its id alone decides."""
        is_format_BT = torch.zeros_like(batch.targets, dtype=torch.bool)
        for token in self.ids:
            is_format_BT |= batch.targets == token
        weights_BT = 1 + (self.weight - 1) * is_format_BT.float()
        return replace(batch, columns={**batch.columns, "weights": weights_BT})


def format_ids(tokenizer: Tokenizer) -> list[int]:
    """Ids of <think> and </think>: two, or where a tokenizer spells them out those of their parts."""
    tags = ("<think>", "</think>")
    spelled = [[tokenizer.reserved[tag]] if tag in tokenizer.reserved else tokenizer.encode(tag) for tag in tags]
    return sorted({token for ids in spelled for token in ids})


def load(recipe: Recipe, tokenizer: Tokenizer, kind: str) -> Split:
    """The recipe's files, without some of their thinking."""
    options = recipe.reason
    longest = options.max_thought_tokens or recipe.batch.seq_len
    return load_files(recipe, tokenizer, kind, Thoughts(options.empty_thoughts, longest, recipe.seed))


STAGE = Stage("reason", Reason, data=load, defaults=sft.STAGE.defaults)
