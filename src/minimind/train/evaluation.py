"""How good the model is on held-out documents while it trains; the best is kept, and the run may end early."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Protocol

import numpy as np
import torch

from minimind.data.batches.batch import Batch
from minimind.data.batches.loader import sequential_batches
from minimind.eval.perplexity import NLL, evaluate_nll
from minimind.model import save_model
from minimind.train.checkpoint import Progress
from minimind.train.metrics import JsonLines
from minimind.train.objective import Objective
from minimind.train.sample_generations import Sample, sample_generations
from minimind.train.setup import Setup

Scores = dict[str, float]


class Evaluation(Protocol):
    """A stage's scores. `best` watches the first; nothing here touches the generators of the training.

    lower_is_better  of the first score
    scores_start     whether the model that a training starts from is scored, too
    """

    lower_is_better: bool
    scores_start: bool

    def __call__(self, micro_batch_size: int) -> Scores:
        """The scores now, equal on all processes; {} where nothing is held out."""

    def samples(self, count: int) -> list[Sample]:
        """After a call, on the main process: what the model says to the same few prompts."""


class HeldOutNLL:
    """Bits per byte and loss on the first held-out documents, up to evaluation.max_tokens."""

    lower_is_better = True
    scores_start = False

    def __init__(self, setup: Setup, objective: Objective) -> None:
        self.setup = setup
        tokens_so_far = np.cumsum(setup.data.lengths[setup.held_out])
        count = max(1, int((tokens_so_far <= setup.recipe.evaluation.max_tokens).sum()))
        self.documents = setup.held_out[: -(-count // setup.data.group) * setup.data.group]

    def __call__(self, micro_batch_size: int) -> Scores:
        if not len(self.documents):
            return {}
        nll = self.nll(micro_batch_size)
        return {"bits_per_byte": nll.bits_per_byte, "loss": nll.loss, "held_out_tokens": nll.tokens}

    def nll(self, micro_batch_size: int) -> NLL:
        """The processes share the work."""
        strategy = self.setup.strategy
        mine = islice(self.batches(micro_batch_size), strategy.rank, None, strategy.world)
        part = evaluate_nll(self.setup.model, mine, self.setup.device)
        nats, tokens, size = strategy.sum([part.nats, part.tokens, part.bytes]).tolist()
        return NLL(nats, int(tokens), size)

    def samples(self, count: int) -> list[Sample]:
        return sample_generations(self.setup, count)

    def batches(self, micro_batch_size: int) -> Iterator[Batch]:
        """The documents; of all processes."""
        seq_len = self.setup.recipe.batch.seq_len
        return sequential_batches(self.setup.data, self.documents, seq_len, micro_batch_size)


class HeldOutObjective(HeldOutNLL):
    """The stage's own loss and metrics on the first held-out documents; of several terms, their sum comes first."""

    def __init__(self, setup: Setup, objective: Objective) -> None:
        super().__init__(setup, objective)
        self.objective = objective

    def __call__(self, micro_batch_size: int) -> Scores:
        strategy = self.setup.strategy
        sums: dict[str, list[float]] = {}
        names: list[str] = []  # of the terms
        for number, batch in enumerate(self.batches(micro_batch_size)):
            is_mine = number % strategy.world == strategy.rank
            if number and not is_mine:
                continue  # but all compute the first: a process without a batch knows the names of the sums, too
            with torch.no_grad():
                terms = self.objective(self.setup.model, batch.to(self.setup.device))
            units = self.objective.units(batch)
            pairs = {name: (float(loss), units[name]) for name, loss in terms.losses.items()}
            pairs |= {name: (float(total), float(count)) for name, (total, count) in terms.metrics.items()}
            for name, pair in pairs.items():
                sums[name] = [a + is_mine * b for a, b in zip(sums.get(name, [0.0, 0.0]), pair)]
            names = list(terms.losses)
        totals = strategy.sum([value for pair in sums.values() for value in pair]).tolist()
        scores = {name: total / max(count, 1e-9) for name, total, count in zip(sums, totals[::2], totals[1::2])}
        return scores if len(names) < 2 else {"total": sum(scores[name] for name in names), **scores}


class Evaluator:
    """Evaluates, keeps the best model, writes sample generations, and says when patience is at its end."""

    def __init__(self, setup: Setup, evaluation: Evaluation, metrics: JsonLines, samples: JsonLines) -> None:
        self.setup, self.evaluation, self.metrics, self.sample_lines = setup, evaluation, metrics, samples
        self.latest: dict[str, float] = {}  # the first score of the latest evaluation, for the console

    def first(self, scores: Callable[[Evaluation], Scores]) -> None:
        """Before the first step. From scratch, all tokens must be about equally likely: anything else is a faulty
        initialization."""
        setup = self.setup
        if self.evaluation.scores_start:
            name, value = next(iter(self.record(0, 0, scores(self.evaluation)).items()))
            setup.console.say(f"step 0: held-out {value:.4f} {name}")
            return
        if setup.recipe.init_from or "loss" not in (found := scores(self.evaluation)):
            return
        loss, expected = found["loss"], float(np.log(setup.model.config.vocab_size))
        self.metrics.write(step=0, tokens=0, eval={"loss": loss})
        if abs(loss / expected - 1) > 0.02:
            setup.console.say(f"warning: the first loss is {loss:.3f}, not ln V = {expected:.3f}; check the model")

    def record(self, step: int, tokens: int, values: Scores) -> Scores:
        """Write the scores down, and what the model says."""
        self.latest = {"held_out": next(iter(values.values()))}
        self.metrics.write(step=step, tokens=tokens, eval=values)
        count = self.setup.recipe.evaluation.samples
        if self.setup.strategy.is_main and not self.setup.model.config.num_labels:  # a reward model says nothing
            for sample in self.evaluation.samples(count):
                self.sample_lines.write(step=step, **sample)
        return values

    def __call__(self, progress: Progress, scores: Callable[[Evaluation], Scores]) -> None:
        """Score the model after a step; ends the run (by `progress.total_steps`) where patience is at its end."""
        setup, values = self.setup, scores(self.evaluation)
        if not values:
            return
        name, value = next(iter(values.items()))
        sign = 1 if self.evaluation.lower_is_better else -1
        is_better = sign * value < (math.inf if progress.best is None else sign * progress.best)
        if is_better:
            progress.best, progress.best_step, progress.without_best = value, progress.step, 0
            if setup.strategy.is_main:
                save_model(setup.model, setup.run / "best", setup.tokenizer)
        else:
            progress.without_best += 1
        self.record(progress.step, progress.tokens, values)
        former = math.nan if progress.best is None else progress.best
        best = "best" if is_better else f"best {former:.4f} at step {progress.best_step:,}"
        others = "".join(f", {other} {values[other]:.4f}" for other in list(values)[1:2])
        label = {"bits_per_byte": "bits/byte"}.get(name, name)
        setup.console.say(f"step {progress.step:,}: held-out {value:.4f} {label}{others} ({best})")
        if out_of_patience(setup, progress):
            patience = setup.recipe.evaluation.patience
            setup.console.say(f"no better result in {patience} evaluations: stopping")
            progress.total_steps = progress.step


def out_of_patience(setup: Setup, progress: Progress) -> bool:
    return 0 < setup.recipe.evaluation.patience <= progress.without_best
