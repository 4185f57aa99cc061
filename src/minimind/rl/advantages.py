"""How much better an answer did than was expected of it. What a method expects is its baseline:

| function              | what is expected                                   | used by                       |
|-----------------------|----------------------------------------------------|-------------------------------|
| `group_advantages`    | the mean of the answers to the same prompt         | GRPO, DAPO, CISPO, GSPO       |
| … without `scale`     | the same, in the reward's own units                | Dr. GRPO                      |
| `leave_one_out`       | the mean of the other answers to the same prompt   | RLOO                          |
| `batch_advantages`    | the mean of all answers                            | REINFORCE                     |
| `gae`                 | what a critic says at every token                  | PPO                           |
| `trackers.Values`     | what answers to the prompt earned so far           | SPO                           |

R answers, with a reward and the number of a group each.
"""

from __future__ import annotations

import numpy as np


def group_advantages(rewards_R: np.ndarray, groups_R: np.ndarray, scale: bool = True) -> np.ndarray:
    """(R,) float32: each reward minus its group's mean, over the group's standard deviation.

    GRPO (Shao et al. 2024, arXiv:2402.03300, section 4.1.2): mean 0 and standard deviation 1 in each group. Without
    `scale`, only the mean is taken away, so that nearly solved and nearly hopeless prompts do not count more than
    the others (Dr. GRPO, Liu et al. 2025, arXiv:2503.20783). A group of equal rewards says nothing: zeros.
    """
    advantages_R = np.zeros(len(rewards_R), np.float32)
    for group in np.unique(groups_R):
        members = groups_R == group
        rewards = rewards_R[members].astype(np.float64)
        if rewards.min() < rewards.max():
            advantages_R[members] = (rewards - rewards.mean()) / (rewards.std() if scale else 1)
    return advantages_R


def leave_one_out(rewards_R: np.ndarray, groups_R: np.ndarray) -> np.ndarray:
    """(R,) float32: each reward minus the mean of the others of its group, a baseline that it has no part in.

    RLOO (Kool et al. 2019; Ahmadian et al. 2024, arXiv:2402.14740). It is n / (n − 1) times what is
    above the mean of all n.
    """
    _, group_R, members_G = np.unique(groups_R, return_inverse=True, return_counts=True)
    size_R = members_G[group_R]
    return group_advantages(rewards_R, groups_R, scale=False) * (size_R / np.maximum(size_R - 1, 1)).astype(
        np.float32
    )


def batch_advantages(rewards_R: np.ndarray) -> np.ndarray:
    """(R,) float32: rewards with mean 0 and standard deviation 1 over all answers; equal ones say nothing: zeros.

    As in REINFORCE++ (Hu 2025, arXiv:2501.03262). With one answer a prompt, every answer is of another prompt.
    """
    return group_advantages(rewards_R, np.zeros(len(rewards_R)))


def gae(rewards_T: np.ndarray, values_T: np.ndarray, gamma: float = 1.0, lam: float = 0.95) -> np.ndarray:
    """(T,) float32: the advantages of a trajectory's T sampled tokens.

    Generalized advantage estimation (Schulman et al. 2016, arXiv:1506.02438, equation 16): Σ_l (γλ)^l · δ_{t+l},
    where δ_t = r_t + γ · V_{t+1} − V_t is by how much a token did better than the critic said. λ 1 is all of the
    reward that followed, minus V_t; a smaller one trusts the critic, and varies less. Nothing comes after the last
    token. What an environment said is no step: the next sampled token follows.

    rewards_T  earned at each token: a penalty for leaving the reference, at the last one the reward
    values_T   what the critic expected before each token
    """
    errors_T = rewards_T + gamma * np.append(values_T[1:], 0) - values_T
    advantages_T = np.zeros(len(errors_T))
    after = 0.0
    for t in range(len(errors_T) - 1, -1, -1):
        advantages_T[t] = after = errors_T[t] + gamma * lam * after
    return advantages_T.astype(np.float32)


def informative(rewards_R: np.ndarray, groups_R: np.ndarray) -> np.ndarray:
    """(R,) bool: whether the answers of the group differ in reward; else the group teaches nothing.

    What dynamic sampling keeps (DAPO, Yu et al. 2025, arXiv:2503.14476, equation 11).
    """
    _, group_R = np.unique(groups_R, return_inverse=True)
    low_G, high_G = np.full(len(groups_R), np.inf), np.full(len(groups_R), -np.inf)
    np.minimum.at(low_G, group_R, rewards_R)
    np.maximum.at(high_G, group_R, rewards_R)
    return (low_G < high_G)[group_R]
