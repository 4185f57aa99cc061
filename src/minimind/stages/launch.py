"""From a recipe to a training: check it against the run directory, gather its parts, go."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import minimind
from minimind import config
from minimind.data.shards.holdout import holdout
from minimind.data.shards.prepare import prepare
from minimind.data.shards.shard_set import ShardSet
from minimind.errors import UserError
from minimind.hardware import DTYPES, pick_device, pick_dtype
from minimind.model import Transformer
from minimind.model.hf.weights import load_tensors
from minimind.recipe import MAY_CHANGE, Recipe
from minimind.stages import STAGES
from minimind.tokenizer import Tokenizer
from minimind.train.console import TrainingConsole
from minimind.train.lock import locked
from minimind.train.parallel import Strategy
from minimind.train.trainer import Outcome, Trainer
from minimind.util.files import write_json, write_text

Loaded = tuple[ShardSet, np.ndarray, np.ndarray]  # data, its training documents, its held-out documents


def load_data(recipe: Recipe, tokenizer: Tokenizer) -> Loaded:
    """The prepared data, and the indices of its training and its held-out documents."""
    if not recipe.data:
        raise UserError("no data: name the files with --data FILE…")
    data = prepare(
        [Path(file) for file in recipe.data],
        tokenizer,
        STAGES[recipe.stage].KIND,
        **(dataclasses.asdict(recipe.chat) if STAGES[recipe.stage].KIND == "chat" else {}),
    )
    held_out = holdout(data.hashes, recipe.evaluation.holdout, recipe.seed)
    if held_out.all():
        raise UserError(f"all {len(data)} documents are held out; lower evaluation.holdout or add data")
    return data, np.flatnonzero(~held_out), np.flatnonzero(held_out)


def make_trainer(
    recipe: Recipe, run: Path, tokenizer: Tokenizer, loaded: Loaded, strategy: Strategy, console: TrainingConsole
) -> Trainer:
    """The trainer of a recipe: the start model or one from zero, and the stage's objective."""
    objective = STAGES[recipe.stage].OBJECTIVE()
    return Trainer(recipe, run, make_model(recipe), tokenizer, *loaded, objective, strategy, console)


def make_model(recipe: Recipe) -> Transformer:
    """The model that a recipe begins with: in the recipe's shape, with the start model's weights if it has one."""
    model = Transformer(recipe.model, None if recipe.init_from else recipe.seed)
    if recipe.init_from:
        load_tensors(model, Path(recipe.init_from))
    return model


def launch(recipe: Recipe, run: Path, console: TrainingConsole) -> Outcome:
    """Train by `recipe` in the directory `run`, or continue what an earlier call began there."""
    strategy = Strategy(pick_device(recipe.device))
    if recipe.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    tokenizer = Tokenizer.load(recipe.tokenizer)
    try:
        recipe = dataclasses.replace(recipe, precision=_precision(recipe, run, strategy))
        if not strategy.is_main:
            strategy.barrier()  # until the main process has prepared the data, which are then in the cache
            loaded = load_data(recipe, tokenizer)
            return make_trainer(recipe, run, tokenizer, loaded, strategy, TrainingConsole(quiet=True)).fit()
        loaded = load_data(recipe, tokenizer)
        strategy.barrier()
        with _entered(run, recipe, loaded[0]):
            return _fit(make_trainer(recipe, run, tokenizer, loaded, strategy, console), recipe.stage)
    finally:
        strategy.close()


def _precision(recipe: Recipe, run: Path, strategy: Strategy) -> Any:
    """What `auto` stands for: what the run began with, else the first process's choice. It may hang on a timing."""
    names = list(DTYPES)
    chosen = 0
    if strategy.is_main and recipe.precision == "auto":
        begun = run / "recipe.yaml"
        recorded = config.load(Recipe, files=[begun]).precision if begun.exists() else "auto"
        dtype = pick_dtype(recorded, strategy.device)
        chosen = next(number for number, name in enumerate(names) if DTYPES[name] == dtype)
    chosen = int(strategy.sum([chosen])[0])
    return names[chosen] if recipe.precision == "auto" else recipe.precision


def _fit(trainer: Trainer, stage: str) -> Outcome:
    """Train, and say in `state.json` how it stands."""
    path = trainer.run / "state.json"
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
def _entered(run: Path, recipe: Recipe, data: ShardSet) -> Iterator[None]:
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
        write_text(path, config.dump(recipe))  # first: by this file a directory is a run
        write_json(run / "environment.json", environment())
        about = {"fingerprint": data.fingerprint, "documents": len(data), "tokens": data.num_tokens}
        about |= {"sources": data.sources, "sha256": [source["sha256"] for source in data.meta["sources"]]}
        write_json(run / "data.json", about)
        yield


def _check_recipe(run: Path, recipe: Recipe) -> None:
    """Refuse to continue a run with a setting that would have changed the steps already made."""
    old_recipe = config.load(Recipe, files=[run / "recipe.yaml"])
    changed = [change for change in config.diff(old_recipe, recipe) if not change[0].startswith(MAY_CHANGE)]
    if changed:
        listed = "; ".join(f"{name} was {old!r}, now {new!r}" for name, old, new in changed)
        raise UserError(f"{run} is a run with another recipe ({listed}); use its recipe or another --out")


def _check_data(run: Path, data: ShardSet) -> None:
    """Refuse to continue a run on something else than it was trained on."""
    path = run / "data.json"
    if path.exists() and json.loads(path.read_text(encoding="utf-8"))["fingerprint"] != data.fingerprint:
        raise UserError(f"the data of {run} has changed since it began; restore it or use another --out")


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
