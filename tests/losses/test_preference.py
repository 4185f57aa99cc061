"""The preference loss against its formula in plain Python."""

import math

import pytest
import torch

from minimind.losses.preference import dpo_loss

CHOSEN, REJECTED = [-10.0, -20.0, -7.0], [-12.0, -15.0, -30.0]
REFERENCE_CHOSEN, REFERENCE_REJECTED = [-11.0, -18.0, -9.0], [-12.5, -16.0, -8.0]


def pairs(requires_grad=False):
    columns = (CHOSEN, REJECTED, REFERENCE_CHOSEN, REFERENCE_REJECTED)
    return [torch.tensor(column, dtype=torch.float64, requires_grad=requires_grad) for column in columns]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_losses_and_metrics_by_hand(beta, label_smoothing):
    losses, metrics = dpo_loss(*pairs(), beta, label_smoothing)
    chosen = [beta * difference for difference in (1, -2, 2)]
    rejected = [beta * difference for difference in (0.5, 1, -22)]
    margins = [beta * difference for difference in (0.5, -3, 24)]
    wanted = [
        -(1 - label_smoothing) * math.log(sigmoid(m)) - label_smoothing * math.log(sigmoid(-m)) for m in margins
    ]
    assert losses.tolist() == pytest.approx(wanted, rel=1e-12)
    assert {name: values.tolist() for name, values in metrics.items()} == {
        "accuracy": [1, 0, 1],
        "margin": pytest.approx(margins, rel=1e-12),
        "reward_chosen": pytest.approx(chosen, rel=1e-12),
        "reward_rejected": pytest.approx(rejected, rel=1e-12),
    }


def test_the_gradient_pulls_pairs_apart_most_where_the_order_is_wrong():
    """Equation 7 of the paper: β · σ(−margin) toward the chosen answer, as much away from the rejected one."""
    chosen, rejected, *reference = pairs(requires_grad=True)
    losses, _ = dpo_loss(chosen, rejected, *reference, beta=0.5)
    toward, away = torch.autograd.grad(losses.sum(), [chosen, rejected])
    assert toward.tolist() == pytest.approx([-0.5 * sigmoid(-margin) for margin in (0.25, -1.5, 12)], rel=1e-9)
    assert torch.equal(away, -toward)


def test_the_loss_of_the_reference_itself_is_log_2():
    chosen, rejected, *_ = pairs()
    losses, metrics = dpo_loss(chosen, rejected, chosen, rejected)
    assert losses.tolist() == pytest.approx([math.log(2)] * 3)
    assert (metrics["accuracy"] == 0).all()


def test_with_label_smoothing_the_best_margin_is_finite():
    """Where σ(margin) = 1 − ε."""
    best = torch.tensor([math.log(0.9 / 0.1)], dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(1, dtype=torch.float64)
    losses, _ = dpo_loss(best, zero, zero, zero, beta=1.0, label_smoothing=0.1)
    assert torch.autograd.grad(losses.sum(), best)[0].item() == pytest.approx(0, abs=1e-12)


def test_far_margins_stay_finite():
    far, zero = torch.tensor([-1e4, 1e4]), torch.zeros(2)
    assert dpo_loss(far, zero, zero, zero)[0].tolist() == pytest.approx([1e3, 0])
