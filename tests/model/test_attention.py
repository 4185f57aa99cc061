"""The reference attention against PyTorch's own, and which of them `attend` takes."""

from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.random_models import random_ids, random_model

from minimind.model.attention import (
    SHORT_SEQUENCE,
    AttentionChoice,
    Mask,
    attend,
    document_mask,
    make_mask,
    reference_attention,
)
from minimind.model.kernels.varlen_attention import document_boundaries, fixed_size


def boundaries_of(documents: torch.Tensor) -> torch.Tensor:
    return fixed_size(document_boundaries(documents), documents.numel() + 1)


def inputs(dtype: torch.dtype, T: int = 24, S: int = 24) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 6, T, 8), (2, 2, S, 8), (2, 2, S, 8))
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize("queries", [24, 1])
def test_the_reference_equals_pytorch(dtype: torch.dtype, tolerance: float, queries: int) -> None:
    """Output and gradients, with grouped heads and a random mask."""
    allowed = torch.rand((2, 1, queries, 24), generator=torch.Generator().manual_seed(1)) < 0.5
    allowed[..., 0] = True
    outcomes = []
    for kernel in (
        reference_attention,
        lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m, enable_gqa=True),
    ):
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
    wanted = reference_attention(*tensors, mask)
    found = reference_attention(*(tensor.bfloat16() for tensor in tensors), mask)
    assert found.dtype == torch.bfloat16
    assert (found.float() - wanted).abs().max() < 0.03


def test_document_mask() -> None:
    documents = torch.tensor([[0, 0, 1, -1, -1]])
    wanted = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1]]
    assert document_mask(documents)[0, 0].int().tolist() == wanted


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5), min_size=1, max_size=3), st.integers(0, 4))
@settings(deadline=None, max_examples=25)
def test_documents_equal_a_dense_mask(rows: list[list[int]], padding: int) -> None:
    """Output and gradients, whatever documents stand side by side in the rows."""
    length = max(sum(row) for row in rows) + padding
    documents = torch.full((len(rows), length), -1)
    for row, sizes in enumerate(rows):
        numbers = torch.arange(len(sizes)) + 10 * row
        documents[row, : sum(sizes)] = numbers.repeat_interleave(torch.tensor(sizes))
    generator = torch.Generator().manual_seed(length)
    shapes = [(len(rows), length, heads, 8) for heads in (6, 2, 2, 6)]
    *tensors, gradient = [
        torch.randn(shape, generator=generator, dtype=torch.float64).transpose(1, 2) for shape in shapes
    ]
    query, key, value = (tensor.requires_grad_() for tensor in tensors)
    found = attend(query, key, value, Mask(boundaries=boundaries_of(documents)))
    wanted = reference_attention(query, key, value, document_mask(documents))
    assert (found - wanted).abs().max() <= 1e-12
    for ours, reference in zip(*(torch.autograd.grad(mixed, tensors, gradient) for mixed in (found, wanted))):
        assert (ours - reference).abs().max() <= 1e-12


def test_varlen_attention_is_one_operator_to_a_compiler() -> None:
    documents = torch.tensor([[0, 0, 0, 1, 1, 2, -1, -1]])
    query, key, value = (torch.randn(1, 8, heads, 8).transpose(1, 2).requires_grad_() for heads in (4, 2, 2))
    torch.library.opcheck(
        torch.ops.minimind.varlen_attention.default, (query, key, value, boundaries_of(documents))
    )
    compiled = torch.compile(attend, dynamic=False, fullgraph=True)
    mask = Mask(boundaries=boundaries_of(documents))
    assert torch.equal(compiled(query, key, value, mask), attend(query, key, value, mask))


@pytest.mark.parametrize(("length", "by_document"), [(SHORT_SEQUENCE, False), (SHORT_SEQUENCE + 1, True)])
def test_only_long_sequences_attend_document_by_document(length: int, by_document: bool) -> None:
    mask = make_mask(torch.zeros(1, length, dtype=torch.int64), compiled=False)
    assert (mask.boundaries is not None) is by_document
    assert (mask.allowed_BTS is None) is by_document


@pytest.mark.parametrize("length", [SHORT_SEQUENCE // 2, 2 * SHORT_SEQUENCE])
def test_every_choice_of_a_kernel_computes_the_same(length: int) -> None:
    """Boundaries given as cu_seqlens, or found from the documents, are the same as well."""
    model = random_model().cast(torch.float64)
    tokens = random_ids(2, length)
    documents = torch.arange(2 * length).reshape(2, length) // 23
    documents[1, -5:] = -1
    outcomes = []
    for choice in get_args(AttentionChoice):
        for cu_seqlens in (None, document_boundaries(documents)):
            model.attention = choice
            outcomes.append(model(tokens, documents_BT=documents, cu_seqlens=cu_seqlens))
    for found in outcomes[1:]:
        assert (found - outcomes[0]).abs().max() <= 1e-9 * outcomes[0].abs().max()
