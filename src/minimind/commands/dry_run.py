"""`minimind train … --dry-run`: what a recipe means, and what it costs."""

from __future__ import annotations

import tempfile
from pathlib import Path

from minimind import config
from minimind.data.batches.loader import Loader
from minimind.hardware import peak_memory_gb, pick_device
from minimind.model.count import count_parameters
from minimind.model.lora import coverage
from minimind.plan.memory import check_fits
from minimind.plan.time import COMPILE_GAIN
from minimind.recipe import Recipe
from minimind.rl.source import Rollouts
from minimind.stages import STAGES
from minimind.stages.launch import make_setup, make_trainer
from minimind.train.budget import seconds_per_step, total_steps
from minimind.train.console import TrainingConsole
from minimind.train.strategies import pick_strategy
from minimind.train.trainer import Trainer
from minimind.util.units import duration, size_text


def show(recipe: Recipe) -> None:
    """Print the resolved recipe, then parameters, data, steps and time (a step's work is timed, not guessed)."""
    strategy = pick_strategy(pick_device(recipe.device))
    beside = STAGES[recipe.stage].memory(recipe, strategy.world)
    check_fits(recipe.model, recipe.lora, strategy.device, beside)
    with tempfile.TemporaryDirectory() as nowhere:  # only a rollout server gets something to read there
        setup = make_setup(recipe, Path(nowhere), strategy, TrainingConsole(quiet=True))
        trainer = make_trainer(setup)
        steps, seconds = forecast(trainer)
    batch = recipe.batch
    print(config.dump(recipe))
    counts = count_parameters(recipe.model)
    trained = sum(parameter.numel() for parameter in setup.model.parameters() if parameter.requires_grad)
    peak, averages = size_text(1e9 * peak_memory_gb(strategy.device)), f"up to {size_text(8 * trained)}"
    active = f", {counts['active']:,} active for a token" if recipe.model.family.experts else ""
    adapter = {"adapter": str(coverage(setup.model))} if recipe.lora.rank else {}
    what = "an adapter" if adapter else "a model"
    rows = {
        "parameters": f"{counts['total']:,}{active}",
        **adapter,
        "documents": f"{len(setup.train_documents):,} to train on, {len(setup.held_out):,} held out",
        "steps": f"{steps:,} of {batch.sequences} sequences × {batch.seq_len} = {batch.tokens_per_step:,} tokens",
        "epochs": f"{trainer.source.epoch(steps):.2f}",
        "time": f"about {duration(steps * seconds)} here ({batch.tokens_per_step / seconds:,.0f} tokens/s)",
        # The step was timed without its update, whose state is one or two averages of each weight.
        "memory": f"{peak} in the timed step, and {averages} for the optimizer",
        "disk": f"{size_text(4 * trained)} {what}, and {averages} more a checkpoint",
    }
    if isinstance(trainer.source, Rollouts):
        options, of_data = recipe.rl, ("documents", "epochs")
        rows = {name: value for name, value in rows.items() if name not in of_data}
        answers = f"{options.prompts} × {options.group_size} answers"
        rows["steps"] = f"{steps:,}, {options.updates} to a rollout of {answers}"
        rows["time"] = f"about {duration(steps * seconds)} here"
    if isinstance(trainer.source, Loader):
        stats = trainer.source.stats
        rows["tokens"] = f"{stats.pairs:,} an epoch, {stats.padding:.2%} padding"
    for name, value in rows.items():
        print(f"{name:<11} {value}")


def forecast(trainer: Trainer) -> tuple[int, float]:
    """Steps of a run and seconds of each, as timed here and now; nothing is changed."""
    recipe, source = trainer.recipe, trainer.source
    step = trainer.step = trainer.make_step()
    compiled = trainer.compiling_pays if recipe.compile is None else recipe.compile
    seconds = seconds_per_step(step, source) * (1 - COMPILE_GAIN if compiled else 1)
    return total_steps(recipe, source, step, trainer.progress, trainer.setup.console), seconds
