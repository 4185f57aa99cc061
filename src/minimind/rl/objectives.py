"""What a model minimizes on sampled answers: one view of all algorithms, and pairs of answers for online DPO."""

from __future__ import annotations

import math

import torch

from minimind.data.batches.batch import IGNORE, Batch
from minimind.losses.cross_entropy import hidden_states
from minimind.losses.logprobs import target_logprobs_and_entropy
from minimind.losses.policy import (
    Learned,
    answer_means,
    cispo_loss,
    gspo_loss,
    k3,
    log_ratios,
    ppo_loss,
    reinforce_loss,
    value_loss,
)
from minimind.losses.preference import dpo_loss
from minimind.model import Transformer
from minimind.rl.critic import Critic
from minimind.train.objective import Objective, Terms
from minimind.train.setup import Setup

Metrics = dict[str, tuple[torch.Tensor, torch.Tensor]]
SHOWN = (  # and not the loss, which is noise around 0
    "reward {reward:.3f}",
    "held-out {held_out:.1%}",
    "{length:.0f} tokens an answer",
    "KL {kl:.4f}",
    "entropy {entropy:.2f}",
    "rollout {seconds_rollout:.1f} + reward {seconds_reward:.1f} + update {seconds_update:.1f} s",
    "{memory}",
)


class PolicyGradient(Objective):
    """Σ of a term of `losses.policy`, and of the KL divergence from the reference; beside it a critic's loss.

    How tokens are averaged (`rl.normalize`) is how many units there are. All tokens of a step weigh the same with
    `token` (DAPO). With `answer` all answers do, so that a token of a long one weighs less (GRPO as published).
    With `constant` the unit is an answer of `rl.max_tokens` tokens, however long it was (Dr. GRPO).
    """

    shown = SHOWN

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.options = setup.recipe.rl
        has_critic = self.options.advantage == "gae"
        self.critic = Critic(setup.model, self.options.critic == "model") if has_critic else None

    def units(self, batch: Batch) -> dict[str, float]:
        answers, tokens = float(batch.num_documents), float(batch.num_valid_tokens)
        units = {"token": tokens, "answer": answers, "constant": answers * self.options.max_tokens}
        return {"loss": units[self.options.normalize]} | ({} if self.critic is None else {"value": tokens})

    def forward(self, model: Transformer, batch: Batch) -> Terms:
        options, columns, mask_BT = self.options, batch.columns, batch.targets != IGNORE
        hidden_BTD = hidden_states(model, batch)
        logprobs_BT, entropy_BT = target_logprobs_and_entropy(model, hidden_BTD, batch, options.temperature)
        losses_BT, clipped_BT = self.policy_term(logprobs_BT, batch)
        seen = {
            "entropy": entropy_BT,
            "clip_fraction": clipped_BT,
            "ratio": log_ratios(logprobs_BT, batch).exp() * mask_BT,
            "approx_kl": k3(columns["logprobs"], logprobs_BT),
        }
        if "reference" in columns:
            seen["kl"] = k3(logprobs_BT, columns["reference"])
            if options.kl_in == "loss":
                losses_BT = losses_BT + options.kl_weight * seen["kl"]
        by_answer = options.normalize == "answer"
        terms = {"loss": (answer_means(losses_BT, batch) if by_answer else losses_BT).sum()}
        if self.critic is not None:
            values_BT = self.critic(hidden_BTD, batch)
            clip = options.value_clip or math.inf
            errors_BT, rests_BT = value_loss(values_BT, columns["values"], columns["returns"], clip)
            terms["value"] = options.value_weight * (errors_BT * mask_BT).sum()
            seen["value_clip_fraction"] = rests_BT * mask_BT
        return Terms(terms, means(seen, mask_BT.sum()))

    def policy_term(self, logprobs_BT: torch.Tensor, batch: Batch) -> Learned:
        low, high = self.options.clip_low, self.options.clip_high
        match self.options.loss:
            case "cispo":
                return cispo_loss(logprobs_BT, batch, low, high)
            case "reinforce":
                return reinforce_loss(logprobs_BT, batch, high)
            case "gspo":
                return gspo_loss(logprobs_BT, batch, low, high)
        return ppo_loss(logprobs_BT, batch, low, high, self.options.dual_clip or math.inf)


class OnlineDPO(Objective):
    """Σ over pairs of `losses.preference.dpo_loss`: of the answers to a prompt, the best is preferred to the worst.

    Guo et al. 2024 (arXiv:2402.04792), with rewards in the place of a judge. The unit is a pair, whose answers must
    differ in reward.
    """

    shown = SHOWN

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.options = setup.recipe.rl

    def units(self, batch: Batch) -> dict[str, float]:
        return {"loss": float(batch.table["differs"].sum()) / 2}

    def forward(self, model: Transformer, batch: Batch) -> Terms:
        hidden_BTD, reference_BT = hidden_states(model, batch), batch.columns["reference"]
        logprobs_BT, entropy_BT = target_logprobs_and_entropy(model, hidden_BTD, batch, self.options.temperature)
        best_P, worst_P = batch.sum_by_document(logprobs_BT).view(-1, 2).unbind(1)
        reference_best_P, reference_worst_P = batch.sum_by_document(reference_BT).view(-1, 2).unbind(1)
        losses_P, compared = dpo_loss(best_P, worst_P, reference_best_P, reference_worst_P, self.options.beta)
        differs_P = batch.table["differs"].view(-1, 2)[:, 0].to(losses_P.dtype)
        per_token = {"entropy": entropy_BT, "kl": k3(logprobs_BT, reference_BT)}
        per_pair = {name: compared[name] * differs_P for name in ("accuracy", "margin")}
        tokens = (batch.targets != IGNORE).sum()
        return Terms(
            {"loss": (losses_P * differs_P).sum()}, means(per_token, tokens) | means(per_pair, differs_P.sum())
        )


def means(values: dict[str, torch.Tensor], count: torch.Tensor) -> Metrics:
    return {name: (one.detach().sum(), count) for name, one in values.items()}
