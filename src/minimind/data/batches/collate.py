"""From pieces of documents to the tensors of a batch, and from a batch to micro-batches."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from minimind.data.batches.batch import IGNORE, PADDING, Batch

if TYPE_CHECKING:
    from minimind.data.shards.shard_set import ShardSet


def collate(
    data: ShardSet,
    document: np.ndarray,
    start: np.ndarray,
    length: np.ndarray,
    segments_per_sequence: list[int],
    seq_len: int,
) -> Batch:
    """Read pieces, given row after row, into a batch of len(segments_per_sequence) rows.

    Each piece is its document's index in `data`, the pair it starts at and its number of pairs. What
    the pieces leave of a row is padding at its end; a row without pieces is all padding.
    """
    num_rows = len(segments_per_sequence)
    size = num_rows * seq_len
    row = np.repeat(np.arange(num_rows), segments_per_sequence)
    length = length.astype(np.int64)
    before = np.cumsum(length) - length  # pairs in the batch before each piece
    used = np.bincount(row, weights=length, minlength=num_rows).astype(np.int64)  # pairs in each row
    place = before - (np.cumsum(used) - used)[row] + row * seq_len  # where each piece begins in B·T

    tokens = np.zeros(size, np.int64)
    targets = np.full(size, IGNORE, np.int64)
    trained = np.zeros(size, bool)
    for source, first, count, at in zip(document.tolist(), start.tolist(), length.tolist(), place.tolist()):
        ids, mask = data.read(source, first, first + count + 1)
        tokens[at : at + count] = ids[:-1]
        targets[at : at + count] = ids[1:]
        trained[at : at + count] = mask[1:]
    targets[~trained] = IGNORE

    positions = np.zeros(size, np.int64)
    documents = np.full(size, PADDING, np.int64)
    filled = np.repeat(place - before, length) + np.arange(int(length.sum()))
    positions[filled] = np.arange(len(filled)) - np.repeat(before, length)
    documents[filled] = np.repeat(np.arange(len(length)), length)

    row_ends = np.arange(num_rows) * seq_len + used
    segments = np.concatenate([place, row_ends[used < seq_len], [size]])
    num_trained = np.add.reduceat(trained, place, dtype=np.int64) if len(place) else np.zeros(0, np.int64)
    # reduceat sums up to the next piece: the padding between has nothing to add
    shape = (num_rows, seq_len)
    return Batch(
        tokens=torch.from_numpy(tokens).view(shape),
        targets=torch.from_numpy(targets).view(shape),
        positions=torch.from_numpy(positions).view(shape),
        documents=torch.from_numpy(documents).view(shape),
        cu_seqlens=torch.from_numpy(np.sort(segments).astype(np.int32)),
        table={
            "source": document.astype(np.int64),
            "start": start.astype(np.int64),
            "bytes": _segment_bytes(data, document, start, length, num_trained),
            "tokens": num_trained,
        },
    )


def _segment_bytes(
    data: ShardSet, document: np.ndarray, start: np.ndarray, length: np.ndarray, num_trained: np.ndarray
) -> np.ndarray:
    """UTF-8 bytes that the trained targets of each piece spell.

    A piece of a longer document takes its share of the document's bytes, by trained tokens, rounded such
    that the shares of all its pieces sum to the document's bytes.
    """
    pairs = data.lengths[document] - 1
    if data.kind == "chat":
        total, before = num_trained.copy(), np.zeros_like(num_trained)
        for piece in np.flatnonzero(pairs > length):
            _, mask = data.read(int(document[piece]))
            total[piece] = np.count_nonzero(mask[1:])
            before[piece] = np.count_nonzero(mask[1 : start[piece] + 1])
    else:  # every target is trained on
        total, before = pairs, start.astype(np.int64)
    total = np.maximum(total, 1)  # a document with nothing to train on: its share is 0 / 1
    size = data.bytes[document].astype(np.int64)
    return size * (before + num_trained) // total - size * before // total


def num_valid_tokens(batch: Batch) -> int:
    """Trained targets in the batch, counted on the host (no wait for the device)."""
    return int(batch.table["tokens"].sum())


def valid_positions(batch: Batch) -> torch.Tensor:
    """(num_valid_tokens,): where in the flattened rows the targets are that are trained on, in order.

    Sorted to the front, since asking the device where they are would wait for it.
    """
    return (batch.targets.flatten() == IGNORE).to(torch.uint8).argsort(stable=True)[: num_valid_tokens(batch)]


def split_into_micro_batches(batch: Batch, micro_batch_size: int) -> list[Batch]:
    """The batch in micro-batches of `micro_batch_size` rows (the last may have fewer).

    Each is complete in itself: its document numbers are rows of its own table. The batch must still be on
    the CPU, and no document or run of padding may reach over the end of a row, as in the loader's batches.
    """
    num_rows, seq_len = batch.tokens.shape
    micro_batches = []
    first_document = 0
    for start in range(0, num_rows, micro_batch_size):
        stop = min(start + micro_batch_size, num_rows)
        # numbers grow from left to right, so a run of rows holds a run of documents
        documents = batch.documents[start:stop]
        last_document = max(first_document, int(documents.max()) + 1)
        begin, end = start * seq_len, stop * seq_len
        boundaries = batch.cu_seqlens[(batch.cu_seqlens >= begin) & (batch.cu_seqlens <= end)]
        micro_batches.append(
            replace(
                batch,
                tokens=batch.tokens[start:stop],
                targets=batch.targets[start:stop],
                positions=batch.positions[start:stop],
                documents=torch.where(documents == PADDING, PADDING, documents - first_document),
                cu_seqlens=boundaries - begin,
                weights=None if batch.weights is None else batch.weights[start:stop],
                table={name: column[first_document:last_document] for name, column in batch.table.items()},
            )
        )
        first_document = last_document
    return micro_batches
