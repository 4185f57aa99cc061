"""What is decided before the first step: how many there are, and whether compiling pays."""

from __future__ import annotations

from minimind.data.batches.loader import Loader
from minimind.recipe import Recipe
from minimind.train.budget import budgeted_steps

COMPILE_SECONDS = 15  # what compiling the blocks costs on a CPU, cold
COMPILE_GAIN = 0.11  # part of the time that it saves there
PLAIN_SHARE = 0.45  # part of the matrix products' rate that a step on a CPU reaches without compiling


def compiling_pays(recipe: Recipe, loader: Loader, flops_per_token: float, matmul_rate: float) -> bool:
    """Whether a run on a CPU is long enough to win back the time of compiling."""
    steps = budgeted_steps(recipe, loader)
    if steps is None:
        seconds = 60 * (recipe.budget.minutes or 0)
    else:
        seconds = steps * recipe.batch.tokens_per_step * flops_per_token / (PLAIN_SHARE * matmul_rate)
    return seconds * COMPILE_GAIN > COMPILE_SECONDS
