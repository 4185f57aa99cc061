"""The learning rate over a run, as a multiple of its peak."""

from __future__ import annotations

import math

from minimind.optim.options import ScheduleOptions


def lr_multiplier(schedule: ScheduleOptions, step: int, steps: int) -> float:
    """Return what the peak rate is multiplied by at `step` (from 0) of `steps`.

    It rises linearly over the warm-up, then by `schedule.kind`:
    constant  stays at 1
    cosine    falls to `min_lr_ratio` along half a cosine (Loshchilov & Hutter 2017, arXiv:1608.03983)
    wsd       stays at 1 and falls linearly to `min_lr_ratio` over the decay (warm-up, stable, decay: Hu et al.
              2024, arXiv:2404.06395)
    """
    warmup, decay, min_lr_ratio = (
        round(schedule.warmup * steps),
        round(schedule.decay * steps),
        schedule.min_lr_ratio,
    )
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule.kind == "constant":
        return 1.0
    if schedule.kind == "cosine":
        progress = (step - warmup) / max(1, steps - warmup)
        return min_lr_ratio + (1 - min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * progress))
    assert schedule.kind == "wsd", schedule.kind
    left = (steps - step) / max(1, decay)
    return 1.0 if left >= 1 else min_lr_ratio + (1 - min_lr_ratio) * left
