"""Chunked log-probabilities of targets against the obvious ones."""

import numpy as np
import pytest
import torch
from tests.random_models import random_ids, random_model

from minimind.data.batches.batch import IGNORE, PADDING
from minimind.data.batches.documents import MemoryDocuments
from minimind.data.batches.loader import pack_once
from minimind.losses import cross_entropy
from minimind.losses.cross_entropy import hidden_states, next_token_nll
from minimind.losses.logprobs import linear_logprobs, reference, target_logprobs, target_logprobs_and_entropy

N, D, V = 37, 16, 50


@pytest.fixture(params=["one chunk", "chunks of 8 rows", "rows one by one"], autouse=True)
def chunk_logits(request, monkeypatch):
    size = {"one chunk": 2**23, "chunks of 8 rows": 8 * V + 3, "rows one by one": 1}[request.param]
    monkeypatch.setattr(cross_entropy, "CHUNK_LOGITS", size)


def inputs(dtype, weight_dtype=None):
    torch.manual_seed(0)
    hidden = torch.randn(N, D, dtype=dtype, requires_grad=True)
    weight = torch.randn(V, D, dtype=weight_dtype or dtype, requires_grad=True)
    return hidden, weight, torch.randint(0, V, (N,))


def values_and_gradients(function, hidden, weight, targets):
    """Of a loss whose gradient depends on the values, with both signs and a zero."""
    values = function(hidden, weight, targets)
    loss = (values.sin() * torch.linspace(-1, 1, N).to(values.dtype)).sum()
    return values.detach(), *torch.autograd.grad(loss, [hidden, weight])


def relative(found, wanted):
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


def chunked(hidden, weight, targets):
    return linear_logprobs(hidden, weight, targets)[0]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_equal_the_reference(dtype, tolerance):
    found = values_and_gradients(chunked, *inputs(dtype))
    wanted = values_and_gradients(reference, *inputs(dtype))
    for ours, theirs in zip(found, wanted):
        assert ours.dtype == theirs.dtype
        assert relative(ours, theirs) <= tolerance


def test_bf16_hidden_states_with_fp32_masters():
    hidden, weight, targets = inputs(torch.bfloat16, torch.float32)
    found = values_and_gradients(chunked, hidden, weight, targets)
    plain = values_and_gradients(reference, hidden, weight, targets)
    exact = [tensor.detach().double().requires_grad_() for tensor in (hidden, weight)]
    wanted = values_and_gradients(reference, *exact, targets)
    assert [tensor.dtype for tensor in found] == [torch.float32, torch.bfloat16, torch.float32]
    for ours, theirs, truth in zip(found, plain, wanted):
        assert relative(ours, truth) <= max(2 * relative(theirs, truth), 2**-8)


def test_gradients_by_finite_differences():
    hidden, weight, targets = inputs(torch.float64)
    assert torch.autograd.gradcheck(lambda h, w: chunked(h, w, targets), [hidden, weight], fast_mode=True)


def test_entropy():
    hidden, weight, targets = inputs(torch.float64)
    logprobs, entropy = linear_logprobs(hidden, weight, targets, with_entropy=True)
    wanted = torch.distributions.Categorical(logits=hidden @ weight.T).entropy()
    assert relative(entropy, wanted) <= 1e-9
    assert torch.equal(logprobs, chunked(hidden, weight, targets))
    assert not entropy.requires_grad


@pytest.fixture(scope="module")
def model():
    return random_model().cast(torch.float64)


@pytest.fixture(scope="module")
def batch():
    """Documents of several lengths, the later half of each trained on."""
    lengths = [5, 12, 3, 9]
    ids = [random_ids(length, seed=length).numpy() for length in lengths]
    return pack_once(MemoryDocuments(ids, [(np.arange(n) >= n // 2).astype(np.uint8) for n in lengths]), 16)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_of_a_batch_are_those_of_the_model_at_valid_positions(model, batch, temperature):
    hidden = hidden_states(model, batch)
    logits = model.logits(hidden) / temperature
    logprobs, entropy = target_logprobs_and_entropy(model, hidden, batch, temperature)
    valid = batch.targets != IGNORE
    wanted = logits.log_softmax(-1).gather(-1, batch.targets.clamp(min=0)[..., None])[..., 0]
    assert relative(logprobs[valid], wanted[valid]) <= 1e-9
    assert relative(entropy[valid], torch.distributions.Categorical(logits=logits).entropy()[valid]) <= 1e-9
    assert (batch.documents == PADDING).any()
    assert (logprobs[~valid] == 0).all()
    assert (entropy[~valid] == 0).all()


def test_of_all_targets_together_are_the_nll(model, batch):
    hidden = hidden_states(model, batch)
    nll = next_token_nll(model, hidden, batch)
    logprobs = target_logprobs(model, hidden, batch)
    assert -logprobs.sum().item() == pytest.approx(nll.item(), rel=1e-12)
    parameters = list(model.parameters())
    for ours, theirs in zip(torch.autograd.grad(-logprobs.sum(), parameters, retain_graph=True),
                            torch.autograd.grad(nll, parameters)):  # fmt: skip
        assert relative(ours, theirs) <= 1e-9
