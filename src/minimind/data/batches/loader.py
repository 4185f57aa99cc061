"""From shards to batches: step k of a training is found by computation, whoever asks for it."""

from __future__ import annotations

import itertools
import math
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from minimind.data.batches.batch import Batch
from minimind.data.batches.collate import collate, num_valid_tokens, split_into_micro_batches
from minimind.data.batches.packing import Long, pack, pieces
from minimind.errors import UserError

if TYPE_CHECKING:
    from minimind.data.shards.shard_set import ShardSet

__all__ = [
    "Loader",
    "LoaderStats",
    "Prefetcher",
    "num_valid_tokens",
    "sequential_batches",
    "split_into_micro_batches",
]


@dataclass(frozen=True)
class LoaderStats:
    """What the loader makes of its documents in one epoch."""

    documents: int  # documents given
    pieces: int  # pieces packed
    rows: int  # rows of one epoch
    pairs: int  # (input, target) pairs in them
    padding: float  # fraction of the rows' positions that hold no pair
    long_documents: int  # documents longer than a row, which were split or truncated
    dropped_segments: int  # pieces of long documents left out because no target in them is trained on


class Loader:
    """Batches of a data set: a pure function of (data, documents, row length, rows, seed, step).

    data        the documents, as minimind.data.shards.shard_set.ShardSet
    documents   indices into `data` of the documents to train on
    seq_len  T, positions in a row
    rows        rows of one optimizer step, over all processes and micro-batches
    long        "split" a document longer than a row into pieces, or "truncate" it to its first T pairs

    An epoch holds every piece once. Since the number of rows depends on the pieces' lengths alone
    (see packing.pack), all epochs have equally many; each epoch shuffles anew which pieces share a row and
    the order of the rows. The rows of all epochs make one endless stream, and step k takes rows
    [k·rows, (k+1)·rows) of it: an epoch may end in the middle of a step, and no row is lost. In memory
    are 16 bytes for each piece (int32 document, start, length, place in the epoch) and 12 for each row.
    """

    def __init__(
        self,
        data: ShardSet,
        documents: np.ndarray,
        seq_len: int,
        rows: int,
        seed: int,
        long: Long = "split",
    ) -> None:
        self.data = data
        self.seq_len = seq_len
        self.rows = rows
        self.seed = seed
        documents = np.asarray(documents, dtype=np.int64)
        lengths = data.lengths[documents]
        local, start, length = pieces(lengths, seq_len, long)
        document = documents[local].astype(np.int32)

        is_long = lengths - 1 > seq_len
        kept = np.ones(len(document), dtype=bool)
        if data.kind == "chat":  # elsewhere every target is trained on
            for piece in np.flatnonzero(is_long[local]):
                first, count = int(start[piece]), int(length[piece])
                _, mask = data.read(int(document[piece]), first, first + count + 1)
                kept[piece] = mask[1:].any()
        self._document, self._start, self._length = document[kept], start[kept], length[kept]
        if not len(self._length):
            raise UserError(f"none of the {len(documents)} training documents has a token to train on; add data")

        self._cached_epoch = self._shuffle(0)
        self.sequences_per_epoch = len(self._cached_epoch.sequence_order)
        pairs = int(self._length.sum(dtype=np.int64))
        self.stats = LoaderStats(
            documents=len(documents),
            pieces=len(self._length),
            rows=self.sequences_per_epoch,
            pairs=pairs,
            padding=1 - pairs / (self.sequences_per_epoch * seq_len),
            long_documents=int(is_long.sum()),
            dropped_segments=int((~kept).sum()),
        )

    @property
    def steps_per_epoch(self) -> int:
        """Steps after which every row was seen (the last one may run into the next epoch)."""
        return self.steps(1)

    def steps(self, epochs: float) -> int:
        """Steps that see every row `epochs` times, rounded up to a whole step."""
        # a tiny slack, so that 1.1 epochs of 1000 rows are 1100 rows and not 1101
        return max(1, math.ceil(epochs * self.sequences_per_epoch / self.rows - 1e-9))

    def epoch(self, k: int) -> float:
        """Epochs seen before step k."""
        return k * self.rows / self.sequences_per_epoch

    def step(self, k: int, rank: int = 0, world: int = 1) -> Batch:
        """Rows rank, rank + world, … of step k: (rows / world, T) positions on the CPU."""
        if self.rows % world:
            raise UserError(
                f"{self.rows} rows per step cannot be shared equally by {world} processes;"
                f" choose a multiple of {world}"
            )
        row_pieces = []
        for row in range(k * self.rows + rank, (k + 1) * self.rows, world):
            number, index = divmod(row, self.sequences_per_epoch)
            epoch = self._cached_epoch
            if epoch.number != number:
                self._cached_epoch = epoch = self._shuffle(number)
            row_pieces.append(epoch.row(index))
        chosen = np.concatenate(row_pieces)
        return collate(
            self.data,
            self._document[chosen],
            self._start[chosen],
            self._length[chosen],
            [len(row) for row in row_pieces],
            self.seq_len,
        )

    def _shuffle(self, epoch: int) -> _Epoch:
        """The rows of one epoch: pieces in a random order are packed, then the rows are shuffled."""
        random = np.random.default_rng((self.seed, epoch))
        shuffled = random.permutation(np.arange(len(self._length), dtype=np.int32))
        order, sequence_starts = pack(self._length[shuffled], self.seq_len)
        sequence_order = random.permutation(np.arange(len(sequence_starts) - 1, dtype=np.int32))
        return _Epoch(epoch, shuffled[order], sequence_starts, sequence_order)


@dataclass(frozen=True)
class _Epoch:
    """The rows of one epoch: the r-th to be seen holds the pieces of packed row sequence_order[r]."""

    number: int
    order: np.ndarray
    sequence_starts: np.ndarray
    sequence_order: np.ndarray

    def row(self, index: int) -> np.ndarray:
        row = self.sequence_order[index]
        return self.order[self.sequence_starts[row] : self.sequence_starts[row + 1]]


def sequential_batches(data: ShardSet, documents: np.ndarray, seq_len: int, rows: int) -> Iterator[Batch]:
    """Every document once, for evaluation: long ones split, packed, rows in the order of their first piece.

    All batches have shape (rows, T), so that a compiled graph fits them all: the last is filled up with
    rows of padding.
    """
    documents = np.asarray(documents, dtype=np.int64)
    local, start, length = pieces(data.lengths[documents], seq_len, "split")
    order, sequence_starts = pack(length, seq_len)
    packed_rows = [np.sort(order[a:b]) for a, b in itertools.pairwise(sequence_starts)]
    packed_rows.sort(key=lambda row: row[0])
    nothing = np.empty(0, np.int32)
    for first in range(0, len(packed_rows), rows):
        chosen_rows = packed_rows[first : first + rows]
        chosen_rows += [nothing] * (rows - len(chosen_rows))
        chosen = np.concatenate(chosen_rows)
        yield collate(
            data,
            documents[local[chosen]],
            start[chosen],
            length[chosen],
            [len(row) for row in chosen_rows],
            seq_len,
        )


class Prefetcher:
    """Makes the batches of steps start … stop - 1 in a background thread; iterate over (k, batch).

    At most `depth` finished batches wait. `wait_seconds` sums the time the consumer waited for data.
    Leave the `with` block, or call close(), to stop early.
    """

    def __init__(
        self, loader: Loader, start: int, stop: int, rank: int = 0, world: int = 1, depth: int = 2
    ) -> None:
        self.wait_seconds = 0.0
        self._remaining = iter(range(start, stop))  # steps the consumer has not taken yet
        self._queue: queue.Queue[tuple[int, Batch] | BaseException] = queue.Queue(depth)
        self._closed = threading.Event()
        self._thread = threading.Thread(
            target=self._produce,
            args=(loader, range(start, stop), rank, world),
            name="minimind-prefetch",
            daemon=True,
        )
        self._thread.start()

    def _produce(self, loader: Loader, steps: range, rank: int, world: int) -> None:
        for k in steps:
            try:
                item: tuple[int, Batch] | BaseException = (k, loader.step(k, rank, world))
            except BaseException as error:  # handed to the consumer, who raises it
                item = error
            while not self._closed.is_set():
                try:
                    self._queue.put(item, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if self._closed.is_set() or isinstance(item, BaseException):
                return

    def __iter__(self) -> Iterator[tuple[int, Batch]]:
        for _ in self._remaining:
            began = time.perf_counter()
            item = self._queue.get()
            self.wait_seconds += time.perf_counter() - began
            if isinstance(item, BaseException):
                self._remaining = iter(())
                raise item
            yield item

    def close(self) -> None:
        """Stop the thread and wait for it. Batches already made are dropped."""
        self._closed.set()
        self._thread.join()

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
