"""Reward model: a language model gets a score head in the place of its output layer, and learns from pairs which
answer people prefer."""

from __future__ import annotations

import torch

from minimind.data.batches.batch import Batch
from minimind.data.batches.documents import WholeDocuments
from minimind.losses.preference import reward_loss
from minimind.losses.scores import document_scores
from minimind.model import Transformer
from minimind.recipe import Recipe
from minimind.stages.stage import Split, Stage, load_files
from minimind.tokenizer import Tokenizer
from minimind.train.evaluation import HeldOutObjective
from minimind.train.objective import Objective, Terms
from minimind.train.setup import Setup


class BradleyTerry(Objective):
    """Σ over pairs of the loss of `losses.preference.reward_loss`; the unit is a pair."""

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.options = setup.recipe.reward

    def units(self, batch: Batch) -> dict[str, float]:
        return {"loss": batch.num_documents / 2}

    def forward(self, model: Transformer, batch: Batch) -> Terms:
        chosen_P, rejected_P = document_scores(model, batch).view(-1, 2).unbind(1)
        losses_P, metrics = reward_loss(chosen_P, rejected_P, self.options.margin, self.options.center)
        count = torch.ones_like(losses_P).sum()
        return Terms({"loss": losses_P.sum()}, {name: (values.sum(), count) for name, values in metrics.items()})


def load_whole_pairs(recipe: Recipe, tokenizer: Tokenizer, kind: str) -> Split:
    """The recipe's pairs, which are read to their last token."""
    data, train_documents, held_out = load_files(recipe, tokenizer, kind)
    return WholeDocuments(data, tokenizer.pad_id), train_documents, held_out


STAGE = Stage(
    "reward",
    BradleyTerry,
    kind="preference",
    num_labels=1,
    data=load_whole_pairs,
    evaluation=HeldOutObjective,
    defaults={
        "batch": {"long_documents": "truncate", "tokens_per_step": 8192},
        "optimizer": {"learning_rate": 0.002},
        "schedule": {"decay": 0.8},
    },
)
