"""Distillation by chunks against the obvious way, against trl's, and by hand."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from trl.experimental.gkd import GKDTrainer

from minimind.losses import cross_entropy
from minimind.losses.distillation import TeacherStates, TopK, linear_distillation, reference, top_k

N, D, V, E = 37, 16, 50, 24  # E: the teacher is wider
ALL = [("forward_kl", 0.5), ("reverse_kl", 0.5), ("js", 0.5), ("js", 0.1)]
kinds = pytest.mark.parametrize(("divergence", "beta"), ALL)


@pytest.fixture(params=["one chunk", "chunks of 8 rows"])
def chunk_logits(request, monkeypatch):
    size = {"one chunk": 2**23, "chunks of 8 rows": 8 * V + 3}[request.param]
    monkeypatch.setattr(cross_entropy, "CHUNK_LOGITS", size)


def inputs(dtype, weight_dtype=None):
    torch.manual_seed(0)
    hidden = torch.randn(N, D, dtype=dtype, requires_grad=True)
    weight = torch.randn(V, D, dtype=weight_dtype or dtype, requires_grad=True)
    teacher_weight = torch.randn(V, E, dtype=dtype)
    teacher = TeacherStates(torch.randn(N, E, dtype=dtype), lambda hidden: hidden @ teacher_weight.T)
    return hidden, weight, torch.randint(0, V, (N,)), teacher


def teachers(states, temperature, which):
    if which == "all logits":
        return states
    count = {"the likeliest 6": 6, "all as likeliest": V}[which]
    return top_k(states, count, temperature)


def loss_and_gradients(loss, hidden, weight):
    return loss.detach(), *torch.autograd.grad(loss * 0.7, [hidden, weight])


def relative(found, wanted):
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


@kinds
@pytest.mark.parametrize("which", ["all logits", "the likeliest 6", "all as likeliest"])
@pytest.mark.parametrize(("alpha", "temperature"), [(0.0, 1.0), (0.3, 2.5)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.usefixtures("chunk_logits")
def test_equals_the_reference(dtype, tolerance, alpha, temperature, which, divergence, beta):
    hidden, weight, targets, states = inputs(dtype)
    teacher = teachers(states, temperature, which)
    options = (alpha, temperature, divergence, beta)
    wanted = loss_and_gradients(reference(hidden, weight, targets, teacher, *options), hidden, weight)
    found = loss_and_gradients(linear_distillation(hidden, weight, targets, teacher, *options).loss, hidden, weight)
    for ours, theirs in zip(found, wanted):
        assert ours.dtype == theirs.dtype
        assert relative(ours, theirs) <= tolerance


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("which", ["all logits", "all as likeliest"])
def test_equals_trl(beta, temperature, which):
    """GKD's divergence, which knows no alpha and no T²; its beta 0 and 1 are forward and reverse KL. To fp16 where
    the teacher's log-probabilities are kept in it."""
    hidden, weight, targets, states = inputs(torch.float64)
    student, teacher_logits = hidden @ weight.T, states.head(states.hidden_ND)
    theirs = GKDTrainer.generalized_jsd_loss(
        student[None], teacher_logits[None], targets[None], beta, temperature, reduction="sum"
    )
    divergence = {0.0: "forward_kl", 1.0: "reverse_kl"}.get(beta, "js")
    teacher = teachers(states, temperature, which)
    sums = linear_distillation(hidden, weight, targets, teacher, 0.0, temperature, divergence, beta)
    wanted = loss_and_gradients(theirs * temperature**2, hidden, weight)
    for ours, of_trl in zip(loss_and_gradients(sums.loss, hidden, weight), wanted):
        assert relative(ours, of_trl) <= (1e-9 if which == "all logits" else 2**-10)
    assert relative(sums.kl, theirs) <= (1e-9 if which == "all logits" else 2**-10)


def test_by_hand():
    """One position, four tokens; the teacher's two likeliest, and the others together."""
    q, p = torch.tensor([0.5, 0.25, 0.125, 0.125]).double(), torch.tensor([0.25, 0.5, 0.1875, 0.0625]).double()
    hidden, weight = torch.ones(1, 1).double(), q.log()[:, None]
    teacher = TopK(torch.tensor([[1, 0]]), torch.tensor([[0.5, 0.25, 0.25]]).double().log())
    found = linear_distillation(hidden, weight, torch.tensor([3]), teacher, 0.25, 1.0, "forward_kl")
    lumped = 0.5 * math.log(2) + 0.25 * math.log(0.5)
    assert found.kl.item() == pytest.approx(lumped, rel=1e-12)
    assert found.ce.item() == pytest.approx(3 * math.log(2), rel=1e-12)
    assert found.loss.item() == pytest.approx(0.25 * 3 * math.log(2) + 0.75 * lumped, rel=1e-12)
    assert found.agreement == 0
    states = TeacherStates(torch.ones(1, 1).double(), lambda hidden: hidden * p.log())
    whole = linear_distillation(hidden, weight, torch.tensor([3]), states, 0.0, 1.0, "reverse_kl")
    assert whole.kl.item() == pytest.approx(float((q * (q / p).log()).sum()), rel=1e-12)


@kinds
def test_lumping_never_adds_to_the_divergence(divergence, beta):
    hidden, weight, targets, states = inputs(torch.float64)
    found = [
        linear_distillation(hidden, weight, targets, teacher, 0.0, 1.0, divergence, beta).kl
        for teacher in (*(top_k(states, k) for k in (1, 5, 20)), states)
    ]
    assert all(smaller < larger for smaller, larger in itertools.pairwise(found))


@kinds
@pytest.mark.parametrize("which", ["all logits", "the likeliest 6"])
def test_gradients_by_finite_differences(which, divergence, beta):
    hidden, weight, targets, states = inputs(torch.float64)
    teacher = teachers(states, 2.0, which)
    loss = lambda h, w: linear_distillation(h, w, targets, teacher, 0.3, 2.0, divergence, beta).loss  # noqa: E731
    assert torch.autograd.gradcheck(loss, [hidden, weight], fast_mode=True)


@kinds
@pytest.mark.parametrize("which", ["all logits", "the likeliest 6"])
def test_bf16_hidden_states_with_fp32_masters(which, divergence, beta):
    """With rows added to make the sizes round, which count for nothing."""
    hidden, weight, targets, states = inputs(torch.bfloat16, torch.float32)
    teacher = teachers(states, 2.0, which)
    options = (0.3, 2.0, divergence, beta)
    sums = linear_distillation(hidden, weight, targets, teacher, *options)
    found = loss_and_gradients(sums.loss, hidden, weight)
    plain = loss_and_gradients(reference(hidden, weight, targets, teacher, *options), hidden, weight)
    exact = [tensor.detach().double().requires_grad_() for tensor in (hidden, weight)]
    wanted = loss_and_gradients(reference(*exact, targets, teacher, *options), *exact)
    assert [tensor.dtype for tensor in found] == [torch.float32, torch.bfloat16, torch.float32]
    for ours, theirs, truth in zip(found, plain, wanted):
        assert relative(ours, truth) <= max(2 * relative(theirs, truth), 2**-8)
    assert 0 <= sums.agreement <= N


def test_what_is_only_looked_at():
    hidden, weight, targets, states = inputs(torch.float64)
    student, wanted = hidden @ weight.T, states.head(states.hidden_ND)
    agreement = (student.argmax(-1) == wanted.argmax(-1)).sum()
    for teacher in (states, top_k(states, 3, 2.0)):
        sums = linear_distillation(hidden, weight, targets, teacher, 0.5, 2.0)
        assert sums.ce.item() == pytest.approx(F.cross_entropy(student, targets, reduction="sum").item())
        assert sums.agreement == agreement
        assert not any(one.requires_grad for one in sums[1:])
    same = linear_distillation(hidden, weight, targets, TeacherStates(hidden.detach(), lambda h: h @ weight.T), 0.5)
    assert same.agreement == N
    assert abs(same.kl) < 1e-9


def test_a_frozen_output_gets_no_gradient():
    hidden, weight, targets, teacher = inputs(torch.float64)
    linear_distillation(hidden, weight.detach(), targets, teacher, 0.5).loss.backward()
    assert weight.grad is None
    assert hidden.grad.abs().max() > 0


def test_no_positions_give_nothing():
    hidden, weight, targets, teacher = inputs(torch.float32)
    nothing = TeacherStates(teacher.hidden_ND[:0], teacher.head)
    sums = linear_distillation(hidden[:0], weight, targets[:0], nothing, 0.5)
    assert all(one == 0 for one in sums)
    assert (torch.autograd.grad(sums.loss, weight)[0] == 0).all()


def test_outcomes_too_unlikely_for_a_float(chunk_logits):
    """A student that is sure of one token leaves no probability to the others; a teacher's likewise."""
    hidden, weight, targets, states = inputs(torch.float32)
    hidden = (hidden * 100).detach().requires_grad_()
    sure = TeacherStates(200 * states.hidden_ND, states.head)
    for teacher in (states, top_k(states, 2), top_k(sure, 2)):
        for divergence, beta in ALL:
            sums = linear_distillation(hidden, weight, targets, teacher, 0.5, 1.0, divergence, beta)
            found = loss_and_gradients(sums.loss, hidden, weight)
            assert all(one.isfinite().all() for one in found)
