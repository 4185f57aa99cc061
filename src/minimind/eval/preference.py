"""Held-out preferences: how often a model puts the better of two answers first.

A reward model by its score. A language model by how likely each answer is, which is the preference that DPO trains:
as a whole, or by the mean over its tokens, since a longer answer is less likely whatever it says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from minimind.data.batches.documents import Documents, WholeDocuments
from minimind.data.batches.loader import sequential_batches
from minimind.eval.skills import Score
from minimind.losses.logprobs import answer_logprobs
from minimind.losses.scores import document_scores
from minimind.model import Transformer

POSITIONS = 8192  # read at once


@dataclass(frozen=True)
class PairReport:
    """right: pairs whose chosen answer comes first, by what it is measured with; margin: the mean difference of a
    pair; left_out: pairs too long to differ within the sequences that were read."""

    scores: dict[str, Score]
    margins: dict[str, float]
    left_out: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "left_out": self.left_out,
            **{name: {**score.to_dict(), "margin": self.margins[name]} for name, score in self.scores.items()},
        }


@torch.no_grad()
def evaluate(
    model: Transformer,
    data: Documents,
    documents: np.ndarray,
    seq_len: int,
    end: int,
    update: Callable[[float], None] = lambda tokens: None,
) -> PairReport:
    """Measure a model on pairs, given as indices into `data`, both sides of each.

    seq_len  both answers of a pair are cut to fit into one sequence together
    end      any token; it stands behind what a reward model reads
    """
    device = model.model.embed_tokens.weight.device
    is_reward = bool(model.config.num_labels)
    data = WholeDocuments(data, end) if is_reward else data
    differences: dict[str, list[torch.Tensor]] = {}
    for batch in sequential_batches(data, documents, seq_len, max(1, POSITIONS // seq_len)):
        update(batch.num_tokens)
        batch = batch.to(device)
        if is_reward:
            values = {"reward": document_scores(model, batch)}
        else:
            whole_S = answer_logprobs(model, batch)
            values = {"likelihood": whole_S, "likelihood_per_token": whole_S / batch.table["tokens"]}
        for name, values_S in values.items():
            chosen_P, rejected_P = values_S.view(-1, 2).unbind(1)
            differences.setdefault(name, []).append((chosen_P - rejected_P).cpu())
    found = {name: torch.cat(parts) for name, parts in differences.items()}
    count = next(map(len, found.values()), 0)
    return PairReport(
        {name: Score(int((margins_P > 0).sum()), count) for name, margins_P in found.items()},
        {name: float(margins_P.mean()) for name, margins_P in found.items()},
        len(documents) // 2 - count,
    )
