"""From a recipe to a training: resolve it, check it against the run directory, gather its parts, go."""

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
from minimind.data.cache import write_atomically
from minimind.data.prepare import prepare
from minimind.data.shards import ShardSet
from minimind.data.split import holdout
from minimind.errors import UserError
from minimind.model import Transformer, load_model
from minimind.model.hf_config import read_config
from minimind.model.io import model_directory
from minimind.presets import preset_fields
from minimind.stages import STAGES
from minimind.tokenizer import Tokenizer
from minimind.train.console import TrainingConsole
from minimind.train.lock import locked
from minimind.train.parallel import Strategy, pick_device
from minimind.train.recipe import MAY_CHANGE, BudgetOptions, Recipe
from minimind.train.trainer import Outcome, Trainer

Loaded = tuple[ShardSet, np.ndarray, np.ndarray]  # data, its training documents, its held-out documents


def resolve(stage: str, flags: list[str], files: list[Path], given: dict[str, Any]) -> Recipe:
    """The complete recipe: stage defaults < preset < recipe files < flags < `given`.

    The model's shape comes from the start model where there is one; a vocabulary that nobody named is the
    tokenizer's. UserError for what does not fit together.
    """
    module = STAGES[stage]
    flags = flags + other_budgets_off(flags)
    named = {**config.read(Recipe, flags, files, module.DEFAULTS), **given}
    if named.get("stage", stage) != stage:
        raise UserError(f"the recipe is for the stage {named['stage']}, not for {stage}")
    if named.get("start"):
        start, shape = _start_model(named)
        given = {**given, "start": start, "tokenizer": start}
    elif module.NEEDS_START:
        raise UserError(f"{stage} starts from a model: name its directory with --from")
    elif not named.get("tokenizer"):
        raise UserError(
            "pretraining needs a tokenizer: train one with `minimind tokenizer train --data FILE --out DIR`, "
            "then give --tokenizer DIR"
        )
    else:
        preset = preset_fields(named["preset"]) if named.get("preset") else {}
        shape = {"vocab_size": Tokenizer.load(named["tokenizer"]).vocab_size, **preset}
    defaults = {**module.DEFAULTS, "model": shape}
    recipe = dataclasses.replace(config.load(Recipe, flags, files, defaults), **given)
    if recipe.router.balance == "bias" and recipe.model.family.experts and not recipe.model.family.sigmoid:
        kind = recipe.model.model_type
        raise UserError(f"router.balance bias needs model_type glm4_moe: the routers of {kind} have no bias")
    vocab_size = Tokenizer.load(recipe.tokenizer).vocab_size
    if vocab_size > recipe.model.vocab_size:
        raise UserError(
            f"the tokenizer {recipe.tokenizer} has {vocab_size} ids, more than model.vocab_size "
            f"{recipe.model.vocab_size}; raise that or train a smaller tokenizer"
        )
    return recipe


def other_budgets_off(flags: list[str]) -> list[str]:
    """A budget given as a flag takes the place of the recipe's, whatever unit that has."""
    given = {flag[2:].partition("=")[0] for flag in flags if flag.startswith("--budget.")}
    names = [f"budget.{name}" for name in BudgetOptions.__dataclass_fields__]
    return [word for name in names if given and name not in given for word in (f"--{name}", "null")]


def _start_model(named: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The directory and the shape of the model that `named` settings start from; they may not say otherwise."""
    directory = model_directory(named["start"])
    shape = {name: value for name, value in config.to_dict(read_config(directory)).items() if value is not None}
    flat = config.flatten({"model": shape})
    asked = {key: value for key, value in named.items() if key.startswith("model.")}
    if named.get("preset") or any(value != flat.get(key) for key, value in asked.items()):
        raise UserError(f"with --from the model's shape is that of {directory}; leave out --preset and --model.*")
    tokenizer = named.get("tokenizer")
    if tokenizer and Tokenizer.load(tokenizer).fingerprint != Tokenizer.load(directory).fingerprint:
        raise UserError(f"the tokenizer {tokenizer} is not that of {directory}; leave --tokenizer out")
    return str(directory), shape


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
    model = load_model(recipe.start) if recipe.start else Transformer(recipe.model, recipe.seed)
    objective = STAGES[recipe.stage].OBJECTIVE()
    return Trainer(recipe, run, model, tokenizer, *loaded, objective, strategy, console)


def launch(recipe: Recipe, run: Path, console: TrainingConsole) -> Outcome:
    """Train by `recipe` in the directory `run`, or continue what an earlier call began there."""
    strategy = Strategy(pick_device(recipe.device))
    if recipe.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    tokenizer = Tokenizer.load(recipe.tokenizer)
    try:
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


def _fit(trainer: Trainer, stage: str) -> Outcome:
    """Train, and say in `state.json` how it stands."""
    path = trainer.run / "state.json"
    state = {"stage": stage, "pid": os.getpid(), "host": socket.gethostname(), "started": time.time()}
    _write_json(path, {**state, "status": "running"})
    status = "failed"
    try:
        outcome = trainer.fit()
        status = outcome.status
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        done = {**dataclasses.asdict(trainer.progress), "status": status, "ended": time.time()}
        _write_json(path, {**state, **done})
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
        write_atomically(path, config.dump(recipe))  # first: by this file a directory is a run
        _write_json(run / "environment.json", environment())
        about = {"fingerprint": data.fingerprint, "documents": len(data), "sources": data.sources}
        _write_json(run / "data.json", about)
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


def _write_json(path: Path, content: object) -> None:
    write_atomically(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


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
