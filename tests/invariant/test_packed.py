"""Documents side by side in one sequence give the numbers that each gives alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers import make_trainer
from tests.invariant.test_accumulation import in_float64
from tests.random_models import random_ids, random_model

from minimind.data.batches.batch import PADDING
from minimind.data.batches.loader import sequential_batches
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


TOP_K = {"distill__top_k": 5, "distill__divergence": "js"}


@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        ("sft", {}),
        ("sft", {"lora__rank": 4, "lora__dora": "true"}),
        ("reason", {}),
        *(("dpo", {"dpo__loss": loss, "dpo__beta": 0.5}) for loss in ("dpo", "ipo", "kto", "simpo", "orpo")),
        ("reward", {}),
        ("reward", {"lora__rank": 4}),
        ("distill", {}),
        ("distill", TOP_K),
        ("distill", {**TOP_K, "distill__cache": "true"}),
    ],
)
def test_a_stage_learns_the_same_from_packed_documents(request, tmp_path, stage, changes) -> None:
    """All its terms, units and gradients in fp64: many documents (or pairs, which stay together) in a sequence, and
    one in each."""
    argv = request.getfixturevalue(stage)(tmp_path / "run", evaluation__holdout=0, **changes)
    trainer = in_float64(make_trainer(argv))
    model, objective, data = trainer.model, trainer.objective, trainer.setup.data
    if getattr(objective, "teacher", None):
        objective.teacher.model.cast(torch.float64)
    torch.manual_seed(0)
    for parameter in model.parameters():  # away from the start, where an adapter and a preference are zero
        parameter.data += 0.05 * torch.randn_like(parameter)
    groups = np.arange(len(data.lengths)).reshape(-1, data.group)
    groups = groups[data.lengths[groups].sum(1) <= 512][:12]
    (packed,) = sequential_batches(data, groups.flatten(), 512, len(groups))
    alone = [batch for group in groups for batch in sequential_batches(data, group, 512, 1)]
    assert packed.num_documents == groups.size
    assert int((packed.documents != PADDING).any(1).sum()) <= len(groups) / 2
    results = []
    for batches in ([packed], alone):
        units = [objective.units(batch) for batch in batches]
        totals = {name: sum(one[name] for one in units) for name in units[0]}
        model.zero_grad()
        losses = [objective(model, batch).losses for batch in batches]
        loss = sum(one[name] / total for one in losses for name, total in totals.items())
        loss.backward()
        results.append((totals, loss.detach(), [gradient.clone() for gradient in gradients(model)]))
    (totals, loss, found), (totals_alone, loss_alone, wanted) = results
    assert totals == totals_alone
    assert is_close(loss, loss_alone)
    for gradient, gradient_alone in zip(found, wanted, strict=True):
        assert is_close(gradient, gradient_alone)
