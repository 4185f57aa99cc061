"""Distillation: a student learns to say what a larger teacher would, from its whole distribution at every token.

The data are texts or conversations. The teacher reads the same batch as the student, or has read all data before
the first step (`distill.cache`); in a share of the steps (`distill.on_policy`) the student's own answers are what
both read (generalized knowledge distillation: Agarwal et al. 2023, arXiv:2306.13649).
"""

from __future__ import annotations

import torch

from minimind.data.batches.batch import Batch, valid_positions
from minimind.data.batches.loader import BatchSource
from minimind.errors import UserError
from minimind.losses.cross_entropy import hidden_states
from minimind.losses.distillation import TeacherStates, TopK, linear_distillation
from minimind.model import Transformer
from minimind.recipe import Recipe
from minimind.rl.on_policy import SAMPLED, OnPolicy
from minimind.stages.stage import Split, Stage, load_files, make_loader
from minimind.stages.teacher import ask_teacher, load_teacher
from minimind.stages.teacher_cache import add_top_k, cached_top_k
from minimind.tokenizer import Tokenizer
from minimind.train.evaluation import HeldOutNLL, HeldOutObjective, Scores
from minimind.train.objective import Objective, Terms
from minimind.train.setup import Setup


class Distillation(Objective):
    """Σ over trained tokens of the loss of `losses.distillation.linear_distillation`; the unit is a token.

    An answer that the student sampled itself is no data: there the teacher alone is learned from.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.options = setup.recipe.distill
        cached = self.options.cache and setup.run.is_dir()  # a dry run computes nothing beforehand
        if cached:
            add_top_k(setup)
        needed = not cached or self.options.on_policy
        self.teacher = load_teacher(setup) if needed else None  # no module: it is neither trained nor saved

    def units(self, batch: Batch) -> dict[str, float]:
        return {"loss": float(batch.num_valid_tokens)}

    def forward(self, model: Transformer, batch: Batch) -> Terms:
        options, valid_N, sampled = self.options, valid_positions(batch), SAMPLED in batch.table
        teacher: TeacherStates | TopK | None = cached_top_k(batch, valid_N)
        if teacher is None:
            assert self.teacher is not None
            teacher = ask_teacher(self.teacher, batch, model, options)
        hidden_ND = hidden_states(model, batch).flatten(0, 1)[valid_N]
        sums = linear_distillation(
            hidden_ND, model.output_weight, batch.targets.flatten()[valid_N], teacher,
            0.0 if sampled else options.alpha, options.temperature, options.divergence, options.beta,
        )  # fmt: skip
        tokens = torch.full_like(sums.loss, batch.num_valid_tokens)
        of_data = tokens * (not sampled)
        metrics = {"ce": (sums.ce * (not sampled), of_data), "kl": (sums.kl, tokens)}
        return Terms({"loss": sums.loss}, metrics | {"agreement": (sums.agreement, tokens)})


class HeldOutDistillation(HeldOutObjective):
    """Bits per byte and loss on held-out documents, and how far the student is from the teacher there."""

    def __call__(self, micro_batch_size: int) -> Scores:
        scores = HeldOutNLL.__call__(self, micro_batch_size)
        if scores:
            found = super().__call__(micro_batch_size)
            scores |= {name: found[name] for name in ("kl", "agreement")}
        return scores


def texts_or_conversations(recipe: Recipe, tokenizer: Tokenizer, kind: str) -> Split:
    """The recipe's files, whichever of the two they hold."""
    split = load_files(recipe, tokenizer, kind)
    if split[0].group > 1:
        raise UserError("distill learns from texts or conversations, and these files hold preferences")
    return split


def make_source(setup: Setup, objective: Objective) -> BatchSource:
    loader = make_loader(setup, objective)
    return OnPolicy(setup, loader) if setup.recipe.distill.on_policy else loader


STAGE = Stage(
    "distill",
    Distillation,
    kind="auto",
    from_model=False,
    teacher="distill.teacher",
    data=texts_or_conversations,
    source=make_source,
    evaluation=HeldOutDistillation,
)
