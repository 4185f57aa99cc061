"""The policy loss against numbers worked out by hand."""

import math

import pytest
import torch

from minimind.losses.policy import clipped_policy_loss, k3

# Ratios 1, 1.5, 1.5, 0.5, 0.5, then a position that is no answer.
RATIOS = [1.0, 1.5, 1.5, 0.5, 0.5, 3.0]
ADVANTAGES = [2.0, 2.0, -2.0, 2.0, -2.0, 2.0]
MASK = [1, 1, 1, 1, 1, 0]


def tokens():
    old = torch.tensor([[-1.0, -2.0, -3.0, -0.5, -4.0, -1.0]], dtype=torch.float64)
    logprobs = (old + torch.tensor([RATIOS], dtype=torch.float64).log()).requires_grad_()
    return logprobs, old, torch.tensor([ADVANTAGES], dtype=torch.float64), torch.tensor([MASK])


def test_losses_by_hand():
    losses, _ = clipped_policy_loss(*tokens())
    # A good token gains up to 1.2 only; a bad one is charged in full above, and no less than 0.8 below.
    assert losses[0].tolist() == pytest.approx([-2.0, -2.4, 3.0, -1.0, 1.6, 0.0], rel=1e-12)


def test_clipped_tokens_have_no_gradient():
    logprobs, *others = tokens()
    losses, metrics = clipped_policy_loss(logprobs, *others)
    gradient = torch.autograd.grad(losses.sum(), logprobs)[0][0]
    assert gradient.tolist() == pytest.approx([-2.0, 0.0, 3.0, -1.0, 0.0, 0.0], rel=1e-12)  # −r · A
    assert metrics["clip_fraction"][0].tolist() == [0, 1, 0, 0, 1, 0]


def test_bounds_of_their_own():
    losses, metrics = clipped_policy_loss(*tokens(), clip_low=0.6, clip_high=0.4)
    assert losses[0].tolist() == pytest.approx([-2.0, -2.8, 3.0, -1.0, 1.0, 0.0], rel=1e-12)
    assert metrics["clip_fraction"][0].tolist() == [0, 1, 0, 0, 0, 0]


def test_the_policy_that_sampled_gets_the_plain_policy_gradient():
    _, old, advantages, mask = tokens()
    logprobs = old.clone().requires_grad_()
    losses, metrics = clipped_policy_loss(logprobs, old, advantages, mask)
    assert torch.equal(torch.autograd.grad(losses.sum(), logprobs)[0], -advantages * mask)
    assert all((values == 0).all() for values in metrics.values())


def test_kl_to_a_reference():
    logprobs, old, advantages, mask = tokens()
    away = torch.tensor([[0.0, 0.5, -0.5, 1.0, 0.0, 1.0]], dtype=torch.float64)  # log π_ref − log π
    plain, _ = clipped_policy_loss(logprobs, old, advantages, mask)
    losses, metrics = clipped_policy_loss(
        logprobs, old, advantages, mask, kl_weight=0.1, reference_logprobs_BT=logprobs.detach() + away
    )
    wanted = [0.0, math.exp(0.5) - 1.5, math.exp(-0.5) - 0.5, math.e - 2, 0.0, 0.0]
    assert metrics["reference_kl"][0].tolist() == pytest.approx(wanted, abs=1e-12)
    assert (losses - plain)[0].tolist() == pytest.approx([0.1 * kl for kl in wanted], abs=1e-12)
    assert not any(values.requires_grad for values in metrics.values())
    wanted = [r - 1 - math.log(r) for r in RATIOS[:5]] + [0.0]
    assert metrics["approx_kl"][0].tolist() == pytest.approx(wanted, abs=1e-12)


def test_k3_is_the_kl_on_average():
    p, q = (torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    p, q = p.log_softmax(-1), q.log_softmax(-1)
    exact = (p.exp() * (p - q)).sum()
    assert (p.exp() * k3(p, q)).sum().item() == pytest.approx(exact.item(), rel=1e-12)
    assert (k3(p, q) >= 0).all()
