"""What is written down about a step whose loss or gradient was not finite."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from minimind.data.batches.loader import Loader
from minimind.data.shards.shard_set import ShardSet

NAMED = 3  # documents named on the console; the file names all


def write_bad_step(run: Path, loader: Loader, data: ShardSet, step: int, data_step: int) -> str:
    """Save the batch that optimizer step `step` read and the places its documents come from; returns a sentence.

    A batch is a function of its step, so it is read again instead of being kept at every step.
    """
    batch = loader.step(data_step)
    sources = [data.provenance(int(source)) for source in np.unique(batch.table["source"])]
    places = [f"{file}:{line}" for file, line in sources]
    path = run / "bad_steps" / f"step-{step:07d}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"step": step, "documents": places, "tokens": batch.tokens.tolist()}))
    more = f" and {len(places) - NAMED} more" if len(places) > NAMED else ""
    documents = ", ".join(places[:NAMED]) + more
    return f"step {step}: loss or gradient is not finite; step skipped, batch ({documents}) in {path}"
