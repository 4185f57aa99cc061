"""What the benchmarks of training share: a trainer as `minimind train` makes it, a clock, a new process."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from minimind.hardware import pick_device, synchronize
from minimind.recipe import Recipe
from minimind.stages.launch import make_setup, make_trainer
from minimind.stages.stage import Stage
from minimind.train.console import TrainingConsole
from minimind.train.strategies.single import SingleDevice
from minimind.train.trainer import Trainer


def trainer_of(recipe: Recipe, directory: Path, stage: Stage | None = None, keep_memory: bool = True) -> Trainer:
    """The trainer of a recipe, silent; nothing is written before it is told to `fit`."""
    strategy, console = SingleDevice(pick_device(recipe.device), keep_memory), TrainingConsole(quiet=True)
    return make_trainer(make_setup(recipe, directory, strategy, console, stage), stage)


def ready_for_steps(
    recipe: Recipe, directory: Path, stage: Stage | None = None, keep_memory: bool = True
) -> Trainer:
    """The same, ready to make steps: `trainer.step`."""
    trainer = trainer_of(recipe, directory, stage, keep_memory)
    trainer.prepare()
    return trainer


def seconds(device: torch.device, function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """How long a call takes on the device, and what it returns."""
    synchronize(device)
    start = time.perf_counter()
    result = function(*arguments)
    synchronize(device)
    return time.perf_counter() - start, result


def in_a_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns in a new process, on as many threads as here."""
    spawn, threads = multiprocessing.get_context("spawn"), torch.get_num_threads()
    # Not a Pool, whose processes may have none of their own: preparing the data starts some.
    with ProcessPoolExecutor(1, spawn, torch.set_num_threads, (threads,)) as pool:
        return pool.submit(function, *arguments).result()


class Kept:
    """Results in a file, each computed once, in a process of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def get(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        if name not in self.values:
            self.values[name] = in_a_process(function, *arguments)
            self.path.write_text(json.dumps(self.values, indent=1))
            print(name, self.values[name], flush=True)
        return self.values[name]
