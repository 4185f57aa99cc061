"""From documents to batches: step k of a training is found by computation, whoever asks for it."""

from __future__ import annotations

import itertools
import math
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from minimind.data.batches.batch import Batch
from minimind.data.batches.collate import collate
from minimind.data.batches.documents import Documents
from minimind.data.batches.packing import Long, fit_groups, pack, segments
from minimind.errors import UserError


class BatchSource(Protocol):
    """Where the batches of a training come from: the loader, or rollouts made with the present weights.

    sequences  of one step, over all processes and micro-batches
    prefetch   whether a step's batch may be made before the steps before it are done
    """

    sequences: int
    prefetch: bool

    def step(self, k: int, rank: int = 0, world: int = 1) -> Batch:
        """This process's share of step k, on the CPU: a function of data, seed, k and, for rollouts, weights."""

    def steps(self, epochs: float) -> int:
        """Steps of so many passes over the data."""

    def epoch(self, k: int) -> float:
        """Passes over the data before step k."""

    def metrics(self, seconds: float, steps: int) -> dict[str, float]:
        """What a line of metrics.jsonl says of the last `steps` batches, whose steps took `seconds`."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What step k depends on besides data, seed, k and weights; equal on all processes; for checkpoints."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        return


@dataclass(frozen=True)
class LoaderStats:
    """What the loader makes of its documents in one epoch."""

    documents: int  # documents given
    segments: int  # segments packed
    sequences: int  # sequences of one epoch
    pairs: int  # (input, target) pairs in them
    padding: float  # fraction of the sequences' positions that hold no pair
    long_documents: (
        int  # documents that did not fit into a sequence (with their group), and were split or truncated
    )
    dropped_segments: (
        int  # segments left out: no target of one of their group is trained on, or two of it are alike
    )


class Loader(BatchSource):
    """Batches of documents: a pure function of (data, documents, seq_len, sequences, seed, step).

    data        the documents
    documents   indices into `data` of the documents to train on; whole groups of them (see `Documents.group`)
    seq_len     T, positions in a sequence
    sequences   sequences of one optimizer step, over all processes and micro-batches
    long        "split" a document longer than a sequence into segments, or "truncate" it to its first T pairs

    What is packed is a unit: a segment, or where documents come in groups all segments of a group, truncated to fit
    into one sequence. An epoch holds every unit once. Since the number of sequences depends on the units' lengths
    alone (see packing.pack), all epochs have equally many; each epoch shuffles anew which units share a sequence,
    and the order of the sequences. The sequences of all epochs make one endless stream, and step k takes sequences
    [k·sequences, (k+1)·sequences) of it: an epoch may end in the middle of a step, and no sequence is lost. In
    memory are 16 bytes for each segment (int32 document, start, length, place in the epoch), 12 for each sequence.
    """

    prefetch = True

    def __init__(
        self,
        data: Documents,
        documents: np.ndarray,
        seq_len: int,
        sequences: int,
        seed: int,
        long: Long = "split",
    ) -> None:
        self.data = data
        self.seq_len = seq_len
        self.sequences = sequences
        self.seed = seed
        document, start, length, is_long, kept = fit(data, documents, seq_len, long)
        self.dropped = document[~kept]
        self._document, self._start, self._length = document[kept], start[kept], length[kept]
        if not len(self._length):
            raise UserError(f"none of the {len(documents)} training documents has a token to train on; add data")
        self._unit_lengths = self._length.reshape(-1, data.group).sum(1, dtype=np.int32)

        self._cached_epoch = self._shuffle(0)
        self.sequences_per_epoch = len(self._cached_epoch.sequence_order)
        pairs = int(self._length.sum(dtype=np.int64))
        self.stats = LoaderStats(
            documents=len(documents),
            segments=len(self._length),
            sequences=self.sequences_per_epoch,
            pairs=pairs,
            padding=1 - pairs / (self.sequences_per_epoch * seq_len),
            long_documents=int(is_long.sum()),
            dropped_segments=int((~kept).sum()),
        )

    @property
    def steps_per_epoch(self) -> int:
        """Steps after which every sequence was seen (the last one may run into the next epoch)."""
        return self.steps(1)

    def steps(self, epochs: float) -> int:
        """Steps that see every sequence `epochs` times, rounded up to a whole step."""
        # a tiny slack, so that 1.1 epochs of 1000 sequences are 1100 sequences and not 1101
        return max(1, math.ceil(epochs * self.sequences_per_epoch / self.sequences - 1e-9))

    def epoch(self, k: int) -> float:
        """Epochs seen before step k."""
        return k * self.sequences / self.sequences_per_epoch

    def step(self, k: int, rank: int = 0, world: int = 1) -> Batch:
        """Sequences rank, rank + world, … of step k: (sequences / world, T) positions on the CPU."""
        if self.sequences % world:
            raise UserError(
                f"{self.sequences} sequences per step cannot be shared equally by {world} processes;"
                f" choose a multiple of {world}"
            )
        units_of_sequences = []
        for sequence in range(k * self.sequences + rank, (k + 1) * self.sequences, world):
            number, index = divmod(sequence, self.sequences_per_epoch)
            epoch = self._cached_epoch
            if epoch.number != number:
                self._cached_epoch = epoch = self._shuffle(number)
            units_of_sequences.append(epoch.sequence(index))
        chosen = expand(np.concatenate(units_of_sequences), self.data.group)
        return collate(
            self.data,
            self._document[chosen],
            self._start[chosen],
            self._length[chosen],
            [len(units) * self.data.group for units in units_of_sequences],
            self.seq_len,
        )

    def _shuffle(self, epoch: int) -> _Epoch:
        """The sequences of one epoch: units in a random order are packed, then the sequences are shuffled."""
        rng = np.random.default_rng((self.seed, epoch))
        shuffled = rng.permutation(np.arange(len(self._unit_lengths), dtype=np.int32))
        order, sequence_starts = pack(self._unit_lengths[shuffled], self.seq_len)
        sequence_order = rng.permutation(np.arange(len(sequence_starts) - 1, dtype=np.int32))
        return _Epoch(epoch, shuffled[order], sequence_starts, sequence_order)


@dataclass(frozen=True)
class _Epoch:
    """The sequences of one epoch: the r-th to be seen holds the units of packed sequence sequence_order[r]."""

    number: int
    order: np.ndarray
    sequence_starts: np.ndarray
    sequence_order: np.ndarray

    def sequence(self, index: int) -> np.ndarray:
        packed = self.sequence_order[index]
        return self.order[self.sequence_starts[packed] : self.sequence_starts[packed + 1]]


def fit(
    data: Documents, documents: np.ndarray, seq_len: int, long: Long
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cut documents into segments of one sequence at most; groups are truncated to fit into one together.

    Returns of every segment its document, the pair it starts at and its number of pairs; of every document whether
    it was too long; of every segment whether something in it, and in all others of its group, is trained on, and
    what was cut off has not made two neighbors of a group the same.
    """
    documents = np.asarray(documents, dtype=np.int64)
    lengths = data.lengths[documents]
    if data.group > 1:
        length = fit_groups(lengths, seq_len, data.group).astype(np.int32)
        is_long = lengths - 1 > length
        local, start = np.arange(len(documents), dtype=np.int32), np.zeros(len(documents), np.int32)
    else:
        is_long = lengths - 1 > seq_len
        local, start, length = segments(lengths, seq_len, long)
    document = documents[local].astype(np.int32)
    kept = length > 0
    if data.masked:  # elsewhere every target is trained on
        for segment in np.flatnonzero(is_long[local] & kept):
            first, count = int(start[segment]), int(length[segment])
            _, mask = data.read(int(document[segment]), first, first + count + 1)
            kept[segment] = mask[1:].any()
    kept_groups: np.ndarray = np.asarray(kept.reshape(-1, data.group).all(1))
    if data.group > 1:
        for number in np.flatnonzero(kept_groups & is_long.reshape(-1, data.group).any(1)):
            members = range(number * data.group, (number + 1) * data.group)
            cut = [data.read(int(document[member]), 0, int(length[member]) + 1)[0] for member in members]
            kept_groups[number] = not any(np.array_equal(*pair) for pair in itertools.pairwise(cut))
    return document, start, length, is_long, kept_groups.repeat(data.group)


def expand(units: np.ndarray, group: int) -> np.ndarray:
    """The segments of units that have `group` each."""
    return units if group == 1 else (units[:, None] * group + np.arange(group)).reshape(-1)


def sequential_batches(data: Documents, documents: np.ndarray, seq_len: int, sequences: int) -> Iterator[Batch]:
    """Every document once, for evaluation: long ones split (groups: truncated; left out where one of a group then
    has nothing to train on), packed, in the order of documents.

    All batches have shape (sequences, T), so that a compiled graph fits them all: the last is filled up with
    sequences of padding.
    """
    document, start, length, _, kept = fit(data, documents, seq_len, "split")
    if data.group > 1:
        document, start, length = document[kept], start[kept], length[kept]
    order, sequence_starts = pack(length.reshape(-1, data.group).sum(1), seq_len)
    packed = [np.sort(order[a:b]) for a, b in itertools.pairwise(sequence_starts)]
    packed.sort(key=lambda units: units[0])
    nothing = np.empty(0, np.int32)
    for first in range(0, len(packed), sequences):
        units_of_sequences = packed[first : first + sequences]
        units_of_sequences += [nothing] * (sequences - len(units_of_sequences))
        chosen = expand(np.concatenate(units_of_sequences), data.group)
        counts = [len(units) * data.group for units in units_of_sequences]
        yield collate(data, document[chosen], start[chosen], length[chosen], counts, seq_len)


def pack_once(data: Documents, seq_len: int) -> Batch:
    """All documents in one batch, in as many sequences as they need; whole ones only, longer ones truncated."""
    length = fit_groups(data.lengths, seq_len, data.group).astype(np.int32)
    order, sequence_starts = pack(length.reshape(-1, data.group).sum(1), seq_len)
    counts, order = (np.diff(sequence_starts) * data.group).tolist(), expand(order, data.group)
    return collate(data, order, np.zeros(len(order), np.int32), length[order], counts, seq_len)


class Prefetcher:
    """Makes the batches of steps start … stop - 1 in a background thread; iterate over (k, batch).

    At most `depth` finished batches wait. A source that must not be asked ahead is asked when its batch is wanted.
    `wait_seconds` sums the time the consumer waited for data. Leave the `with` block, or close(), to stop early.
    """

    def __init__(
        self, source: BatchSource, start: int, stop: int, rank: int = 0, world: int = 1, depth: int = 2
    ) -> None:
        self.wait_seconds = 0.0
        self._make = lambda k: source.step(k, rank, world)
        self._remaining = iter(range(start, stop))  # steps the consumer has not taken yet
        self._queue: queue.Queue[tuple[int, Batch] | BaseException] = queue.Queue(depth)
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        if source.prefetch:
            steps = range(start, stop)
            self._thread = threading.Thread(
                target=self._produce, args=(steps,), name="minimind-prefetch", daemon=True
            )
            self._thread.start()

    def _produce(self, steps: range) -> None:
        for k in steps:
            try:
                item: tuple[int, Batch] | BaseException = (k, self._make(k))
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
        for k in self._remaining:
            began = time.perf_counter()
            item = self._queue.get() if self._thread else (k, self._make(k))
            self.wait_seconds += time.perf_counter() - began
            if isinstance(item, BaseException):
                self._remaining = iter(())
                raise item
            yield item

    def close(self) -> None:
        """Stop the thread and wait for it. Batches already made are dropped."""
        self._closed.set()
        if self._thread:
            self._thread.join()

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
