"""The reference attention against PyTorch's own, and which of them `attend` takes."""

import pytest
import torch
import torch.nn.functional as F

from minimind.model import attention
from minimind.model.attention import DENSE_MAX_LENGTH, Mask, attend, dense, document_mask


def inputs(dtype: torch.dtype, T: int = 24, S: int = 24) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 6, T, 8), (2, 2, S, 8), (2, 2, S, 8))
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize("queries", [24, 1])
def test_dense_equals_pytorch(dtype: torch.dtype, tolerance: float, queries: int) -> None:
    """Output and gradients, with grouped heads and a random mask."""
    allowed = torch.rand((2, 1, queries, 24), generator=torch.Generator().manual_seed(1)) < 0.5
    allowed[..., 0] = True
    outcomes = []
    for kernel in (dense, lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m, enable_gqa=True)):
        tensors = inputs(dtype, T=queries)
        mixed = kernel(*tensors, allowed)
        mixed.square().sum().backward()
        outcomes.append([mixed.detach(), *(tensor.grad for tensor in tensors)])
    for found, wanted in zip(*outcomes):
        assert found is not None
        assert (found - wanted).abs().max() <= tolerance * wanted.abs().max()


def test_half_precision_sums_in_single() -> None:
    tensors = [tensor.detach() for tensor in inputs(torch.float32)]
    mask = document_mask(torch.zeros(2, 24, dtype=torch.int64))
    wanted = dense(*tensors, mask)
    found = dense(*(tensor.bfloat16() for tensor in tensors), mask)
    assert found.dtype == torch.bfloat16
    assert (found.float() - wanted).abs().max() < 0.03


def test_document_mask() -> None:
    documents = torch.tensor([[0, 0, 1, -1, -1]])
    wanted = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1]]
    assert document_mask(documents)[0, 0].int().tolist() == wanted


@pytest.mark.parametrize(("length", "grad", "is_dense"), [(24, True, True), (24, False, False), (0, True, False)])
def test_the_kernel_is_the_faster_one(
    monkeypatch: pytest.MonkeyPatch, length: int, grad: bool, is_dense: bool
) -> None:
    length = length or DENSE_MAX_LENGTH + 1
    called = []
    monkeypatch.setattr(attention, "dense", lambda q, *_: called.append(True) or q)
    mask = Mask(document_mask(torch.zeros(2, length, dtype=torch.int64)))
    with torch.set_grad_enabled(grad):
        attend(*inputs(torch.float32, length, length), mask)
    assert bool(called) is is_dense
