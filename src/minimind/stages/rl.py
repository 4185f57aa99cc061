"""Reinforcement learning: a model answers prompts, and learns from those of its answers that did better.

The batches are made by the model itself. The prompts are the embedded world's, whose answers can be verified; the
score is the share of held-out questions that it answers rightly, greedily.
"""

from __future__ import annotations

from typing import Any

import torch

from minimind.data.batches.batch import IGNORE, Batch
from minimind.losses.cross_entropy import hidden_states
from minimind.losses.logprobs import target_logprobs_and_entropy
from minimind.losses.policy import clipped_policy_loss
from minimind.model import Transformer
from minimind.rl.evaluation import HeldOutQuestions
from minimind.rl.source import Rollouts, world_prompts
from minimind.stages.stage import Stage
from minimind.train.objective import Objective, Terms
from minimind.train.setup import Setup
from minimind.world.skills import chains


class PolicyGradient(Objective):
    """Σ over sampled tokens of the loss of `losses.policy.clipped_policy_loss`; the unit is a token."""

    shown = (  # and not the loss, which is noise around 0
        "reward {reward:.3f}",
        "held-out {held_out:.1%}",
        "{length:.0f} tokens an answer",
        "KL {reference_kl:.4f}",
        "entropy {entropy:.2f}",
        "rollout {seconds_rollout:.1f} + reward {seconds_reward:.1f} + update {seconds_update:.1f} s",
        "{memory}",
    )

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.options = setup.recipe.rl

    def units(self, batch: Batch) -> dict[str, float]:
        return {"loss": float(batch.num_valid_tokens)}

    def forward(self, model: Transformer, batch: Batch) -> Terms:
        options = self.options
        hidden_BTD = hidden_states(model, batch)
        logprobs_BT, entropy_BT = target_logprobs_and_entropy(model, hidden_BTD, batch, options.temperature)
        mask_BT, columns = batch.targets != IGNORE, batch.columns
        losses_BT, per_token = clipped_policy_loss(
            logprobs_BT, columns["logprobs"], columns["advantages"], mask_BT,
            options.clip_low, options.clip_high, options.kl_weight, columns.get("reference"),
        )  # fmt: skip
        tokens, answers = mask_BT.sum(), torch.ones_like(batch.table["reward"]).sum()
        per_answer = {name: values for name, values in batch.table.items() if name.startswith("reward")}
        metrics = {name: (values.sum(), answers) for name, values in per_answer.items()}
        metrics |= {"length": (tokens, answers), "entropy": (entropy_BT.sum(), tokens)}
        return Terms(
            {"loss": losses_BT.sum()},
            metrics | {name: (values.sum(), tokens) for name, values in per_token.items()},
        )


def _stage(name: str, rl: dict[str, Any]) -> Stage:
    return Stage(
        name,
        PolicyGradient,
        defaults={
            "rl": rl,
            "optimizer": {"name": "adamw", "learning_rate": 0.0003},  # muon makes full-sized steps of mere noise
            "schedule": {"kind": "constant"},
            "budget": {"steps": 100},
            "log_every": 1,
        },
        data=world_prompts,
        source=Rollouts,
        evaluation=HeldOutQuestions,
    )


# What a name stands for, where it is not the options' own defaults.
ALGORITHMS: dict[str, dict[str, Any]] = {
    "grpo": {},
    "agent": {"skills": list(chains.KINDS), "max_tokens": 64},  # several turns, in which tools are called
}
STAGES = [_stage(name, rl) for name, rl in ALGORITHMS.items()]
