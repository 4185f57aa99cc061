"""How long a run is: its steps by tokens, epochs or minutes."""

from __future__ import annotations

from minimind.data.batches.loader import Loader
from minimind.recipe import Recipe


def budgeted_steps(recipe: Recipe, loader: Loader) -> int | None:
    """Steps of the whole run; None for a budget of minutes, for which steps must be timed."""
    budget = recipe.budget
    if budget.steps:
        return budget.steps
    if budget.tokens:
        return max(1, round(budget.tokens / recipe.batch.tokens_per_step))
    return None if budget.minutes else loader.steps(budget.epochs or 1)


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of `number` that is at most `limit`."""
    return next(n for n in range(max(1, min(limit, number)), 0, -1) if number % n == 0)
