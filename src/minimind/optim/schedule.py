"""The learning rate over a run, as a factor of its peak."""

from __future__ import annotations

import math


def lr_multiplier(kind: str, step: int, steps: int, warmup: int, decay: int, min_lr_ratio: float) -> float:
    """The factor at `step` (from 0) of `steps`.

    It rises linearly over `warmup` steps, then by `kind`:
    constant  stays at 1
    cosine    falls to `min_lr_ratio` along half a cosine (Loshchilov & Hutter 2017, arXiv:1608.03983)
    wsd       stays at 1 and falls linearly to `min_lr_ratio` over the last `decay` steps
              (warm-up, stable, decay: Hu et al. 2024, arXiv:2404.06395)
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if kind == "constant":
        return 1.0
    if kind == "cosine":
        progress = (step - warmup) / max(1, steps - warmup)
        return min_lr_ratio + (1 - min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * progress))
    assert kind == "wsd", kind
    left = (steps - step) / max(1, decay)
    return 1.0 if left >= 1 else min_lr_ratio + (1 - min_lr_ratio) * left
