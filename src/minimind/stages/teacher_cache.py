"""A teacher's likeliest tokens at all positions of a data set: computed once, and kept on disk."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from minimind.data.batches.batch import Batch, valid_positions
from minimind.data.batches.loader import sequential_batches
from minimind.data.shards.cache import default_cache, partial_directory
from minimind.data.shards.shard_set import ShardSet
from minimind.data.shards.trained_columns import TrainedColumns, trained_tokens
from minimind.errors import UserError
from minimind.losses.distillation import TopK
from minimind.stages.teacher import Teacher, ask_teacher, load_teacher, teacher_fingerprint
from minimind.train.setup import Setup
from minimind.util.checksums import find_damage, write_sums
from minimind.util.files import remove_directory
from minimind.util.progress import Bar, progress
from minimind.util.system import is_disk_full
from minimind.util.units import size_text

log = logging.getLogger("minimind")

VERSION = 1
IDS, LOGPROBS = "teacher_ids", "teacher_logprobs"  # names of the columns, and of the files


def add_top_k(setup: Setup) -> None:
    """Give a setup's data the teacher's likeliest tokens as columns; where they are not on disk, compute them."""
    data, options, strategy = setup.data, setup.recipe.distill, setup.strategy
    assert isinstance(data, ShardSet)
    vocab_size, dtype = setup.model.config.vocab_size, str(setup.model.compute_dtype)
    key = [VERSION, data.fingerprint, teacher_fingerprint(setup), vocab_size, dtype]
    # A document is read in the segments that it is trained in: a later one begins anew.
    key += [setup.recipe.batch.seq_len, options.top_k, options.temperature]
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:40]
    directory = default_cache().with_name("teachers") / name
    usable = False
    if strategy.is_main:
        usable = _is_usable(directory)
    if not strategy.any(usable)[0]:
        _write(setup, data, load_teacher(setup), directory)
    columns = {name: np.asarray(np.load(directory / f"{name}.npy", mmap_mode="r")) for name in (IDS, LOGPROBS)}
    setup.data = TrainedColumns(data, columns)


def cached_top_k(batch: Batch, valid_N: torch.Tensor) -> TopK | None:
    """The columns of a batch, where it has them."""
    if IDS not in batch.columns:
        return None
    return TopK(*(batch.columns[name].flatten(0, 1)[valid_N] for name in (IDS, LOGPROBS)))


def _is_usable(directory: Path) -> bool:
    if not directory.exists():
        return False
    if (problem := find_damage(directory)) is None:
        return True
    log.warning("the teacher's tokens in %s are damaged (%s): they are computed again", directory, problem)
    remove_directory(directory)
    return False


def _write(setup: Setup, data: ShardSet, teacher: Teacher, directory: Path) -> None:
    """Compute the columns, the processes together; the first writes them, whole or not at all."""
    count, vocab_size = int(trained_tokens(data).sum()), setup.model.config.vocab_size
    kept = min(setup.recipe.distill.top_k, vocab_size)
    shapes = {IDS: (count, kept), LOGPROBS: (count, kept + (kept < vocab_size))}
    types = {IDS: np.dtype(np.int16 if vocab_size <= 2**15 else np.int32), LOGPROBS: np.dtype(np.float16)}
    size = sum(int(np.prod(shapes[name])) * types[name].itemsize for name in shapes)
    setup.console.say(
        f"the teacher's {kept} likeliest tokens at {count:,} positions are computed once, "
        f"{size_text(size)} in {directory}"
    )
    if not setup.strategy.is_main:
        _compute(setup, data, teacher, {})
        return setup.strategy.barrier()
    try:
        with partial_directory(directory) as place:
            columns = {name: _new_file(place / f"{name}.npy", types[name], shapes[name]) for name in shapes}
            with progress("the teacher reads", int(data.lengths.sum()), "tokens") as bar:
                _compute(setup, data, teacher, columns, bar)
            for column in columns.values():
                column.flush()
            write_sums(place)
    except OSError as error:
        if is_disk_full(error):
            raise UserError(
                f"the teacher's tokens take {size_text(size)} and the disk of {directory} is full; free some "
                "space, take a smaller distill.top_k, or name another cache directory in MINIMIND_CACHE"
            ) from None
        raise
    setup.strategy.barrier()


def _new_file(path: Path, dtype: np.dtype, shape: tuple[int, int]) -> np.memmap:
    """A .npy file to be filled in any order, its room on the disk taken at once: a full disk shows before the work,
    and not as a fault of memory in the middle of it."""
    column = np.lib.format.open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return column


def _compute(
    setup: Setup, data: ShardSet, teacher: Teacher, columns: dict[str, np.memmap], bar: Bar | None = None
) -> None:
    """Fill the columns of ids and log-probabilities, where there are any: each process computes its share of every
    few batches, and all add them up."""
    batch, options, strategy = setup.recipe.batch, setup.recipe.distill, setup.strategy
    numbered = TrainedColumns(data, {"entry": np.arange(int(trained_tokens(data).sum()))})
    at_once = max(1, batch.micro_batch_tokens // batch.seq_len)
    batches = sequential_batches(numbered, np.arange(len(data)), batch.seq_len, at_once)
    while group := list(islice(batches, strategy.world)):
        entries = [one.columns.pop("entry").flatten()[valid_positions(one)] for one in group]
        mine = ask_teacher(teacher, group[strategy.rank % len(group)].to(setup.device), setup.model, options)
        assert isinstance(mine, TopK)
        mine_NX = torch.cat([mine.ids_NK.float(), mine.logprobs_NO.float()], 1)
        parts = [
            mine_NX if rank == strategy.rank else mine_NX.new_zeros(len(part), mine_NX.shape[1])
            for rank, part in enumerate(entries)
        ]
        found = strategy.total(torch.cat(parts)).cpu().numpy()
        for name, values in zip(columns, np.split(found, [mine.ids_NK.shape[1]], 1)):
            columns[name][torch.cat(entries).numpy()] = values
        if bar:
            bar(sum(one.num_tokens for one in group))
