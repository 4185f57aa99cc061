"""Packing: cut documents into segments of at most one sequence and lay these side by side in sequences.

Lengths are counted in (input, target) pairs: a document of n tokens has n - 1 of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

Long = Literal["split", "truncate"]  # what happens to a document with more pairs than a sequence


def segments(lengths: np.ndarray, seq_len: int, long: Long = "split") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut documents of `lengths` tokens into segments of at most `seq_len` pairs.

    Returns three int32 arrays with one entry per segment, in document order: the document it belongs to (an
    index into `lengths`), the pair it starts at, and its number of pairs. "split" places every pair of every
    document in exactly one segment; "truncate" keeps the first `seq_len` pairs of a document. A document of
    fewer than two tokens has no pair and so no segment.
    """
    pairs = np.maximum(np.asarray(lengths, dtype=np.int64) - 1, 0)
    if long == "truncate":
        pairs = np.minimum(pairs, seq_len)
    segments_per_document = -(-pairs // seq_len)
    document = np.repeat(np.arange(len(pairs), dtype=np.int32), segments_per_document)
    first_segment = np.cumsum(segments_per_document) - segments_per_document
    start = (np.arange(len(document)) - first_segment[document]) * seq_len
    length = np.minimum(pairs[document] - start, seq_len)
    return document, start.astype(np.int32), length.astype(np.int32)


def fit_groups(lengths: np.ndarray, seq_len: int, group: int) -> np.ndarray:
    """How many pairs to keep of each document, so that every `group` consecutive ones fit into one sequence.

    lengths  (N,) tokens of the documents, N a multiple of `group`; returns (N,) int64. What is too much is taken
    from the longest: all documents of a group are cut at one length, the largest that fits.
    """
    pairs = np.maximum(np.asarray(lengths, np.int64) - 1, 0).reshape(-1, group)
    ascending = np.sort(pairs, axis=1)
    room = seq_len - (
        np.cumsum(ascending, axis=1) - ascending
    )  # what the shorter ones leave for the k-th and longer
    share = room // (group - np.arange(group))
    cut = ascending > share  # from the first that is longer than its share on, all get that share
    limit = np.where(cut.any(1), share[np.arange(len(pairs)), cut.argmax(1)], seq_len)
    return np.minimum(pairs, limit[:, None]).reshape(-1)


def pack(lengths: np.ndarray, seq_len: int) -> tuple[np.ndarray, np.ndarray]:
    """Pack units (segments, or groups of them) of 1 … `seq_len` pairs into sequences, first fit decreasing.

    Returns `order`, the units (indices into `lengths`) sequence after sequence, and `sequence_starts`, one entry
    more than there are sequences: sequence r holds order[sequence_starts[r] : sequence_starts[r + 1]].

    First fit decreasing puts the longest unit left into the first sequence with room for it, and needs at most
    11/9 of the fewest possible sequences (Johnson 1973). One sequence at a time it reads: take the longest unit
    that fits until none does. What a sequence looks like then depends only on how many units of each length are
    left, and the same sequence comes again and again until one length runs out. So the work in Python grows with
    the number of different lengths (at most two patterns for each), not with the number of units, and the number of
    sequences does not depend on the order of the units; among equal lengths, earlier units go first.
    """
    # numpy sorts 16-bit keys by radix, several times faster than wider ones
    keys = lengths.astype(np.uint16 if seq_len < 2**16 else np.int64)
    by_length = np.argsort(keys, kind="stable").astype(np.int32)
    counts = np.bincount(lengths, minlength=seq_len + 1)
    next_unit = (np.cumsum(counts) - counts).tolist()  # where the unused units of each length begin

    order, segments_per_sequence = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
    for sequences, pattern in _patterns(counts.tolist(), seq_len):
        block = np.empty((sequences, sum(copies for _, copies in pattern)), np.int32)
        column = 0
        for length, copies in pattern:
            first = next_unit[length]
            next_unit[length] += sequences * copies
            block[:, column : column + copies] = by_length[first : next_unit[length]].reshape(sequences, copies)
            column += copies
        order.append(block.ravel())
        segments_per_sequence.append(np.full(sequences, column))
    sequence_starts = np.concatenate([[0], np.cumsum(np.concatenate(segments_per_sequence))])
    return np.concatenate(order), sequence_starts


def _patterns(counts: list[int], seq_len: int) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """The sequences that first fit decreasing makes of `counts[length]` units of each length.

    Yields (number of equal sequences, [(length, copies in each sequence), …]), and empties `counts`.
    """
    shorter = list(range(-1, seq_len))  # a smaller length to look at next; skips lengths found empty

    def longest_left(limit: int) -> int:
        """The longest length <= `limit` of which units are left, or 0 (union-find with path halving)."""
        while limit > 0 and not counts[limit]:
            below = shorter[limit]
            if below > 0 and not counts[below]:
                shorter[limit] = below = shorter[below]
            limit = below
        return limit

    while top := longest_left(seq_len):
        pattern, room, length = [], seq_len, top
        while length:
            copies = min(room // length, counts[length])
            pattern.append((length, copies))
            room -= copies * length
            length = longest_left(min(room, length - 1))
        sequences = min(counts[length] // copies for length, copies in pattern)
        for length, copies in pattern:
            counts[length] -= sequences * copies
        yield sequences, pattern
