"""Packing: cut documents into pieces of at most one row and lay the pieces side by side in rows.

Lengths are counted in (input, target) pairs: a document of n tokens has n - 1 of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

Long = Literal["split", "truncate"]  # what happens to a document with more pairs than a row


def pieces(lengths: np.ndarray, seq_len: int, long: Long = "split") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut documents of `lengths` tokens into pieces of at most `seq_len` pairs.

    Returns three int32 arrays with one entry per piece, in document order: the document it belongs to (an
    index into `lengths`), the pair it starts at, and its number of pairs. "split" places every pair of every
    document in exactly one piece; "truncate" keeps the first `seq_len` pairs of a document. A document of
    fewer than two tokens has no pair and so no piece.
    """
    pairs = np.maximum(np.asarray(lengths, dtype=np.int64) - 1, 0)
    if long == "truncate":
        pairs = np.minimum(pairs, seq_len)
    pieces_per_document = -(-pairs // seq_len)
    document = np.repeat(np.arange(len(pairs), dtype=np.int32), pieces_per_document)
    first_piece = np.cumsum(pieces_per_document) - pieces_per_document
    start = (np.arange(len(document)) - first_piece[document]) * seq_len
    length = np.minimum(pairs[document] - start, seq_len)
    return document, start.astype(np.int32), length.astype(np.int32)


def pack(lengths: np.ndarray, seq_len: int) -> tuple[np.ndarray, np.ndarray]:
    """Pack pieces of 1 … `seq_len` pairs into rows of `seq_len`, first fit decreasing.

    Returns `order`, the pieces (indices into `lengths`) row after row, and `sequence_starts` with one entry more
    than there are rows: row r holds order[sequence_starts[r] : sequence_starts[r + 1]].

    First fit decreasing puts the longest piece left into the first row with room for it, and needs at most
    11/9 of the fewest possible rows (Johnson 1973). Row by row it reads: take the longest piece that fits
    until none does. What a row looks like then depends only on how many pieces of each length are left,
    and the same row comes again and again until one length runs out. So the work in Python grows with
    the number of different lengths (at most two patterns for each), not with the number of pieces, and the
    number of rows does not depend on the order of the pieces; among equal lengths, earlier pieces go first.
    """
    # numpy sorts 16-bit keys by radix, several times faster than wider ones
    keys = lengths.astype(np.uint16 if seq_len < 2**16 else np.int64)
    by_length = np.argsort(keys, kind="stable").astype(np.int32)
    counts = np.bincount(lengths, minlength=seq_len + 1)
    next_piece = (np.cumsum(counts) - counts).tolist()  # where the unused pieces of each length begin

    order, segments_per_sequence = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
    for rows, pattern in _patterns(counts.tolist(), seq_len):
        block = np.empty((rows, sum(copies for _, copies in pattern)), np.int32)
        column = 0
        for length, copies in pattern:
            first = next_piece[length]
            next_piece[length] += rows * copies
            block[:, column : column + copies] = by_length[first : next_piece[length]].reshape(rows, copies)
            column += copies
        order.append(block.ravel())
        segments_per_sequence.append(np.full(rows, column))
    sequence_starts = np.concatenate([[0], np.cumsum(np.concatenate(segments_per_sequence))])
    return np.concatenate(order), sequence_starts


def _patterns(counts: list[int], seq_len: int) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """The rows that first fit decreasing makes of `counts[length]` pieces of each length.

    Yields (number of equal rows, [(length, copies in each row), …]), and empties `counts`.
    """
    shorter = list(range(-1, seq_len))  # a smaller length to look at next; skips lengths found empty

    def longest_left(limit: int) -> int:
        """The longest length <= `limit` of which pieces are left, or 0 (union-find with path halving)."""
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
        rows = min(counts[length] // copies for length, copies in pattern)
        for length, copies in pattern:
            counts[length] -= rows * copies
        yield rows, pattern
