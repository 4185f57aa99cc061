"""Muon against the singular value decomposition, an obvious loop over matrices, and torch's own."""

import pytest
import torch

from minimind.optim.muon import ITERATIONS, Muon, orthogonalize

SHAPES = [(16, 16), (16, 48), (48, 16), (1, 8), (8, 1)]


def matrices(shape, count=3):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
def test_orthogonalise_brings_singular_values_near_one_and_keeps_directions(shape):
    stack = matrices(shape)
    for before, after in zip(stack, orthogonalize(stack, torch.float64)):
        u, _, vt = torch.linalg.svd(before, full_matrices=False)
        turned = u.T @ after @ vt.T  # diagonal where the singular directions are the same
        values = turned.diagonal()
        assert ((values > 0.65) & (values < 1.25)).all()
        assert (turned - torch.diag(values)).abs().max() < 1e-9


def test_orthogonalise_of_the_transposed_is_the_transposed():
    stack = matrices((12, 40))
    found = orthogonalize(stack.transpose(1, 2), torch.float64)
    assert torch.allclose(found, orthogonalize(stack, torch.float64).transpose(1, 2), rtol=0, atol=1e-12)


def test_orthogonalise_does_not_depend_on_the_size_of_a_matrix_nor_on_its_neighbours():
    stack = matrices((16, 24))
    alone = torch.cat([orthogonalize(matrix[None] * 1e3, torch.float64) for matrix in stack])
    assert torch.allclose(orthogonalize(stack, torch.float64), alone, rtol=0, atol=1e-8)
    assert (orthogonalize(torch.zeros(1, 4, 6), torch.float32) == 0).all()


def parameters(dtype=torch.float64):
    """Several matrices of the same shape, others alone."""
    draw = torch.Generator().manual_seed(1)
    shapes = [(16, 16), (16, 48), (16, 16), (48, 16), (16, 16)]
    return [torch.nn.Parameter(torch.randn(*shape, generator=draw, dtype=dtype)) for shape in shapes]


def give_gradients(params, step):
    draw = torch.Generator().manual_seed(100 + step)
    for parameter in params:
        parameter.grad = torch.randn(parameter.shape, generator=draw, dtype=torch.float64).to(parameter.dtype)


def obvious_step(weight, gradient, momentum, lr, mu, decay):
    """One matrix, step by step as the paper says."""
    momentum = mu * momentum + (1 - mu) * gradient
    direction = (1 - mu) * gradient + mu * momentum
    wide = direction.T if direction.shape[0] > direction.shape[1] else direction
    x = wide / (wide.norm() + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    x = x.T if direction.shape[0] > direction.shape[1] else x
    scale = max(1, weight.shape[0] / weight.shape[1]) ** 0.5
    return weight * (1 - lr * decay) - lr * scale * x, momentum


def test_steps_equal_the_obvious_loop():
    params = parameters()
    wanted = [(p.detach().clone(), torch.zeros_like(p)) for p in params]
    muon = Muon(params, lr=0.03, momentum=0.9, weight_decay=0.1, dtype=torch.float64)
    for step in range(4):
        give_gradients(params, step)
        muon.step()
        wanted = [obvious_step(w, p.grad, m, 0.03, 0.9, 0.1) for p, (w, m) in zip(params, wanted)]
    for parameter, (weight, momentum) in zip(params, wanted):
        assert torch.allclose(parameter, weight, rtol=0, atol=1e-9)
        assert torch.allclose(muon.state[parameter]["momentum"], momentum, rtol=0, atol=1e-9)


def test_polar_express_brings_singular_values_nearer_to_one():
    """From 0.001 of the norm on, where the usual iteration still leaves them at a half."""
    draw = torch.Generator().manual_seed(2)
    u, v = (torch.linalg.qr(torch.randn(16, 16, generator=draw, dtype=torch.float64))[0] for _ in range(2))
    spectrum = torch.logspace(0, -2.7, 16, dtype=torch.float64)
    matrix = (u * spectrum) @ v.T / spectrum.norm()
    values = [
        torch.linalg.svdvals(orthogonalize(matrix[None], torch.float64, coefficients)[0])
        for coefficients in ITERATIONS.values()
    ]
    usual, polar = ((found - 1).abs().max() for found in values)
    assert polar < 0.16
    assert usual > 2 * polar


def test_normalised_rows_and_cautious_decay_equal_the_obvious_loop():
    params = parameters()
    plain = [(p.detach().clone(), torch.zeros_like(p), torch.zeros(len(p), 1).double()) for p in params]
    options = {"row_decay": 0.9, "cautious_decay": True}
    muon = Muon(params, lr=0.03, momentum=0.9, weight_decay=0.5, dtype=torch.float64, **options)
    for step in range(4):
        give_gradients(params, step)
        muon.step()
        for index, (parameter, (weight, momentum, squares)) in enumerate(zip(params, plain)):
            moved, momentum = obvious_step(weight, parameter.grad, momentum, 1.0, 0.9, 0.0)
            update = weight - moved
            squares = 0.9 * squares + 0.1 * (update**2).mean(1, keepdim=True)
            normalized = update / squares.sqrt()
            update = normalized * update.norm() / normalized.norm()
            decayed = torch.where(update * weight > 0, weight * (1 - 0.03 * 0.5), weight)
            plain[index] = (decayed - 0.03 * update, momentum, squares)
    for parameter, (weight, _, _) in zip(params, plain):
        assert torch.allclose(parameter, weight, rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", [(3, 8, 5), (3, 5, 8), (3, 6, 6)])
def test_a_stack_of_matrices_moves_as_its_matrices_alone(shape):
    """As experts lie in memory: each is orthogonalized for itself."""
    torch.manual_seed(0)
    stack = torch.randn(shape, dtype=torch.float64).requires_grad_()
    alone = [matrix.detach().clone().requires_grad_() for matrix in stack]
    settings = {"lr": 0.03, "momentum": 0.9, "weight_decay": 0.1, "dtype": torch.float64}
    optimizers = [Muon([stack], **settings), *(Muon([matrix], **settings) for matrix in alone)]
    for step in range(3):
        stack.grad = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        for matrix, gradient in zip(alone, stack.grad):
            matrix.grad = gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
    for matrix, found in zip(alone, stack):
        assert torch.allclose(found, matrix, rtol=0, atol=1e-12)


def test_steps_equal_torchs_muon_in_bf16():
    """torch computes the Newton-Schulz steps in bf16; so do we here. Its fp32 twin shows how much that rounds."""
    ours, theirs, exact = (parameters(torch.float32) for _ in range(3))
    settings = {"lr": 0.03, "momentum": 0.9, "weight_decay": 0.1}
    optimizers = [
        Muon(ours, dtype=torch.bfloat16, **settings),
        torch.optim.Muon(theirs, nesterov=True, **settings),
        Muon(exact, dtype=torch.float32, **settings),
    ]
    for step in range(4):
        for params, optimizer in zip((ours, theirs, exact), optimizers):
            give_gradients(params, step)
            optimizer.step()
    for a, b, c in zip(ours, theirs, exact):
        margin = (b - c).abs().max()
        assert 0 < margin < 0.02
        assert (a - b).abs().max() <= margin
