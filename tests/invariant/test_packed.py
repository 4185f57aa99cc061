"""Documents side by side in one sequence give the numbers that each gives alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.random_models import random_ids, random_model

from minimind.data.batches.batch import PADDING
from minimind.model import Transformer

MODEL = random_model().cast(torch.float64)


def pack(sequences: list[list[int]], length: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens, positions and documents of sequences with documents of these lengths; the rest is padding."""
    tokens = random_ids(len(sequences), length)
    positions = torch.zeros_like(tokens)
    documents = torch.full_like(tokens, PADDING)
    number = 0
    for sequence, lengths in enumerate(sequences):
        start = 0
        for n in lengths:
            positions[sequence, start : start + n] = torch.arange(n)
            documents[sequence, start : start + n] = number
            start, number = start + n, number + 1
        positions[sequence, start:] = torch.arange(length - start)
    return tokens, positions, documents


def gradients(model: Transformer) -> list[torch.Tensor]:
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def is_close(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    """To 1e-9 of the largest value."""
    return bool((found - wanted).abs().max() <= 1e-9 * wanted.abs().max())


def assert_packed_equals_alone(sequences: list[list[int]], length: int) -> None:
    """Hidden states, and gradients of a random function of them."""
    tokens, positions, documents = pack(sequences, length)
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(*tokens.shape, 32, generator=generator, dtype=torch.float64)
    real = documents != PADDING
    MODEL.zero_grad()
    packed = MODEL(tokens, positions, documents)
    assert packed.isfinite().all(), "padding must not poison the sequence"
    (packed * direction)[real].sum().backward()
    found = [gradient.clone() for gradient in gradients(MODEL)]
    MODEL.zero_grad()
    for number in range(int(documents.max()) + 1):
        here = documents == number
        alone = MODEL(tokens[here][None])[0]
        assert is_close(packed[here], alone)
        (alone * direction[here]).sum().backward()
    for packed_gradient, gradient in zip(found, gradients(MODEL)):
        assert is_close(packed_gradient, gradient)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(sequences=st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=5), min_size=1, max_size=4))
def test_packed_equals_alone(sequences: list[list[int]]) -> None:
    sequences = [*sequences, [3]]  # documents of one token alone would give queries no gradient to compare
    assert_packed_equals_alone(sequences, length=max(sum(lengths) for lengths in sequences) + 3)


def test_packed_equals_alone_in_long_sequences() -> None:
    """Rows beyond 512 positions take another kernel."""
    assert_packed_equals_alone([[5, 300, 1, 200], [520]], length=530)


def test_packed_equals_alone_without_gradients() -> None:
    """And without gradients yet another."""
    tokens, positions, documents = pack([[7, 1, 20], [3, 9]], length=30)
    with torch.no_grad():
        packed = MODEL(tokens, positions, documents)
        for number in range(5):
            here = documents == number
            assert is_close(packed[here], MODEL(tokens[here][None])[0])


@pytest.mark.parametrize("grad", [True, False])
def test_a_document_does_not_see_its_neighbours(grad: bool) -> None:
    """Bit for bit: other tokens before it change nothing in a document."""
    tokens, positions, documents = pack([[8, 8]], length=16)
    other = tokens.clone()
    other[:, :8] = random_ids(1, 8, seed=5)
    with torch.set_grad_enabled(grad):
        one, two = (MODEL(t, positions, documents)[:, 8:].detach() for t in (tokens, other))
    assert torch.equal(one, two)
