"""What is remembered between rollouts."""

import numpy as np
import pytest

from minimind.rl.trackers import HALF_LIFE, AdaptiveWeight, Values
from minimind.rl.types import Prompt


def prompt(text, source="sums"):
    return Prompt([{"role": "user", "content": text}], (), lambda _: 0.0, source=source)


def test_what_prompts_earned_is_expected_of_them():
    """A source begins with its first rewards, a prompt with what its source earned."""
    values = Values()
    first = values.advantages([prompt("1"), prompt("2"), prompt("x", "other")], np.array([1.0, 0.0, 0.7]))
    assert first.tolist() == pytest.approx([0.5, -0.5, 0.0])
    # A new prompt counts as 8 answers of its source, kept by 0.96 as the policy has not moved, and one of its own.
    number = 8 * 0.96 + 1
    seen = [0.5 + 0.5 / number, 0.5 - 0.5 / number, 0.7]
    assert [values.expected(prompt(text)) for text in ("1", "2")] == pytest.approx(seen[:2])
    assert values.expected(prompt("x", "other")) == pytest.approx(0.7)
    source = 1 + (0 - 1) / (0.96 + 1)  # of 1 and then 0
    again = values.advantages([prompt("1"), prompt("3")], np.array([1.0, 1.0]))
    assert again.tolist() == pytest.approx([1 - seen[0], 1 - source])


@pytest.mark.parametrize(("half_lives", "kept"), [(0.0, 0.96), (0.1, 2**-0.1), (1.0, 0.875)])
def test_what_was_seen_counts_less_the_further_the_policy_moved(half_lives, kept):
    """As the Beta distribution of the paper: α and β are kept by ρ, then the reward is added."""
    values = Values()
    values.seen["all of sums"] = 0.25, 10.0, 0.0
    values.advantages([prompt("1")], np.array([0.25]))
    mean, number, _ = values.seen[next(key for key in values.seen if not key.startswith("all"))]
    alpha, beta = mean * number, (1 - mean) * number
    values.moved += half_lives * HALF_LIFE
    values.advantages([prompt("1")], np.array([1.0]))
    alpha, beta = kept * alpha + 1, kept * beta
    assert values.expected(prompt("1")) == pytest.approx(alpha / (alpha + beta))


def test_its_state_goes_through_a_checkpoint():
    values, again = Values(), Values()
    values.advantages([prompt("1"), prompt("2")], np.array([1.0, 0.0]))
    values.moved = 0.03
    again.load_state_dict(values.state_dict())
    asked, rewards = [prompt("2"), prompt("3")], np.array([1.0, 0.5])
    assert again.advantages(asked, rewards).tolist() == values.advantages(asked, rewards).tolist()
    assert again.state_dict() == values.state_dict()


def test_the_price_of_leaving_the_reference_follows_its_target():
    weight = AdaptiveWeight(0.1, target=0.2)
    for kl, wanted in ((0.2, 0.1), (0.22, 0.101), (10.0, 0.101 * 1.02), (0.0, 0.101 * 1.02 * 0.98)):
        weight.update(kl)
        assert weight.weight == pytest.approx(wanted)
    again = AdaptiveWeight(0.1, target=0.2)
    again.load_state_dict(weight.state_dict())
    assert again.weight == weight.weight
