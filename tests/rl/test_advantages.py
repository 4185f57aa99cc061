"""Advantages of the answers of a group."""

import numpy as np
import pytest

from minimind.rl.advantages import group_advantages


def test_by_hand():
    rewards = np.array([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    groups = np.array([7, 7, 7, 7, 9, 9])
    above, below = 0.75 / np.sqrt(0.1875), -0.25 / np.sqrt(0.1875)
    assert group_advantages(rewards, groups) == pytest.approx([above, below, below, below, 1, -1])
    plain = group_advantages(rewards, groups, scale=False)
    assert plain == pytest.approx([0.75, -0.25, -0.25, -0.25, 0.5, -0.5])


def test_each_group_has_mean_zero_and_deviation_one_wherever_its_answers_stand():
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat([3, 1, 8], [4, 9, 6]))
    rewards = rng.normal(5, 3, len(groups)) * (1 + groups)
    advantages = group_advantages(rewards, groups)
    assert advantages.dtype == np.float32
    for group in (1, 3, 8):
        assert advantages[groups == group].mean() == pytest.approx(0, abs=1e-6)
        assert advantages[groups == group].std() == pytest.approx(1, abs=1e-6)


def test_equal_rewards_say_nothing():
    rewards = np.array([0.1] * 3 + [1.0] + [0.0, 1.1])  # of 0.1 three times, the rounded deviation is not 0
    advantages = group_advantages(rewards, np.array([0, 0, 0, 1, 2, 2]))
    assert advantages.tolist() == pytest.approx([0, 0, 0, 0, -1, 1])
