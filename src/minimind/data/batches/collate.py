"""From segments of documents to the tensors of a batch, and from a batch to micro-batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from minimind.data.batches.batch import IGNORE, PADDING, Batch
from minimind.data.batches.documents import Documents


def collate(
    data: Documents,
    document: np.ndarray,
    start: np.ndarray,
    length: np.ndarray,
    segments_per_sequence: list[int],
    seq_len: int,
) -> Batch:
    """Read segments, given sequence after sequence, into a batch of len(segments_per_sequence) sequences.

    Each segment is its document's index in `data`, the pair (input, target) it starts at and its number of pairs.
    What the segments leave of a sequence is padding at its end; a sequence without segments is all padding. Columns
    of the data come along: a target's value for a token column, a document's for a document column.
    """
    num_sequences = len(segments_per_sequence)
    size = num_sequences * seq_len
    sequence = np.repeat(np.arange(num_sequences), segments_per_sequence)
    length = length.astype(np.int64)
    before = np.cumsum(length) - length  # pairs in the batch before each segment
    used = np.bincount(sequence, weights=length, minlength=num_sequences).astype(np.int64)  # pairs in each sequence
    place = before - (np.cumsum(used) - used)[sequence] + sequence * seq_len  # where each segment begins in B·T

    tokens = np.zeros(size, np.int64)
    targets = np.full(size, IGNORE, np.int64)
    valid = np.zeros(size, bool)
    columns = {
        name: data.read_column(name, 0, 0, 0) for name in data.token_columns
    }  # no value: only type and shape
    columns = {name: np.zeros((size, *empty.shape[1:]), empty.dtype) for name, empty in columns.items()}
    for source, first, count, at in zip(document.tolist(), start.tolist(), length.tolist(), place.tolist()):
        ids, mask = data.read(source, first, first + count + 1)
        tokens[at : at + count] = ids[:-1]
        targets[at : at + count] = ids[1:]
        valid[at : at + count] = mask[1:]
        for name, column in columns.items():
            column[at : at + count] = data.read_column(name, source, first + 1, first + count + 1)
    targets[~valid] = IGNORE

    positions = np.zeros(size, np.int64)
    documents = np.full(size, PADDING, np.int64)
    filled = np.repeat(place - before, length) + np.arange(int(length.sum()))
    positions[filled] = np.arange(len(filled)) - np.repeat(before, length)
    documents[filled] = np.repeat(np.arange(len(length)), length)

    ends = np.arange(num_sequences) * seq_len + used
    boundaries = np.concatenate([place, ends[used < seq_len], [size]])
    num_valid = np.add.reduceat(valid, place, dtype=np.int64) if len(place) else np.zeros(0, np.int64)
    # reduceat sums up to the next segment: the padding between has nothing to add
    table = {name: values[document] for name, values in data.document_columns.items()}
    table |= {"source": document.astype(np.int64), "start": start.astype(np.int64), "tokens": num_valid}
    table["bytes"] = _segment_bytes(data, document, start, length, num_valid)

    def tensor(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).view(num_sequences, seq_len, *values.shape[1:])

    return Batch(
        tokens=tensor(tokens),
        targets=tensor(targets),
        positions=tensor(positions),
        documents=tensor(documents),
        cu_seqlens=torch.from_numpy(np.sort(boundaries).astype(np.int32)),
        num_valid_tokens=int(num_valid.sum()),
        columns={name: tensor(values) for name, values in columns.items()},
        table={name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in table.items()},
    )


def _segment_bytes(
    data: Documents, document: np.ndarray, start: np.ndarray, length: np.ndarray, num_valid: np.ndarray
) -> np.ndarray:
    """UTF-8 bytes that the valid targets of each segment spell.

    A segment of a longer document takes its share of the document's bytes, by valid tokens, rounded such that the
    shares of all its segments sum to the document's bytes.
    """
    pairs = data.lengths[document] - 1
    if data.masked:
        total, before = num_valid.copy(), np.zeros_like(num_valid)
        for segment in np.flatnonzero(pairs > length):
            _, mask = data.read(int(document[segment]))
            total[segment] = np.count_nonzero(mask[1:])
            before[segment] = np.count_nonzero(mask[1 : start[segment] + 1])
    else:  # every target is trained on
        total, before = pairs, start.astype(np.int64)
    total = np.maximum(total, 1)  # a document with nothing to train on: its share is 0 / 1
    size = data.bytes[document].astype(np.int64)
    return size * (before + num_valid) // total - size * before // total


def split_into_micro_batches(batch: Batch, micro_batch_size: int) -> list[Batch]:
    """The batch in micro-batches of `micro_batch_size` sequences (the last may have fewer).

    Each is complete in itself: its document numbers are rows of its own table. The batch must still be on
    the CPU, and no document or run of padding may reach over the end of a sequence, as in the loader's batches.
    """
    num_sequences, seq_len = batch.tokens.shape
    micro_batches = []
    first_document = 0
    for start in range(0, num_sequences, micro_batch_size):
        stop = min(start + micro_batch_size, num_sequences)
        # numbers grow from left to right, so a run of sequences holds a run of documents
        documents = batch.documents[start:stop]
        last_document = max(first_document, int(documents.max()) + 1)
        begin, end = start * seq_len, stop * seq_len
        boundaries = batch.cu_seqlens[(batch.cu_seqlens >= begin) & (batch.cu_seqlens <= end)]
        table = {name: column[first_document:last_document] for name, column in batch.table.items()}
        micro_batches.append(
            replace(
                batch,
                tokens=batch.tokens[start:stop],
                targets=batch.targets[start:stop],
                positions=batch.positions[start:stop],
                documents=torch.where(documents == PADDING, PADDING, documents - first_document),
                cu_seqlens=boundaries - begin,
                num_valid_tokens=int(table["tokens"].sum()),
                columns={name: column[start:stop] for name, column in batch.columns.items()},
                table=table,
            )
        )
        first_document = last_document
    return micro_batches
