"""From rewards to what is trained on: sampled answers, each token with its advantage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minimind.data.batches.documents import MemoryDocuments
from minimind.rl.advantages import (
    batch_advantages,
    gae,
    group_advantages,
    informative,
    leave_one_out,
)
from minimind.rl.rollout import to_documents
from minimind.rl.trackers import AdaptiveWeight, Values
from minimind.rl.types import Rollout, columns_of_parts
from minimind.stage_options import RLOptions


class Estimator:
    """An algorithm's advantages, and what it remembers for them from one rollout to the next."""

    def __init__(self, options: RLOptions) -> None:
        self.options = options
        self.values = Values() if options.advantage == "tracker" else None
        self.weight = AdaptiveWeight(options.kl_weight, options.kl_target) if options.kl_target else None

    def documents(self, rollouts: Sequence[Rollout]) -> MemoryDocuments:
        """What is trained on: all rollouts with advantages, or pairs of them."""
        if self.options.loss == "dpo":
            return best_and_worst(rollouts)
        penalties = [self.penalties(one) for one in rollouts]
        if self.weight is not None:
            self.weight.update(divergence(rollouts))
        if self.options.advantage == "gae":
            return to_documents(rollouts, self.by_token(rollouts, penalties))
        rewards = np.array([one.reward + kl.sum() for one, kl in zip(rollouts, penalties)])
        return to_documents(rollouts, {"advantages": self.by_answer(rollouts, rewards).tolist()})

    def by_answer(self, rollouts: Sequence[Rollout], rewards_R: np.ndarray) -> np.ndarray:
        groups_R = np.array([one.group for one in rollouts])
        match self.options.advantage:
            case "group_mean":
                return group_advantages(rewards_R, groups_R, scale=False)
            case "leave_one_out":
                return leave_one_out(rewards_R, groups_R)
            case "batch":
                return batch_advantages(rewards_R)
            case "tracker":
                assert self.values is not None
                return batch_advantages(self.values.advantages([one.prompt for one in rollouts], rewards_R))
        return group_advantages(rewards_R, groups_R)

    def by_token(self, rollouts: Sequence[Rollout], penalties: Sequence[np.ndarray]) -> dict[str, list[np.ndarray]]:
        """Advantages, of mean 0 and standard deviation 1 over all sampled tokens, and what the critic is to say."""
        options, masks = self.options, [np.array(one.mask, bool) for one in rollouts]
        advantages, returns = [], []
        for one, penalty, mask in zip(rollouts, penalties, masks):
            rewards_T, values_T = penalty[mask], one.columns["values"][mask]
            rewards_T[-1:] += one.reward
            advantages.append(gae(rewards_T, values_T, options.gamma, options.gae_lambda))
            returns.append(advantages[-1] + values_T)
        whitened = np.split(
            batch_advantages(np.concatenate(advantages)), np.cumsum([len(a) for a in advantages])[:-1]
        )
        return {"advantages": list(map(spread, whitened, masks)), "returns": list(map(spread, returns, masks))}

    def penalties(self, rollout: Rollout) -> np.ndarray:
        """What each token costs for leaving the reference, where that is part of the reward: −β · log(π / π_ref)
        (Ziegler et al. 2019, arXiv:1909.08593, equation 2)."""
        if self.options.kl_in == "loss":
            return np.zeros(len(rollout.ids))
        weight = self.options.kl_weight if self.weight is None else self.weight.weight
        return -weight * np.array(rollout.mask) * (np.array(rollout.logprobs) - rollout.columns["reference"])

    def state_dict(self) -> dict[str, Any]:
        parts = {"values": self.values, "weight": self.weight}
        return {name: part.state_dict() for name, part in parts.items() if part is not None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.values is not None:
            self.values.load_state_dict(state["values"])
        if self.weight is not None:
            self.weight.load_state_dict(state["weight"])


def spread(values_T: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The values of sampled tokens at their places, 0 elsewhere."""
    out = np.zeros(len(mask), np.float32)
    out[mask] = values_T
    return out


def divergence(rollouts: Sequence[Rollout]) -> float:
    """KL of the policy that sampled from the reference, in nats per token: the mean of `losses.policy.k3`."""
    log_ratio = np.concatenate(
        [(one.columns["reference"] - np.array(one.logprobs))[np.array(one.mask, bool)] for one in rollouts]
    )
    return float(np.mean(np.expm1(log_ratio) - log_ratio))


def best_and_worst(rollouts: Sequence[Rollout]) -> MemoryDocuments:
    """Of the answers to each prompt the best, then the worst, as a pair; `differs` is 0 where they are equal."""
    pairs, differs = [], []
    for group in sorted({one.group for one in rollouts}):
        members = [one for one in rollouts if one.group == group]
        best, worst = (choose(members, key=lambda one: one.reward) for choose in (max, min))
        differs += [best.reward > worst.reward] * 2
        pairs += [best, worst]
    documents = to_documents(pairs, {})
    documents.group = 2
    documents.document_columns["differs"] = np.array(differs)
    return documents


def count_informative(rollouts: Sequence[Rollout]) -> int:
    """Groups whose answers differ in reward."""
    return len({one.group for one, differs in zip(rollouts, _informative(rollouts)) if differs})


def informative_first(rollouts: Sequence[Rollout], groups: int) -> list[Rollout]:
    """So many groups of the rollouts: first those whose answers differ in reward."""
    equal = {one.group: not differs for one, differs in zip(rollouts, _informative(rollouts))}
    chosen = set(sorted(equal, key=lambda group: (equal[group], group))[:groups])
    return [one for one in rollouts if one.group in chosen]


def _informative(rollouts: Sequence[Rollout]) -> list[bool]:
    return informative(np.array([r.reward for r in rollouts]), np.array([r.group for r in rollouts])).tolist()


def means_of(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """What metrics.jsonl says of a rollout: mean reward and its parts, the standard deviation of the reward, tokens
    of an answer, and the share of the groups whose answers differ in reward."""
    values: dict[str, list[float]] = {"reward": [one.reward for one in rollouts]}
    values |= {f"reward_{name}": column for name, column in columns_of_parts(rollouts).items()}
    values["length"] = [one.length for one in rollouts]
    means = {name: sum(column) / len(rollouts) for name, column in values.items()}
    means["reward_std"] = float(np.std(values["reward"]))
    groups = len({one.group for one in rollouts})
    return means | ({"informative": count_informative(rollouts) / groups} if groups < len(rollouts) else {})
