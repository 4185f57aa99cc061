"""The formulas of merging, by numbers that were computed by hand."""

import math

import numpy as np
import pytest
import torch

from minimind.model.merge import dare, keep_largest, linear, slerp, task_vectors, ties

A, B = torch.tensor([[3.0, 0.0], [0.0, 4.0]]).double(), torch.tensor([[0.0, 5.0], [0.0, 0.0]]).double()


def assert_equal(found: torch.Tensor, wanted: list) -> None:
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), rtol=1e-14, atol=1e-14)


def test_linear_divides_by_the_sum_of_the_weights() -> None:
    assert_equal(linear([A, B], [1, 3]), [[0.75, 3.75], [0, 1]])
    assert_equal(linear([A, B], [2, -1]), [[6, -5], [0, 8]])  # beyond the first, away from the second


def test_slerp_of_a_right_angle() -> None:
    half = math.sin(math.pi / 4)
    assert_equal(slerp(A, B, 0.5), [[3 * half, 5 * half], [0, 4 * half]])
    third, sixth = math.sin(math.pi / 3), math.sin(math.pi / 6)
    assert_equal(slerp(A, B, 1 / 3), [[3 * third, 5 * sixth], [0, 4 * third]])


def test_slerp_keeps_the_length_and_turns_evenly() -> None:
    """The definition itself: between vectors of one length the result has it too, at the share t of the angle."""
    rng = np.random.default_rng(0)
    a, b = (torch.from_numpy(x / np.linalg.norm(x)) for x in rng.normal(size=(2, 7, 5)))
    for t in (0, 0.2, 0.5, 0.9, 1):
        c = slerp(a, b, t).numpy().ravel()
        angle = math.acos(float((a * b).sum()))
        assert abs(np.linalg.norm(c) - 1) < 1e-12
        assert abs(math.acos(min(1.0, float(c @ a.numpy().ravel()))) - t * angle) < 1e-7


@pytest.mark.parametrize("b", [2 * A, -A, 0 * A, A + 1e-3], ids=["longer", "opposite", "zero", "near"])
def test_slerp_of_nearly_collinear_tensors_is_the_chord(b: torch.Tensor) -> None:
    torch.testing.assert_close(slerp(A, b, 0.25), 0.75 * A + 0.25 * b, rtol=1e-14, atol=0)


def test_task_vectors_are_added_to_the_base() -> None:
    base = torch.full((2, 2), 1.0).double()
    assert_equal(task_vectors(base, [A, B], [1, 0.5]), [[2.5, 2], [-0.5, 3.5]])
    torch.testing.assert_close(task_vectors(base, [A], [1]), A)


def test_ties_trims_elects_and_merges() -> None:
    base = torch.ones(5).double()
    first = base + torch.tensor([4, -3, 2, 0.5, 1], dtype=torch.float64)
    second = base + torch.tensor([-1, -5, 0.1, -6, 3], dtype=torch.float64)
    # Two of five stay, the largest: (4, -3, 0, 0, 0) and (0, -5, 0, -6, 0).
    assert_equal(ties(base, [first, second], [1, 1], 0.4), [5, -3, 1, -5, 1])
    # All stay: signs +, -, +, -, +, and only those that agree are averaged.
    assert_equal(ties(base, [first, second], [1, 1], 1.0), [5, -3, 2.05, -5, 3])
    # The second weighs five times as much and outvotes the first: -, -, +, -, +.
    mean = [-1, -28 / 6, 2.5 / 6, -6, 16 / 6]
    assert_equal(ties(base, [first, second], [1, 5], 1.0, scale=0.5), [1 + x / 2 for x in mean])


def test_ties_of_an_exact_contradiction_leaves_the_base() -> None:
    base = torch.zeros(3).double()
    assert_equal(ties(base, [base + 1, base - 1], [1, 1], 1.0), [0, 0, 0])


def test_keep_largest_keeps_at_least_one() -> None:
    assert_equal(keep_largest(torch.tensor([1, -2, 0.5]).double(), 0.01), [0, -2, 0])
    assert keep_largest(torch.zeros(0, 4), 0.5).shape == (0, 4)


def test_dare_drops_by_chance_and_keeps_the_mean() -> None:
    base, delta = torch.zeros(100_000).double(), torch.linspace(0.5, 1.5, 100_000).double()
    found = dare(base, [base + delta, base - delta], [1, 0.0], 0.25, torch.Generator().manual_seed(0))
    kept = found != 0
    torch.testing.assert_close(found[kept], (4 * delta)[kept])
    assert abs(float(kept.double().mean()) - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 100_000)
    assert abs(float(found.mean()) - 1) < 0.03
    assert torch.equal(dare(base, [base + delta], [1], 1.0, torch.Generator()), base + delta)
