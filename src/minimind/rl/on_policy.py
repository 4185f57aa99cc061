"""Answers that a student samples itself to the prompts of its data, so that a teacher sees its mistakes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from minimind.data.batches.batch import IGNORE, Batch
from minimind.data.batches.documents import MemoryDocuments
from minimind.data.batches.loader import BatchSource, pack_once
from minimind.infer.engine import Engine
from minimind.infer.sampler import SamplingParams
from minimind.train.sample_generations import PROMPT_TOKENS
from minimind.train.setup import Setup

SAMPLED = "sampled"  # a column of the table: these documents were sampled, and hold no data


class OnPolicy(BatchSource):
    """The batches of a loader, of which a share is replaced: the prompts stay, the student answers them anew.

    Step k is a function of the data, the seed, k and, where it is sampled, the present weights (generalized
    knowledge distillation: Agarwal et al. 2023, arXiv:2306.13649, algorithm 1).
    """

    prefetch = False

    def __init__(self, setup: Setup, loader: BatchSource) -> None:
        self.setup, self.options, self.loader = setup, setup.recipe.distill, loader
        self.sequences = loader.sequences
        self.engine = Engine(setup.model, max_batch=128)
        self.params = SamplingParams(temperature=1.0, top_p=1.0, stop_ids=setup.tokenizer.stop_ids)

    def is_sampled(self, k: int) -> bool:
        return np.random.default_rng((self.setup.recipe.seed, k)).random() < self.options.on_policy

    def step(self, k: int, rank: int = 0, world: int = 1) -> Batch:
        batch = self.loader.step(k, rank, world)
        if not self.is_sampled(k):
            return batch
        seed, seq_len = self.setup.recipe.seed, self.setup.recipe.batch.seq_len
        prompts = [prompt_of(batch, number) for number in range(batch.num_documents)]
        places = zip(batch.table["source"].tolist(), batch.table["start"].tolist())
        seeds = [np.random.SeedSequence([seed, k, *place]).generate_state(1, np.uint64)[0] for place in places]
        params = [
            replace(self.params, seed=int(one), max_tokens=min(self.options.max_tokens, seq_len + 1 - len(prompt)))
            for prompt, one in zip(prompts, seeds)
        ]
        self.engine.refresh()
        completions = self.engine.generate(prompts, params)
        answers = [one.ids if one.stop_id is None else [*one.ids, one.stop_id] for one in completions]
        sampled = MemoryDocuments(
            ids=[np.array([*prompt, *answer]) for prompt, answer in zip(prompts, answers)],
            masks=[np.repeat([0, 1], [len(p), len(a)]).astype(np.uint8) for p, a in zip(prompts, answers)],
            document_columns={SAMPLED: np.ones(len(prompts), np.uint8)},
        )
        return pack_once(sampled, seq_len)

    def steps(self, epochs: float) -> int:
        return self.loader.steps(epochs)

    def epoch(self, k: int) -> float:
        return self.loader.epoch(k)


def prompt_of(batch: Batch, document: int) -> list[int]:
    """What stands before the first token that is trained on; of a text, all of which is, its beginning."""
    here = batch.documents == document
    ids = batch.tokens[here].tolist()
    before = int((batch.targets[here] != IGNORE).int().argmax())
    return ids[: before + 1] if before else ids[:PROMPT_TOKENS]
