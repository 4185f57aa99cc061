"""Sizes that change from step to step are padded where each new one costs memory: few sizes, the same results."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minimind.hardware import kibibytes, padded_size, proc_value
from minimind.losses import cross_entropy, logprobs
from minimind.model.attention import document_mask, reference_attention
from minimind.model.kernels import grouped_matmul, varlen_attention
from minimind.model.moe import dispatch_grouped, dispatch_loop

HALF = torch.zeros(0, dtype=torch.bfloat16)


@pytest.fixture
def always_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in half precision, but in a type whose results can be compared exactly."""
    for module in (varlen_attention, grouped_matmul, cross_entropy, logprobs):
        monkeypatch.setattr(module, "padded_size", lambda size, like: padded_size(size, HALF))


@given(st.integers(0, 2**20))
@settings(deadline=None)
def test_a_size_grows_by_little(size: int) -> None:
    padded = padded_size(size, HALF)
    assert padded % 32 == 0
    assert size <= padded < size + max(32, size / 8 + 1)
    assert padded_size(padded, HALF) == padded
    assert padded_size(size, HALF.float()) == size


def test_sizes_are_few() -> None:
    assert len({padded_size(size, HALF) for size in range(1, 2**15 + 1)}) == 8 + 8 * 7  # 2**8 to 2**15


@pytest.mark.usefixtures("always_padded")
@pytest.mark.parametrize("lengths", [[70], [1, 32, 7, 30], [33, 37], [5, 65]])
def test_attention_is_the_same(lengths: list[int]) -> None:
    documents = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)).expand(2, -1)
    documents = documents + torch.tensor([[0], [10]])
    generator = torch.Generator().manual_seed(0)
    *tensors, gradient = (
        torch.randn(2, 70, heads, 8, generator=generator, dtype=torch.float64).transpose(1, 2)
        for heads in (6, 2, 2, 6)
    )
    query, key, value = (tensor.requires_grad_() for tensor in tensors)
    boundaries = varlen_attention.document_boundaries(documents)
    found = varlen_attention.varlen_attention(query, key, value, boundaries)
    wanted = reference_attention(query, key, value, document_mask(documents))
    gradients = [torch.autograd.grad(mixed, (query, key, value), gradient) for mixed in (found, wanted)]
    for ours, reference in zip((found, *gradients[0]), (wanted, *gradients[1])):
        assert (ours - reference).abs().max() <= 1e-12


@pytest.mark.usefixtures("always_padded")
@pytest.mark.parametrize("tokens", [1, 40, 131])
def test_experts_are_the_same(tokens: int) -> None:
    generator = torch.Generator().manual_seed(tokens)
    x, gate, up, down = (
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in ((tokens, 8), (5, 6, 8), (5, 6, 8), (5, 8, 6))
    )
    scores = torch.rand(tokens, 5, generator=generator, dtype=torch.float64) * torch.tensor([1, 4, 0, 2, 1])
    weights, chosen = scores.topk(2)
    found, wanted = (dispatch(x, chosen, weights, gate, up, down) for dispatch in (dispatch_grouped, dispatch_loop))
    assert (found - wanted).abs().max() <= 1e-12
    for ours, reference in zip(
        *(torch.autograd.grad(out.square().sum(), (x, gate, up, down)) for out in (found, wanted))
    ):
        assert (ours - reference).abs().max() <= 1e-9


@pytest.mark.usefixtures("always_padded")
@pytest.mark.parametrize("positions", [1, 50, 300])
def test_losses_are_the_same(positions: int) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in ((positions, 8), (17, 8))
    )
    targets = torch.randint(0, 17, (positions,), generator=generator)
    found, _ = logprobs.linear_logprobs(hidden, weight, targets)
    assert found.shape == (positions,)
    sums = [
        -found.sum(),
        *(loss(hidden, weight, targets) for loss in (cross_entropy.linear_cross_entropy, cross_entropy.reference)),
    ]
    gradients = [torch.autograd.grad(one, (hidden, weight)) for one in sums]
    for ours, of_hidden, of_weight in ((one, *pair) for one, pair in zip(sums, gradients)):
        assert (ours - sums[-1]).abs() <= 1e-9 * sums[-1].abs()
        assert (of_hidden - gradients[-1][0]).abs().max() <= 1e-12
        assert (of_weight - gradients[-1][1]).abs().max() <= 1e-9


def resident() -> int:
    return kibibytes(proc_value("/proc/self/status", "VmRSS") or "0 kB")


@pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="bf16 is not native here: no program is written"
)
@pytest.mark.skipif(not resident(), reason="reads memory as Linux tells it")
def test_memory_does_not_grow_with_new_sizes() -> None:
    """60 steps with documents and numbers of targets that never come again: 7 MB each where every size is kept."""
    choose = random.Random(0)
    weight = torch.randn(512, 64, requires_grad=True)

    def step() -> None:
        cuts = [0]
        while cuts[-1] < 512:
            cuts.append(min(512, cuts[-1] + choose.randint(1, 250)))
        query, key, value = (torch.randn(1, 2, 512, 32).bfloat16().requires_grad_() for _ in range(3))
        varlen_attention.varlen_attention(query, key, value, torch.tensor(cuts, dtype=torch.int32)).sum().backward()
        positions = choose.randint(1, 900)
        hidden = torch.randn(positions, 64).bfloat16().requires_grad_()
        cross_entropy.linear_cross_entropy(hidden, weight, torch.randint(0, 512, (positions,))).backward()

    for _ in range(30):
        step()
    before = resident()
    for _ in range(60):
        step()
    assert resident() - before < 60e6
