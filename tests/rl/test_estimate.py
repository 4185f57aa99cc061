"""From rewards to columns of tokens: what is said by others gets none of them."""

import numpy as np
import pytest

from minimind.rl.advantages import gae
from minimind.rl.estimate import Estimator, informative_first, means_of
from minimind.rl.types import Prompt, Rollout
from minimind.stage_options import RLOptions
from minimind.stages.rl import ALGORITHMS

# Two turns: what is asked, three tokens, a tool's result of two tokens, two tokens.
MASKS = [[0, 0, 1, 1, 1, 0, 0, 1, 1], [0, 1, 1, 0, 0, 0, 1, 1, 1]]


def rollouts(rewards=(1.0, 0.25, 0.0, 0.25), groups=(0, 0, 1, 1)):
    rng, made = np.random.default_rng(0), []
    for number, (reward, group) in enumerate(zip(rewards, groups)):
        mask = MASKS[number % 2]
        noise = rng.normal(size=(3, len(mask)))  # also where nothing was sampled
        columns = {"reference": noise[0] - 2, "values": noise[1]}
        made.append(
            Rollout(
                Prompt([{"role": "user", "content": str(group)}], (), lambda _: 0.0), [*range(len(mask))], mask,
                (noise[2] - 2).tolist(), [], "", "stop", {"correct": reward}, reward, group, columns,
            )
        )  # fmt: skip
    return made


@pytest.mark.parametrize("name", ALGORITHMS)
def test_what_an_environment_said_has_neither_mask_nor_columns(name):
    made = rollouts()
    documents = Estimator(RLOptions(**ALGORITHMS[name])).documents(made)
    assert sum(map(sum, documents.masks)) == 20 * len(documents.ids) / 4
    assert set(documents.columns) >= {"logprobs", "reference"}
    for name, columns in documents.columns.items():
        for column, mask in zip(columns, documents.masks):
            assert not column[mask == 0].any(), name
            if name in ("logprobs", "reference", "values"):
                assert column[mask == 1].all(), name


def test_a_trajectory_goes_on_behind_what_an_environment_said():
    """GAE over the sampled tokens alone, the reward at the last, a penalty at each; whitened over all tokens."""
    options = RLOptions(advantage="gae", kl_in="reward", kl_weight=0.5, gamma=0.9, gae_lambda=0.8)
    made = rollouts()
    documents = Estimator(options).documents(made)
    wanted = []
    for one in made:
        at = np.flatnonzero(one.mask)
        earned = -0.5 * (np.array(one.logprobs)[at] - one.columns["reference"][at])
        earned[-1] += one.reward
        wanted.append(gae(earned, one.columns["values"][at], 0.9, 0.8))
    every = np.concatenate(wanted)
    for number, one in enumerate(made):
        at = np.flatnonzero(one.mask)
        advantages, returns = (documents.columns[name][number][at] for name in ("advantages", "returns"))
        assert advantages == pytest.approx((wanted[number] - every.mean()) / every.std(), abs=1e-6)
        assert returns == pytest.approx(wanted[number] + one.columns["values"][at], abs=1e-6)


def test_a_penalty_in_the_reward_is_of_the_whole_answer():
    """Where an answer has one advantage: R − β · Σ log(π / π_ref)."""
    made = rollouts()
    options = RLOptions(advantage="leave_one_out", kl_in="reward", kl_weight=0.1)
    earned = [
        one.reward - 0.1 * sum((p - q) * m for p, q, m in zip(one.logprobs, one.columns["reference"], one.mask))
        for one in made
    ]
    documents = Estimator(options).documents(made)
    wanted = [earned[0] - earned[1], earned[1] - earned[0], earned[2] - earned[3], earned[3] - earned[2]]
    found = [column[mask == 1][0] for column, mask in zip(documents.columns["advantages"], documents.masks)]
    assert found == pytest.approx(wanted, abs=1e-6)


def test_the_best_answer_is_preferred_to_the_worst():
    made = rollouts(rewards=(0.5, 1.0, 0.0, 0.3, 0.3), groups=(4, 4, 4, 9, 9))
    documents = Estimator(RLOptions(loss="dpo")).documents(made)
    assert documents.group == 2
    assert documents.document_columns["reward"].tolist() == pytest.approx([1.0, 0.0, 0.3, 0.3])
    assert documents.document_columns["differs"].tolist() == [True, True, False, False]


def test_groups_that_differ_come_first():
    made = rollouts(rewards=(1, 1, 0, 1, 0, 0, 1, 0), groups=(0, 0, 1, 1, 2, 2, 3, 3))
    assert [one.group for one in informative_first(made, 2)] == [1, 1, 3, 3]
    assert [one.group for one in informative_first(made, 3)] == [0, 0, 1, 1, 3, 3]
    assert means_of(made) == {
        "reward": 0.5,
        "reward_correct": 0.5,
        "length": 5.0,
        "reward_std": 0.5,
        "informative": 0.5,
    }
