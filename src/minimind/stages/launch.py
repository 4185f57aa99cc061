"""From a recipe to a training: check it against the run directory, gather its parts, go."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import re
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import minimind
from minimind import config
from minimind.data.batches.documents import Documents
from minimind.errors import UserError
from minimind.hardware import DTYPES, pick_device, pick_dtype
from minimind.model.lora import coverage, has_lora
from minimind.plan.derive import stored_recipe
from minimind.plan.memory import check_fits
from minimind.recipe import MAY_CHANGE, Recipe
from minimind.stages import STAGES
from minimind.stages.stage import Split, Stage
from minimind.tokenizer import Tokenizer
from minimind.train.console import TrainingConsole
from minimind.train.lock import locked
from minimind.train.setup import Setup
from minimind.train.strategies import Strategy, pick_strategy
from minimind.train.trainer import Outcome, Trainer
from minimind.util.checksums import seal
from minimind.util.files import write_json, write_text
from minimind.util.json_files import read_json


def make_setup(
    recipe: Recipe,
    run: Path,
    strategy: Strategy,
    console: TrainingConsole,
    stage: Stage | None = None,
    split: Split | None = None,
) -> Setup:
    """Gather what a training stands on; nothing is written. `split`: its data, where they are loaded already."""
    stage = stage or STAGES[recipe.stage]
    tokenizer = Tokenizer.load(recipe.tokenizer)
    data, train_documents, held_out = split or stage.data(recipe, tokenizer, stage.kind)
    model = stage.model(recipe).to(strategy.device).eval()  # until it is trained: what comes first drops nothing
    model.compute_dtype = pick_dtype(recipe.precision, strategy.device)
    model.activation_checkpointing = recipe.activation_checkpointing
    if has_lora(model):
        console.say(f"LoRA: {coverage(model)}; the rest is frozen")
    return Setup(recipe, run, tokenizer, model, data, train_documents, held_out, strategy, console)


def make_trainer(setup: Setup, stage: Stage | None = None) -> Trainer:
    """The trainer of a setup, with the stage's objective, batches and evaluation."""
    stage = stage or STAGES[setup.recipe.stage]
    objective = stage.objective(setup)
    return Trainer(setup, stage.source(setup, objective), objective, stage.evaluation(setup, objective))


def launch(recipe: Recipe, run: Path, console: TrainingConsole) -> Outcome:
    """Train by `recipe` in the directory `run`, or resume what an earlier call began there."""
    strategy = pick_strategy(pick_device(recipe.device))
    stage = STAGES[recipe.stage]
    beside = stage.memory(recipe, strategy.world)
    check_fits(recipe.model, recipe.lora, strategy.device, beside)  # before any work
    if recipe.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        recipe = dataclasses.replace(recipe, precision=_precision(recipe, run, strategy))
        tokenizer = Tokenizer.load(recipe.tokenizer)
        if not strategy.is_main:
            strategy.barrier()  # until the main process has prepared the data, which are then in the cache
            split = stage.data(recipe, tokenizer, stage.kind)
            return make_trainer(make_setup(recipe, run, strategy, TrainingConsole(quiet=True), split=split)).fit()
        split = stage.data(recipe, tokenizer, stage.kind)
        strategy.barrier()
        with _entered(run, recipe, split[0]):
            return _fit(make_trainer(make_setup(recipe, run, strategy, console, split=split)), recipe.stage)
    finally:
        strategy.close()


def _precision(recipe: Recipe, run: Path, strategy: Strategy) -> Any:
    """What `auto` stands for: what the run began with, else the first process's choice. It may hang on a timing."""
    names = list(DTYPES)
    chosen = 0
    if strategy.is_main and recipe.precision == "auto":
        recorded = stored_recipe(run).precision if (run / "recipe.yaml").exists() else "auto"
        dtype = pick_dtype(recorded, strategy.device)
        chosen = next(number for number, name in enumerate(names) if DTYPES[name] == dtype)
    chosen = int(strategy.sum([chosen])[0])
    return names[chosen] if recipe.precision == "auto" else recipe.precision


def _fit(trainer: Trainer, stage: str) -> Outcome:
    """Train, and say in `state.json` how it stands."""
    path = trainer.setup.run / "state.json"
    state = {"stage": stage, "pid": os.getpid(), "host": socket.gethostname(), "started": time.time()}
    write_json(path, {**state, "status": "running"})
    status = "failed"
    try:
        outcome = trainer.fit()
        status = outcome.status
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        done = {**dataclasses.asdict(trainer.progress), "status": status, "ended": time.time()}
        write_json(path, {**state, **done})
    return outcome


@contextlib.contextmanager
def _entered(run: Path, recipe: Recipe, data: Documents) -> Iterator[None]:
    """Make the run directory, or make sure that it belongs to the same training; hold it for this process."""
    path = run / "recipe.yaml"
    if not path.exists() and run.exists():
        ours = ("lock", *(file.name for file in run.glob("*.partial")))  # all there is after an early kill
        if any(file.name not in ours for file in run.iterdir()):
            raise UserError(f"{run} is not empty and is no run; choose another --out")
    run.mkdir(parents=True, exist_ok=True)
    with locked(run):
        if path.exists():
            _check_recipe(run, recipe)
            _check_data(run, data)
        write_text(path, seal(config.dump(recipe)))  # first: by this file a directory is a run
        write_json(run / "environment.json", environment())
        counts = {"documents": len(data.lengths), "tokens": int(data.lengths.sum())}
        write_json(run / "data.json", {"fingerprint": data.fingerprint, **counts, **data.origin})
        yield


def _check_recipe(run: Path, recipe: Recipe) -> None:
    """Refuse to continue a run with a setting that would have changed the steps already made."""
    old_recipe = stored_recipe(run)
    changed = [
        (name, old, new)
        for name, old, new in config.diff(old_recipe, recipe)
        if not name.startswith(MAY_CHANGE)
        and not (name in ("tokenizer", "init_from") and Path(old).resolve() == Path(new).resolve())
    ]
    if changed:
        listed = "; ".join(f"{name} was {old!r}, now {new!r}" for name, old, new in changed)
        raise UserError(f"{run} is a run with another recipe ({listed}); use its recipe or another --out")


def _check_data(run: Path, data: Documents) -> None:
    """Refuse to continue a run on something else than it was trained on."""
    path = run / "data.json"
    recorded = read_json(path).get("fingerprint") if path.exists() else data.fingerprint
    if not isinstance(recorded, str) or not re.fullmatch("[0-9a-f]{64}", recorded):
        raise UserError(f"{path} is damaged: it has no fingerprint of the data; restore it or use another --out")
    if recorded != data.fingerprint:
        raise UserError(
            f"the data of {run} has changed since it began; restore it or use another --out (where it has not, "
            f"{path} is damaged: delete that)"
        )


def environment() -> dict[str, Any]:
    """What a result depends on besides its recipe."""
    return {
        "minimind": minimind.__version__,
        "command": sys.argv,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
