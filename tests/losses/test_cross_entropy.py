"""The chunked cross-entropy against the obvious one."""

import pytest
import torch

from minimind.data.batches.batch import IGNORE
from minimind.losses import cross_entropy
from minimind.losses.cross_entropy import linear_cross_entropy, reference

N, D, V = 37, 16, 50


@pytest.fixture(params=["one chunk", "chunks of 8 rows", "rows one by one"], autouse=True)
def chunk_logits(request, monkeypatch):
    size = {"one chunk": 2**23, "chunks of 8 rows": 8 * V + 3, "rows one by one": 1}[request.param]
    monkeypatch.setattr(cross_entropy, "CHUNK_LOGITS", size)


def inputs(dtype, weight_dtype=None):
    torch.manual_seed(0)
    hidden = torch.randn(N, D, dtype=dtype, requires_grad=True)
    weight = torch.randn(V, D, dtype=weight_dtype or dtype, requires_grad=True)
    targets = torch.randint(0, V, (N,))
    targets[::5] = IGNORE
    return hidden, weight, targets


def loss_and_gradients(function, hidden, weight, targets, weights):
    loss = function(hidden, weight, targets, weights)
    return loss.detach(), *torch.autograd.grad(loss * 0.7, [hidden, weight])


def relative(found, wanted):
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_equals_the_reference(dtype, tolerance, weighted):
    hidden, weight, targets = inputs(dtype)
    weights = torch.rand(N, dtype=dtype) if weighted else None
    found = loss_and_gradients(linear_cross_entropy, hidden, weight, targets, weights)
    wanted = loss_and_gradients(reference, hidden, weight, targets, weights)
    for ours, theirs in zip(found, wanted):
        assert ours.dtype == theirs.dtype
        assert relative(ours, theirs) <= tolerance


def test_bf16_hidden_states_with_fp32_masters():
    hidden, weight, targets = inputs(torch.bfloat16, torch.float32)
    found = loss_and_gradients(linear_cross_entropy, hidden, weight, targets, None)
    exact = [tensor.detach().double().requires_grad_() for tensor in (hidden, weight)]
    wanted = loss_and_gradients(reference, *exact, targets, None)
    plain = loss_and_gradients(reference, hidden, weight, targets, None)
    assert [tensor.dtype for tensor in found] == [torch.float32, torch.bfloat16, torch.float32]
    for ours, theirs, truth in zip(found, plain, wanted):
        assert relative(ours, truth) <= max(2 * relative(theirs, truth), 2**-8)


def test_gradients_by_finite_differences():
    hidden, weight, targets = inputs(torch.float64)
    weights = torch.rand(N, dtype=torch.float64)
    loss = lambda h, w: linear_cross_entropy(h, w, targets, weights)  # noqa: E731
    assert torch.autograd.gradcheck(loss, [hidden, weight], fast_mode=True)


def test_ignored_targets_give_nothing():
    hidden, weight, targets = inputs(torch.float32)
    loss, grad_hidden, grad_weight = loss_and_gradients(linear_cross_entropy, hidden, weight, targets, None)
    assert (grad_hidden[::5] == 0).all()
    kept = targets != IGNORE
    alone = loss_and_gradients(linear_cross_entropy, hidden[kept], weight, targets[kept], None)
    assert relative(loss, alone[0]) <= 1e-6
    assert relative(grad_weight, alone[2]) <= 1e-6
    nothing = linear_cross_entropy(hidden, weight, torch.full((N,), IGNORE))
    assert nothing == 0
    assert all((gradient == 0).all() for gradient in torch.autograd.grad(nothing, [hidden, weight]))


def test_without_gradients_none_are_computed(monkeypatch):
    hidden, weight, targets = inputs(torch.float32)
    expected = linear_cross_entropy(hidden, weight, targets).detach()
    monkeypatch.setattr(torch, "mm", None)  # the products of the gradients
    with torch.no_grad():
        assert linear_cross_entropy(hidden, weight, targets) == expected
