"""How much better an answer did than the others of its group: a baseline that needs no value model."""

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
