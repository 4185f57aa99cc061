"""`minimind train … --dry-run`: what a recipe means, and what it costs."""

from __future__ import annotations

from pathlib import Path

from minimind import config
from minimind.hardware import pick_device
from minimind.model.count import count_parameters
from minimind.recipe import Recipe
from minimind.stages.launch import load_data, make_trainer
from minimind.tokenizer import Tokenizer
from minimind.train.console import TrainingConsole, duration
from minimind.train.parallel import Strategy


def show(recipe: Recipe) -> None:
    """Print the resolved recipe, then parameters, data, steps and time (a step's work is timed, not guessed)."""
    tokenizer = Tokenizer.load(recipe.tokenizer)
    loaded = load_data(recipe, tokenizer)
    strategy, nowhere = Strategy(pick_device(recipe.device)), Path("dry-run")  # never made
    trainer = make_trainer(recipe, nowhere, tokenizer, loaded, strategy, TrainingConsole(quiet=True))
    steps, seconds = trainer.forecast()
    stats, batch = trainer.loader.stats, recipe.batch
    print(config.dump(recipe))
    counts = count_parameters(recipe.model)
    active = f", {counts['active']:,} active for a token" if recipe.model.family.experts else ""
    rows = {
        "parameters": f"{counts['total']:,}{active}",
        "documents": f"{len(loaded[1]):,} to train on, {len(loaded[2]):,} held out",
        "tokens": f"{stats.pairs:,} an epoch, {stats.padding:.2%} padding",
        "steps": f"{steps:,} of {batch.rows} rows × {batch.seq_len} tokens = {batch.rows * batch.seq_len:,}",
        "epochs": f"{trainer.loader.epoch(steps):.2f}",
        "time": f"about {duration(steps * seconds)} here ({batch.tokens_per_step / seconds:,.0f} tokens/s)",
    }
    for name, value in rows.items():
        print(f"{name:<11} {value}")
