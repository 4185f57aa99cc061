"""How long a run is and how long it takes: steps by its budget, seconds of a step."""

from __future__ import annotations

import time
from functools import partial

import torch

from minimind.data.batches.loader import BatchSource
from minimind.hardware import synchronize
from minimind.plan.time import training_seconds
from minimind.recipe import Recipe
from minimind.train.checkpoint import Progress
from minimind.train.console import TrainingConsole
from minimind.train.step import TrainStep
from minimind.util.units import duration


def budgeted_steps(recipe: Recipe, source: BatchSource) -> int | None:
    """Steps of the whole run; None for a budget of minutes, for which steps must be timed."""
    budget = recipe.budget
    if budget.steps:
        return budget.steps
    if budget.tokens:
        return max(1, round(budget.tokens / recipe.batch.tokens_per_step))
    return None if budget.minutes else source.steps(budget.epochs or 1)


def total_steps(
    recipe: Recipe, source: BatchSource, step: TrainStep, progress: Progress, console: TrainingConsole
) -> int:
    """The steps of the whole run by its budget; a time budget is turned into steps once."""
    if steps := budgeted_steps(recipe, source):
        return steps
    minutes = recipe.budget.minutes
    if progress.total_steps and progress.minutes == minutes:
        return progress.total_steps
    progress.minutes = minutes
    seconds_left = max(0.0, 60 * (minutes or 0) - progress.seconds)
    steps = progress.step + max(1, int(seconds_left * 0.95 / seconds_per_step(step, source)))
    console.say(f"{duration(seconds_left)} are enough for {steps:,} steps")
    return steps


def seconds_per_step(step: TrainStep, source: BatchSource) -> float:
    """Time of one step's gradients, measured without changing anything; the slowest process counts."""
    strategy, state = step.strategy, source.state_dict()
    times = []
    for _ in range(3):  # the first one compiles
        start = time.perf_counter()
        batch = source.step(0, strategy.rank, strategy.world)
        if source.prefetch:
            start = time.perf_counter()  # made beside the steps
        with torch.random.fork_rng():  # what is dropped here is not what the training draws
            step.with_less_memory(partial(step.accumulate, batch))
        synchronize(strategy.device)
        times.append(time.perf_counter() - start)
    step.zero_grad()
    source.load_state_dict(state)
    return float(strategy.sum([min(times)])[0]) / strategy.world * 1.05  # the update itself


def expected_seconds(recipe: Recipe, source: BatchSource, flops_per_token: float, matmul_rate: float) -> float:
    """How long the run takes on a CPU, about, before anything of it was timed."""
    steps = budgeted_steps(recipe, source)
    if steps is None:
        return 60 * (recipe.budget.minutes or 0)
    return training_seconds(steps * recipe.batch.tokens_per_step, flops_per_token, matmul_rate)
