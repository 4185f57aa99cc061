"""Preference optimization: a model learns to prefer the chosen answer of each pair to the rejected one.

By direct preference optimization or one of its kin (`dpo.loss`); those with a reference compare with the model that
the training starts from.
"""

from __future__ import annotations

import torch

from minimind.data.batches.batch import Batch
from minimind.losses.logprobs import answer_logprobs
from minimind.losses.preference import Compared, dpo_loss, ipo_loss, orpo_loss, simpo_loss
from minimind.model import Transformer
from minimind.recipe import DPOOptions, Recipe
from minimind.stages.kto import KTO, load_answers
from minimind.stages.stage import Split, Stage, load_files
from minimind.tokenizer import Tokenizer
from minimind.train.evaluation import HeldOutObjective
from minimind.train.objective import Objective, Terms
from minimind.train.reference import reference_logprobs
from minimind.train.setup import Setup


class Preference(Objective):
    """Σ over pairs of a loss of `losses.preference`; the unit is a pair. ORPO's term `nll` is of the tokens of the
    chosen answers."""

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.options = setup.recipe.dpo
        if self.options.has_reference:
            setup.data.document_columns["reference"] = reference_logprobs(setup)

    def units(self, batch: Batch) -> dict[str, float]:
        units = {"loss": batch.num_documents / 2}
        if self.options.loss == "orpo":
            units["nll"] = float(batch.table["tokens"].view(-1, 2)[:, 0].sum())
        return units

    def forward(self, model: Transformer, batch: Batch) -> Terms:
        policy_P2, tokens_P2 = answer_logprobs(model, batch).view(-1, 2), batch.table["tokens"].view(-1, 2)
        reference_P2 = batch.table["reference"].view(-1, 2) if self.options.has_reference else None
        losses_P, metrics = compare(policy_P2, reference_P2, tokens_P2, self.options)
        terms, seen_P2 = {"loss": losses_P.sum()}, policy_P2.detach()
        if self.options.loss == "orpo":
            terms["nll"] = -policy_P2[:, 0].sum()
        metrics |= {"logps_chosen": seen_P2[:, 0], "logps_rejected": seen_P2[:, 1]}
        if reference_P2 is not None:
            metrics["reference_kl"] = (reference_P2 - seen_P2).mean(1)
        count = torch.ones_like(losses_P).sum()
        return Terms(terms, {name: (values.sum(), count) for name, values in metrics.items()})


def compare(
    policy_P2: torch.Tensor, reference_P2: torch.Tensor | None, tokens_P2: torch.Tensor, options: DPOOptions
) -> Compared:
    """The losses (P,) of pairs and metrics, from the log-probabilities of both answers and their tokens."""
    chosen_P, rejected_P = policy_P2.unbind(1)
    chosen_tokens_P, rejected_tokens_P = tokens_P2.unbind(1)
    beta, smoothing = options.beta, options.label_smoothing
    if reference_P2 is None:
        normalized = chosen_P, rejected_P, chosen_tokens_P, rejected_tokens_P
        if options.loss == "orpo":
            return orpo_loss(*normalized, beta)
        return simpo_loss(*normalized, beta, options.gamma, smoothing)
    compared = chosen_P, rejected_P, reference_P2[:, 0], reference_P2[:, 1]
    if options.loss == "ipo":
        return ipo_loss(*compared, chosen_tokens_P, rejected_tokens_P, beta)
    return dpo_loss(*compared, beta, smoothing)


def make_objective(setup: Setup) -> Objective:
    return KTO(setup) if setup.recipe.dpo.loss == "kto" else Preference(setup)


def load_data(recipe: Recipe, tokenizer: Tokenizer, kind: str) -> Split:
    return (load_answers if recipe.dpo.loss == "kto" else load_files)(recipe, tokenizer, kind)


STAGE = Stage(
    "dpo",
    make_objective,
    kind="preference",
    data=load_data,
    evaluation=HeldOutObjective,
    defaults={
        "batch": {"long_documents": "truncate", "tokens_per_step": 8192},
        "optimizer": {"learning_rate": 0.001},
        "schedule": {"decay": 0.8},
    },
)
