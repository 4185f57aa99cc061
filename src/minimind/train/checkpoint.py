"""Checkpoints: all of a training, whole or not at all.

`checkpoints/step-0000100/` is a model directory (fp32 masters, config, tokenizer) with three more files:
`training.pt` (optimizers, loss scale, random generators), `progress.json` (step, counters, sizes of the other
files, checksums of the run's files of lines) and, written last, `SHA256SUMS`. A directory appears under its name
only when everything in it is on the disk; until then, and while it is removed, its name ends in `.partial`. One
that was found damaged is set aside as `.damaged`.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from minimind.errors import UserError
from minimind.model.hf.weights import load_tensors, write_model
from minimind.model.transformer import Transformer
from minimind.tokenizer import Tokenizer
from minimind.train.strategies import Strategy
from minimind.util.checksums import find_damage, write_sums
from minimind.util.files import refuse_link, remove_directory, remove_leftovers, whole_directory, write_json
from minimind.util.system import is_disk_full


@dataclass
class Progress:
    """Where a training stands."""

    step: int = 0
    """optimizer steps made"""
    skipped: int = 0
    """steps of data passed over by roll-backs: step k reads the data of step k + skipped"""
    tokens: int = 0
    """positions read, padding not counted"""
    seconds: float = 0.0
    """time spent in steps"""
    total_steps: int = 0
    """steps of the whole run, as planned"""
    best: float | None = None
    """lowest held-out bits per byte"""
    best_step: int = 0
    """step of the best"""
    without_best: int = 0
    """evaluations since the best"""
    bad_steps: int = 0
    """steps in a row up to now whose loss or gradient was not finite"""
    rolled_back_from: int = -1
    """step at which the run last rolled back"""
    minutes: float | None = None
    """time budget from which total_steps was computed"""
    compiled: bool = False
    """whether the blocks were compiled: compiled and plain arithmetic differ in the last bits"""


def random_state() -> dict[str, Any]:
    """State of torch's generators (the data order has none: it is a function of the step)."""
    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


class Checkpoints:
    """The checkpoints of one run directory."""

    def __init__(self, run: Path, keep: int) -> None:
        self.directory = run / "checkpoints"
        self.keep = keep

    def all(self) -> list[Path]:
        """Finished checkpoints, oldest first."""
        if not self.directory.is_dir():
            return []
        return sorted(path for path in self.directory.iterdir() if re.fullmatch(r"step-\d{7}", path.name))

    def newest_whole(self) -> tuple[Path | None, dict[Path, str]]:
        """The newest undamaged checkpoint, and what is wrong with newer ones."""
        damaged: dict[Path, str] = {}
        for path in reversed(self.all()):
            problem = damage(path)
            if problem is None:
                return path, damaged
            damaged[path] = problem
        return None, damaged

    def find(self, strategy: Strategy, say: Callable[[str], None]) -> Path | None:
        """The checkpoint to resume from, if there is one; damaged ones are set aside. For all processes at once."""
        run = self.directory.parent
        for path in [run / "model", run / "best", *self.directory.glob("step-*")]:
            refuse_link(path)  # now, not when it is its turn to be replaced
        checkpoint, damaged = self.newest_whole()
        strategy.barrier()  # all processes have chosen
        if checkpoint is None and damaged:
            raise UserError(
                f"{next(iter(damaged.values()))}, and no other checkpoint is whole; "
                f"restore one from a copy, or delete {self.directory} to begin again"
            )
        if strategy.is_main:
            remove_leftovers(run)
            for sentence in self.tidy(damaged):
                say(f"{sentence}, resuming from an earlier one")
            if problem := find_damage(run / "best"):
                say(f"{run / 'best'} is damaged: {problem}; it stays until a better model replaces it")
        return checkpoint

    def tidy(self, damaged: dict[Path, str]) -> list[str]:
        """Set damaged checkpoints aside, and remove what a kill left half written; returns what was found."""
        if self.directory.is_dir():
            remove_leftovers(self.directory)
        said = []
        for path, problem in damaged.items():
            aside = path.with_name(path.name + ".damaged")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
            said.append(f"{problem}; it is now {aside.name}")
        return said

    def save(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        training: dict[str, Any],
        progress: Progress,
        lines: dict[str, dict[str, Any]] | None = None,
    ) -> Path:
        """Write a checkpoint and drop the oldest beyond `keep`; UserError when the disk is full.

        lines  size and checksum of the run's files of lines as they are now, by name
        """
        directory = self.directory / f"step-{progress.step:07d}"
        try:
            with whole_directory(directory) as partial:
                write_model(model, partial, tokenizer)
                with (partial / "training.pt").open("wb") as file:
                    torch.save({**training, "random": random_state()}, file)
                sizes = {path.name: path.stat().st_size for path in partial.iterdir()}
                write_json(partial / "progress.json", {**asdict(progress), "files": sizes, "lines": lines or {}})
                write_sums(partial)
        except Exception as error:
            if is_disk_full(error):
                raise UserError(
                    f"the disk of {self.directory} is full: no checkpoint of step {progress.step} was written, "
                    "earlier ones are whole; free some space and run the same command again"
                ) from None
            raise
        for old in self.all()[: -self.keep]:
            remove_directory(old)
        return directory


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, in one sentence; None if it is whole."""
    try:
        sizes = _read_progress(checkpoint)[1]["files"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return f"{checkpoint} is damaged: its progress.json cannot be read"
    for name, size in sizes.items():
        path = checkpoint / name
        found = path.stat().st_size if path.exists() else 0
        if found != size:
            return f"{checkpoint} is damaged: {name} has {found} bytes instead of {size}"
    problem = find_damage(checkpoint)
    return f"{checkpoint} is damaged: {problem}" if problem else None


def load_checkpoint(directory: Path, model: Transformer) -> tuple[dict[str, Any], Progress]:
    """Put the weights of a whole checkpoint into `model`; returns the rest of its state, and progress."""
    load_tensors(model, directory)
    try:
        training = torch.load(directory / "training.pt", map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged files
        raise UserError(f"{directory / 'training.pt'} cannot be read ({error}); delete the checkpoint") from None
    set_random_state(training.pop("random"))
    return training, read_progress(directory)


def read_progress(checkpoint: Path) -> Progress:
    """Where the training stood at a checkpoint."""
    return _read_progress(checkpoint)[0]


def read_marks(checkpoint: Path) -> dict[str, dict[str, Any]]:
    """Size and checksum that the run's files of lines had at a checkpoint, by name, where they were recorded."""
    return _read_progress(checkpoint)[1].get("lines", {})


def _read_progress(checkpoint: Path) -> tuple[Progress, dict[str, Any]]:
    """`progress.json`, and what of it is about files."""
    saved = json.loads((checkpoint / "progress.json").read_text(encoding="utf-8"))
    about_files = {name: saved.pop(name) for name in ("files", "lines") if name in saved}
    return Progress(**saved), about_files
