"""Policy terms against numbers worked out by hand."""

import math

import pytest
import torch

from minimind.data.batches.batch import Batch
from minimind.losses.policy import (
    answer_means,
    cispo_loss,
    gspo_loss,
    k3,
    ppo_loss,
    reinforce_loss,
    value_loss,
)

# Of one answer: ratios of its tokens.
RATIOS = [1.0, 1.5, 1.5, 0.5, 0.5, 3.0]
ADVANTAGES = [2.0, 2.0, -2.0, 2.0, -2.0, 0.0]
OLD = [-1.0, -2.0, -3.0, -0.5, -4.0, -1.0]


def sampled(ratios=RATIOS, advantages=ADVANTAGES, documents=None, old=None):
    """A sequence of tokens whose probabilities have changed by these ratios, and their log-probabilities now."""
    documents = torch.tensor([documents or [0] * len(ratios)])
    old = torch.tensor([old or OLD[: len(ratios)]], dtype=torch.float64)
    logprobs = (old + torch.tensor([ratios], dtype=torch.float64).log()).requires_grad_()
    columns = {"logprobs": old, "advantages": torch.tensor([advantages], dtype=torch.float64)}
    nothing = torch.zeros_like(documents)
    tokens = torch.bincount(documents[documents >= 0])
    table = {"source": torch.arange(len(tokens)), "tokens": tokens}
    return logprobs, Batch(
        nothing, nothing, nothing, documents, torch.tensor([]), int(tokens.sum()), columns, table
    )


def gradient(losses, logprobs):
    return torch.autograd.grad(losses.sum(), logprobs)[0][0].tolist()


def test_ppo_by_hand():
    """A good token gains up to 1.2 only; a bad one is charged in full above, and no less than 0.8 below."""
    logprobs, batch = sampled()
    losses, clipped = ppo_loss(logprobs, batch)
    assert losses[0].tolist() == pytest.approx([-2.0, -2.4, 3.0, -1.0, 1.6, 0.0], rel=1e-12)
    assert gradient(losses, logprobs) == pytest.approx([-2.0, 0.0, 3.0, -1.0, 0.0, 0.0], rel=1e-12)  # −r · A
    assert clipped[0].tolist() == [0, 1, 0, 0, 1, 0]


def test_ppo_with_bounds_of_their_own():
    logprobs, batch = sampled()
    losses, clipped = ppo_loss(logprobs, batch, clip_low=0.6, clip_high=0.4)
    assert losses[0].tolist() == pytest.approx([-2.0, -2.8, 3.0, -1.0, 1.0, 0.0], rel=1e-12)
    assert clipped[0].tolist() == [0, 1, 0, 0, 0, 0]


def test_ppo_bounds_what_a_bad_token_costs():
    logprobs, batch = sampled([5.0, 5.0, 2.0], [-2.0, 2.0, -2.0])
    losses, clipped = ppo_loss(logprobs, batch, dual_clip=3.0)
    assert losses[0].tolist() == pytest.approx([6.0, -2.4, 4.0], rel=1e-12)
    assert gradient(losses, logprobs) == pytest.approx([0.0, 0.0, 4.0], abs=1e-12)
    assert clipped[0].tolist() == [1, 1, 0]


@pytest.mark.parametrize("loss", [ppo_loss, gspo_loss, cispo_loss, reinforce_loss])
def test_the_policy_that_sampled_gets_the_plain_policy_gradient(loss):
    """−A for each token, or for an answer's tokens in GSPO, whose sum over the answer is the same."""
    logprobs, batch = sampled([1.0] * 6, [2.0, 2.0, -1.0, -1.0, -1.0, 0.0], [0, 0, 1, 1, 1, -1])
    losses, clipped = loss(logprobs, batch)
    assert gradient(losses, logprobs) == pytest.approx([-2.0, -2.0, 1.0, 1.0, 1.0, 0.0], rel=1e-12, abs=1e-12)
    assert not clipped.any()


def test_gspo_by_hand():
    """Two answers in one sequence: of the first the geometric mean of 2 and 0.72 is 1.2, of the second 0.5."""
    ratios, advantages, documents = [2.0, 0.72, 0.5, 0.5, 1.0], [1.0, 1.0, -3.0, -3.0, 0.0], [0, 0, 1, 1, -1]
    logprobs, batch = sampled(ratios, advantages, documents)
    losses, clipped = gspo_loss(logprobs, batch, clip_low=0.6, clip_high=0.3)
    assert losses[0].tolist() == pytest.approx([-1.2, -1.2, 1.5, 1.5, 0.0], rel=1e-12)
    assert not clipped.any()
    # d(mean)/d(log p) is s · A for every token of an answer: 1/2 from each of the two losses.
    assert gradient(losses, logprobs) == pytest.approx([-1.2, -1.2, 1.5, 1.5, 0.0], rel=1e-12)
    logprobs, batch = sampled(ratios, advantages, documents)
    losses, clipped = gspo_loss(logprobs, batch, clip_low=0.1, clip_high=0.1)
    assert losses[0].tolist() == pytest.approx([-1.1, -1.1, 2.7, 2.7, 0.0], rel=1e-12)
    assert clipped[0].tolist() == [1, 1, 1, 1, 0]
    assert gradient(losses, logprobs) == pytest.approx([0.0] * 5, abs=1e-12)


def test_cispo_by_hand():
    """The weight is bounded and has no gradient; every token has one."""
    logprobs, batch = sampled()
    losses, clipped = cispo_loss(logprobs, batch, clip_low=0.4, clip_high=0.2)
    weights = [1.0, 1.2, 1.2, 0.6, 0.6, 1.2]
    assert gradient(losses, logprobs) == pytest.approx([-w * a for w, a in zip(weights, ADVANTAGES)], rel=1e-12)
    wanted = [-w * a * lp for w, a, lp in zip(weights, ADVANTAGES, logprobs[0].tolist())]
    assert losses[0].tolist() == pytest.approx(wanted, rel=1e-12)
    assert clipped[0].tolist() == [0, 1, 1, 1, 1, 1]


def test_reinforce_by_hand():
    """The ratio is a weight, truncated from above."""
    logprobs, batch = sampled([4.0, 1.5, 0.1], [1.0, -2.0, 3.0])
    losses, clipped = reinforce_loss(logprobs, batch)
    assert gradient(losses, logprobs) == pytest.approx([-2.0, 3.0, -0.3], rel=1e-12)
    assert clipped[0].tolist() == [1, 0, 0]


def test_value_loss_by_hand():
    """A value that ran past its bound towards its target rests; one that is off costs the larger error."""
    values = torch.tensor([[1.0, 1.0, 0.1, -1.0]], dtype=torch.float64, requires_grad=True)
    old, returns = torch.zeros(1, 4, dtype=torch.float64), torch.tensor([[2.0, 0.4, 1.0, 1.0]])
    losses, clipped = value_loss(values, old, returns.double(), clip=0.5)
    assert losses[0].tolist() == pytest.approx([1.125, 0.18, 0.405, 2.0], rel=1e-6)
    assert gradient(losses, values) == pytest.approx([0.0, 0.6, -0.9, -2.0], rel=1e-6)
    assert clipped[0].tolist() == [1, 0, 0, 0]
    free, _ = value_loss(values, old, returns.double())
    assert free[0].tolist() == pytest.approx([0.5, 0.18, 0.405, 2.0], rel=1e-6)


def test_means_of_answers_that_share_a_sequence():
    _, batch = sampled([1.0] * 5, [0.0] * 5, [0, 0, 0, 1, -1])
    assert answer_means(torch.tensor([[1.0, 2.0, 6.0, 5.0, 9.0]]), batch).tolist() == [3.0, 5.0]


def test_k3_by_hand():
    away = torch.tensor([0.0, 0.5, -0.5, 1.0], dtype=torch.float64)  # log q − log p
    wanted = [0.0, math.exp(0.5) - 1.5, math.exp(-0.5) - 0.5, math.e - 2]
    assert k3(-away, torch.zeros(4).double()).tolist() == pytest.approx(wanted, abs=1e-12)


def test_k3_is_the_kl_on_average():
    p, q = (torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    p, q = p.log_softmax(-1), q.log_softmax(-1)
    exact = (p.exp() * (p - q)).sum()
    assert (p.exp() * k3(p, q)).sum().item() == pytest.approx(exact.item(), rel=1e-12)
    assert (k3(p, q) >= 0).all()
