"""What happens when loss or gradient is not finite: the step is skipped and written down; after too many in a row
the run returns to its newest checkpoint and passes over the data that led there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from minimind.data.batches.loader import BatchSource
from minimind.data.shards.shard_set import ShardSet
from minimind.errors import WorkFailed
from minimind.train.checkpoint import Checkpoints, Progress
from minimind.train.setup import Setup
from minimind.util.files import write_text

NAMED = 3  # documents named on the console; the file names all
ADVICE = "try a lower optimizer.learning_rate, or --precision fp32"


def count_bad_steps(setup: Setup, source: BatchSource, progress: Progress, finite: list[bool]) -> bool:
    """Count the steps up to `progress.step`, and write down those that were skipped; whether to roll back now."""
    for step, good in enumerate(finite, start=progress.step - len(finite) + 1):
        progress.bad_steps = 0 if good else progress.bad_steps + 1
        if not good and setup.strategy.is_main:
            setup.console.say(write_bad_step(setup, source, step, step - 1 + progress.skipped))
        if progress.bad_steps >= setup.recipe.max_bad_steps:
            return True
    return False


def checkpoint_to_return_to(checkpoints: Checkpoints, failed: Progress) -> Path:
    """The newest checkpoint; WorkFailed where there is none, or where the run has been here before."""
    checkpoint, _ = checkpoints.newest_whole()
    if checkpoint is None:
        raise WorkFailed(
            f"{failed.bad_steps} steps in a row were not finite and there is no checkpoint to return to; {ADVICE}"
        )
    if failed.step <= failed.rolled_back_from:
        raise WorkFailed(f"not finite again after rolling back; {ADVICE}")
    return checkpoint


def skip_data(progress: Progress, failed: Progress) -> None:
    """Let a run that returned to `progress` read the data after those of `failed`."""
    progress.skipped = failed.step + failed.skipped - progress.step
    progress.total_steps, progress.rolled_back_from, progress.bad_steps = failed.total_steps, failed.step, 0


def write_bad_step(setup: Setup, source: BatchSource, step: int, data_step: int) -> str:
    """Save the batch that optimizer step `step` read and the places its documents come from; returns a sentence.

    A batch is a function of its step, so it is read again instead of being kept at every step. Where the model
    itself makes the batches there is nothing to read again.
    """
    said = f"step {step}: loss or gradient is not finite; step skipped"
    if not source.prefetch or not isinstance(setup.data, ShardSet):
        return said
    batch = source.step(data_step)
    sources = [setup.data.provenance(int(document)) for document in np.unique(batch.table["source"])]
    places = [f"{file}:{line}" for file, line in sources]
    path = setup.run / "bad_steps" / f"step-{step:07d}.json"
    write_text(path, json.dumps({"step": step, "documents": places, "tokens": batch.tokens.tolist()}))
    more = f" and {len(places) - NAMED} more" if len(places) > NAMED else ""
    return f"{said}, batch ({', '.join(places[:NAMED])}{more}) in {path}"
