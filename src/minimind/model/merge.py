"""Merging: one model out of the weights of several of one shape, with no training.

Models that were fine-tuned from one base lie in one valley of the loss, and what lies between them is low as well
(Wortsman et al. 2022, arXiv:2203.05482). Every function here takes a tensor of each model and gives the merged one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

COLLINEAR = 0.9995
"""|cos Ω| above which SLERP divides by next to nothing, and interpolates along the chord instead"""

Tensors = Sequence[torch.Tensor]


def linear(models: Tensors, weights: Sequence[float]) -> torch.Tensor:
    """Σ wᵢ · Aᵢ / Σ wᵢ: a weighted mean."""
    return _sum(models, weights) / sum(weights)


def slerp(a: torch.Tensor, b: torch.Tensor, t: float) -> torch.Tensor:
    """On the arc from a (t = 0) to b (t = 1), so that the length does not shrink on the way (Shoemake 1985).

        sin((1 − t) · Ω) / sin Ω · a + sin(t · Ω) / sin Ω · b,    cos Ω = a · b / (|a| · |b|)

    over the flattened tensors. Nearly collinear ones, or one that is zero: (1 − t) · a + t · b.
    """
    lengths = torch.linalg.vector_norm(a, dtype=torch.float64) * torch.linalg.vector_norm(b, dtype=torch.float64)
    cosine = (a * b).sum(dtype=torch.float64) / lengths
    if not cosine.abs() <= COLLINEAR:  # also for NaN, the cosine with a zero
        return (1 - t) * a + t * b
    angle = cosine.arccos()
    from_a, from_b = ((1 - t) * angle).sin() / angle.sin(), (t * angle).sin() / angle.sin()
    return from_a.to(a.dtype) * a + from_b.to(a.dtype) * b


def task_vectors(base: torch.Tensor, models: Tensors, weights: Sequence[float]) -> torch.Tensor:
    """base + Σ λᵢ · (Aᵢ − base): what each model learned, added up (Ilharco et al. 2022, arXiv:2212.04089).

    A λ below 0 makes a model unlearn.
    """
    return base + _sum([model - base for model in models], weights)


def ties(
    base: torch.Tensor, models: Tensors, weights: Sequence[float], density: float, scale: float = 1.0
) -> torch.Tensor:
    """Task vectors that do not cancel each other out (TIES, Yadav et al. 2023, arXiv:2306.01708).

    Trim: of each task vector only the largest numbers stay, a share of `density`. Elect: each place gets the sign
    of the weighted sum there. Merge: the weighted mean of those that have this sign, times `scale` (the paper's λ).
    """
    tasks = torch.stack([keep_largest(model - base, density) for model in models])
    shares = tasks.new_tensor(weights).view(-1, *[1] * base.dim())
    weighted = shares * tasks
    elected = weighted.sum(0).sign()
    agrees = (weighted.sign() == elected) & (elected != 0)
    total, divisor = (weighted * agrees).sum(0), (shares * agrees).sum(0)
    return base + scale * total / divisor.where(divisor != 0, 1)


def dare(
    base: torch.Tensor, models: Tensors, weights: Sequence[float], density: float, generator: torch.Generator
) -> torch.Tensor:
    """base + Σ λᵢ · mᵢ · (Aᵢ − base) / p: thinned out by chance (DARE, Yu et al. 2023, arXiv:2311.03099).

    Each number stays (m = 1) with the probability p = `density`; dividing by p keeps the expected value.
    """
    kept = [torch.rand(base.shape, generator=generator) < density for _ in models]
    return base + _sum([(model - base) * mask / density for model, mask in zip(models, kept)], weights)


def keep_largest(tensor: torch.Tensor, density: float) -> torch.Tensor:
    """The share of `density` that is largest in magnitude, at least one number; zero in the place of the others."""
    flat = tensor.flatten()
    places = flat.abs().topk(min(len(flat), max(1, int(density * len(flat))))).indices
    return torch.zeros_like(flat).index_copy(0, places, flat[places]).view_as(tensor)


def _sum(tensors: Tensors, weights: Sequence[float]) -> torch.Tensor:
    total = torch.zeros_like(tensors[0])
    for tensor, weight in zip(tensors, weights):
        total.add_(tensor, alpha=weight)
    return total
