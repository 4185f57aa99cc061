"""How much better answers did than expected, by each of the baselines."""

import numpy as np
import pytest

from minimind.rl.advantages import (
    batch_advantages,
    gae,
    group_advantages,
    informative,
    leave_one_out,
)


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


def test_leave_one_out_by_hand():
    """The baseline of each answer is the mean of the others; groups may have any order."""
    rewards, groups = np.array([1.0, 5.0, 0.0, 7.0, 0.5]), np.array([3, 1, 3, 1, 3])
    wanted = [1 - 0.25, 5 - 7, 0 - 0.75, 7 - 5, 0.5 - 0.5]
    assert leave_one_out(rewards, groups) == pytest.approx(wanted, abs=1e-6)


def test_over_the_whole_batch():
    advantages = batch_advantages(np.array([1.0, 0.0, 0.0, 1.0, 3.0]))
    assert advantages == pytest.approx(np.array([0.0, -1, -1, 0, 2]) / np.sqrt(1.2))
    assert not batch_advantages(np.array([0.3, 0.3])).any()


def test_generalized_advantages_by_hand():
    """δ = (0 + 0.5 · 2 − 1, 0 + 0.5 · 4 − 2, 10 − 4) = (0, 0, 6), each worth a quarter of the next one's."""
    rewards, values = np.array([0.0, 0.0, 10.0]), np.array([1.0, 2.0, 4.0])
    assert gae(rewards, values, gamma=0.5, lam=0.5).tolist() == [0.375, 1.5, 6.0]
    assert gae(rewards, values, gamma=1.0, lam=0.0).tolist() == [1.0, 2.0, 6.0]  # δ alone
    assert gae(rewards, values, gamma=1.0, lam=1.0).tolist() == [9.0, 8.0, 6.0]  # what followed, minus the value
    assert gae(np.array([]), np.array([])).shape == (0,)


def test_groups_that_teach_nothing():
    rewards, groups = np.array([1.0, 1.0, 0.0, 1.0, 0.5]), np.array([4, 2, 2, 4, 7])
    assert informative(rewards, groups).tolist() == [False, True, True, False, False]
