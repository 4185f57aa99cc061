"""What the start model thinks of every answer: computed once, before the first step, so that no second model is in
memory while training.

It is kept in the run directory, and in a cache where it is found by content: another run on the same data from the
same weights, with another loss or rate, computes nothing.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch

from minimind.config import to_dict
from minimind.data.batches.loader import sequential_batches
from minimind.data.shards.cache import default_cache
from minimind.losses.logprobs import answer_logprobs
from minimind.train.setup import Setup
from minimind.util.files import whole_file
from minimind.util.progress import progress


def reference_logprobs(setup: Setup) -> np.ndarray:
    """(N,) float32: the log-probability of every answer before training. The processes share the work."""
    own = setup.run / "reference.npz"
    found = _read(own, setup)
    if setup.strategy.any(found is None)[0] or found is None:  # of any process: the work is shared
        cached = default_cache().parent / "reference" / f"{_key(setup)}.npz"
        found = _read(cached, setup)
        if setup.strategy.any(found is None)[0] or found is None:
            found = _compute(setup)
        if setup.strategy.is_main and setup.run.is_dir():
            _write(own, found)
            _write(cached, found)
    return found


def _read(path: Path, setup: Setup) -> np.ndarray | None:
    try:
        values: np.ndarray = np.load(path)["reference"]
        return values
    except FileNotFoundError:
        return None
    except Exception:  # a zip file has a checksum, and where it is damaged errors of many kinds
        setup.console.say(f"{path} is damaged: it is computed again")
        return None


def _write(path: Path, reference: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez(file, reference=reference)


def _compute(setup: Setup) -> np.ndarray:
    strategy, seq_len, everything = setup.strategy, setup.recipe.batch.seq_len, np.arange(len(setup.data.lengths))
    values = torch.zeros(len(everything), device=setup.device)
    with progress("reference", int(setup.data.lengths.sum()), "tokens") as update:
        for number, one in enumerate(sequential_batches(setup.data, everything, seq_len, _at_once(setup))):
            if number % strategy.world == strategy.rank:
                one = one.to(setup.device)
                with torch.no_grad():
                    values[one.table["source"]] = answer_logprobs(setup.model, one).float()
            update(one.num_tokens)
    return strategy.total(values).cpu().numpy()


def _at_once(setup: Setup) -> int:
    batch = setup.recipe.batch
    return max(1, batch.micro_batch_tokens // batch.seq_len)


def _key(setup: Setup) -> str:
    """What decides the values to the last bit: weights, shape, data, and how they were computed."""
    digest = hashlib.sha256()
    for name, tensor in setup.model.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    how = [str(setup.model.compute_dtype), setup.device.type, torch.__version__]
    shape = [setup.recipe.batch.seq_len, _at_once(setup), to_dict(setup.model.config)]
    digest.update(json.dumps([setup.data.fingerprint, *how, *shape]).encode())
    return digest.hexdigest()[:40]
