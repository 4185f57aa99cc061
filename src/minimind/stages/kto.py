"""Kahneman-Tversky optimization, `dpo.loss kto`: from pairs, or from answers of which each has a label.

Its losses are measured from the divergence of the model from its start. That is estimated on prompts with answers
to other prompts, as in the paper; not in the micro-batch that is learned from, which would make the result depend
on how a step is cut, but over the whole step before. In the first, it is exactly 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from minimind.data.batches.batch import Batch
from minimind.data.batches.mismatched import Mismatched
from minimind.data.shards.prepare import resolve_kind
from minimind.losses.logprobs import answer_logprobs
from minimind.losses.preference import kto_loss
from minimind.model import Transformer
from minimind.recipe import Recipe
from minimind.stages.stage import Split, load_files
from minimind.tokenizer import Tokenizer
from minimind.train.objective import Objective, Terms
from minimind.train.reference import reference_logprobs
from minimind.train.setup import Setup


def load_answers(recipe: Recipe, tokenizer: Tokenizer, kind: str) -> Split:
    """Labeled answers, or pairs, which are a good and a bad one each; each with its prompt and another's answer."""
    paths, encoding = [Path(file) for file in recipe.data], recipe.encoding or None
    is_unpaired = all(path.is_file() for path in paths) and resolve_kind(paths, "auto", encoding) == "unpaired"
    data, *split = load_files(recipe, tokenizer, "unpaired" if is_unpaired else kind)
    if not is_unpaired:
        data.document_columns["label"] = np.arange(len(data.lengths)) % 2 == 0
    mixed = Mismatched(data)
    train_documents, held_out = map(mixed.renumber, split)
    return mixed, train_documents, held_out


class Divergence:
    """An auxiliary without a term: the mean log-ratio of mismatched answers in a step, at least 0, for the next."""

    name = "divergence"

    def __init__(self, device: torch.device) -> None:
        self.kl = torch.zeros((), device=device)
        self.begin_step()

    def units(self, batch: Batch) -> dict[str, float]:
        return {}

    def begin_step(self) -> None:
        self.seen = torch.zeros(2, device=self.kl.device)

    def before_forward(self) -> None: ...

    def terms(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {}

    def step_totals(self) -> torch.Tensor:
        return self.seen

    def end_step(self, totals: torch.Tensor, norm: torch.Tensor) -> None:
        mean = (totals[0] / totals[1].clamp(min=1)).clamp(min=0)
        self.kl = torch.where(torch.isfinite(norm), mean, self.kl)

    def metrics(self) -> dict[str, object]:
        return {"reference_kl": float(self.kl)}

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"kl": self.kl}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        self.kl = state["kl"].to(self.kl.device)


class KTO(Objective):
    """Σ over answers of the loss of `losses.preference.kto_loss`; the unit is an answer."""

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.beta, self.group = setup.recipe.dpo.beta, setup.data.group
        setup.data.document_columns["reference"] = reference_logprobs(setup)
        self.divergence = Divergence(setup.device)
        self.auxiliaries = [self.divergence]

    def units(self, batch: Batch) -> dict[str, float]:
        return {"loss": batch.num_documents / 2}

    def forward(self, model: Transformer, batch: Batch) -> Terms:
        """Of each group the first half is learned from; the rest are the prompts with other answers."""
        policy, reference, good = (
            values_S.view(-1, 2, self.group // 2)
            for values_S in (answer_logprobs(model, batch), batch.table["reference"], batch.table["label"])
        )
        drift = (policy - reference)[:, 1].detach().flatten()
        self.divergence.seen = self.divergence.seen + torch.stack([drift.sum(), torch.ones_like(drift).sum()])
        losses, gains = kto_loss(policy[:, 0], reference[:, 0], good[:, 0], self.divergence.kl, self.beta)
        seen, good = policy[:, 0].detach(), good[:, 0]
        signed, rewards = torch.where(good, gains, -gains), gains + self.beta * self.divergence.kl
        count = torch.ones_like(gains).sum()
        metrics = {"accuracy": ((signed > 0).to(gains.dtype).sum(), count), "margin": (signed.sum(), count)}
        for name, of_side in (("chosen", good), ("rejected", ~good)):
            metrics[f"reward_{name}"] = (rewards * of_side).sum(), of_side.sum()
            metrics[f"logps_{name}"] = (seen * of_side).sum(), of_side.sum()
        return Terms({"loss": losses.sum()}, metrics)
