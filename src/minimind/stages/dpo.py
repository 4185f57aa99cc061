"""Direct preference optimization: a model learns to prefer the chosen answer of each pair to the rejected one.

The reference is the model that the training starts from. Its log-probability of every answer is computed once,
before the first step, and kept in the run directory: no second model is in memory while training.
"""

from __future__ import annotations

import numpy as np
import torch

from minimind.data.batches.batch import Batch
from minimind.data.batches.loader import sequential_batches
from minimind.losses.cross_entropy import hidden_states
from minimind.losses.logprobs import target_logprobs
from minimind.losses.preference import dpo_loss
from minimind.model import Transformer
from minimind.stages.stage import Stage
from minimind.train.evaluation import HeldOutObjective
from minimind.train.objective import Objective, Terms
from minimind.train.setup import Setup
from minimind.util.files import whole_file


class DPO(Objective):
    """Σ over pairs of the loss of `losses.preference.dpo_loss`; the unit is a pair."""

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.options = setup.recipe.dpo
        setup.data.document_columns["reference"] = reference_logprobs(setup)

    def units(self, batch: Batch) -> dict[str, float]:
        return {"loss": batch.num_documents / 2}

    def forward(self, model: Transformer, batch: Batch) -> Terms:
        policy_P2, reference_P2 = answer_logprobs(model, batch).view(-1, 2), batch.table["reference"].view(-1, 2)
        pairs = policy_P2[:, 0], policy_P2[:, 1], reference_P2[:, 0], reference_P2[:, 1]
        losses_P, metrics = dpo_loss(*pairs, self.options.beta, self.options.label_smoothing)
        count = torch.ones_like(losses_P).sum()
        return Terms({"loss": losses_P.sum()}, {name: (values.sum(), count) for name, values in metrics.items()})


def answer_logprobs(model: Transformer, batch: Batch) -> torch.Tensor:
    """(S,): the log-probability of each document's trained tokens together, in nats."""
    return batch.sum_by_document(target_logprobs(model, hidden_states(model, batch), batch))


def reference_logprobs(setup: Setup) -> np.ndarray:
    """(N,) float32: the log-probability of every answer before training. The processes share the work."""
    path, strategy = setup.run / "reference.npz", setup.strategy
    if strategy.any(path.exists())[0]:
        try:
            return np.load(path)["reference"]
        except Exception:  # a zip file has a checksum, and where it is damaged errors of many kinds
            setup.console.say(f"{path} is damaged: it is computed again")
    batch, everything = setup.recipe.batch, np.arange(len(setup.data.lengths))
    at_once = max(1, batch.micro_batch_tokens // batch.seq_len)
    values = torch.zeros(len(everything), device=setup.device)
    for number, one in enumerate(sequential_batches(setup.data, everything, batch.seq_len, at_once)):
        if number % strategy.world == strategy.rank:
            one = one.to(setup.device)
            with torch.no_grad():
                values[one.table["source"]] = answer_logprobs(setup.model, one).float()
    reference = strategy.total(values).cpu().numpy()
    if strategy.is_main and setup.run.is_dir():
        with whole_file(path) as partial, partial.open("wb") as file:
            np.savez(file, reference=reference)
    return reference


STAGE = Stage(
    "dpo",
    DPO,
    kind="preference",
    evaluation=HeldOutObjective,
    defaults={
        "batch": {"long_documents": "truncate", "tokens_per_step": 8192},
        "optimizer": {"learning_rate": 0.001},
        "schedule": {"decay": 0.8},
    },
)
