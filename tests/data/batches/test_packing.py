from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimind.data.batches.packing import pack, segments

lengths_of_documents = st.lists(st.integers(0, 60), max_size=80)
seq_lens = st.integers(1, 40)


@given(lengths_of_documents, seq_lens)
def test_split_places_every_pair_of_every_document_once(lengths, seq_len):
    document, start, length = segments(np.array(lengths, dtype=np.int64), seq_len, "split")
    placed = [
        (d, pair) for d, s, n in zip(document.tolist(), start.tolist(), length.tolist()) for pair in range(s, s + n)
    ]
    assert placed == [(d, pair) for d, tokens in enumerate(lengths) for pair in range(tokens - 1)]
    assert all(1 <= n <= seq_len for n in length)


@given(lengths_of_documents, seq_lens)
def test_truncate_keeps_the_first_pairs_of_a_document(lengths, seq_len):
    document, start, length = segments(np.array(lengths, dtype=np.int64), seq_len, "truncate")
    expected = [(d, 0, min(tokens - 1, seq_len)) for d, tokens in enumerate(lengths) if tokens > 1]
    assert list(zip(document.tolist(), start.tolist(), length.tolist())) == expected


def first_fit_decreasing(lengths, seq_len):
    """The textbook algorithm: longest first, each into the first sequence with room."""
    sequences, room = [], []
    for segment in sorted(range(len(lengths)), key=lambda segment: -lengths[segment]):
        for sequence in range(len(sequences) + 1):
            if sequence == len(sequences):
                sequences.append([])
                room.append(seq_len)
            if lengths[segment] <= room[sequence]:
                sequences[sequence].append(segment)
                room[sequence] -= lengths[segment]
                break
    return sequences


@given(st.data(), seq_lens)
def test_pack_is_first_fit_decreasing(data, seq_len):
    lengths = data.draw(st.lists(st.integers(1, seq_len), max_size=120))
    order, sequence_starts = pack(np.array(lengths, dtype=np.int64), seq_len)
    sequences = [order[a:b].tolist() for a, b in pairwise(sequence_starts)]
    assert sequences == first_fit_decreasing(lengths, seq_len)


def test_pack_of_nothing_is_no_sequence():
    order, sequence_starts = pack(np.array([], dtype=np.int64), 8)
    assert len(order) == 0
    assert sequence_starts.tolist() == [0]


def test_the_number_of_sequences_does_not_depend_on_the_order():
    random = np.random.default_rng(0)
    lengths = random.integers(1, 100, 1000)
    counts = {len(pack(random.permutation(lengths), 128)[1]) for _ in range(5)}
    assert len(counts) == 1


def test_rows_longer_than_16_bits():
    lengths = np.array([70_000, 65_536, 1, 65_535, 4_464])
    order, sequence_starts = pack(lengths, 70_000)
    assert [order[a:b].tolist() for a, b in pairwise(sequence_starts)] == [[0], [1, 4], [3, 2]]


@pytest.mark.parametrize("seq_len", [128, 256, 512, 768, 2048])
@pytest.mark.parametrize(("median", "sigma"), [(500, 0.6), (90, 0.7)], ids=["texts", "instructions"])
def test_little_padding_on_realistic_lengths(median, sigma, seq_len):
    lengths = np.random.default_rng(0).lognormal(np.log(median), sigma, 5000).astype(np.int64) + 2
    _, _, length = segments(lengths, seq_len, "split")
    _, sequence_starts = pack(length, seq_len)
    assert 1 - length.sum() / ((len(sequence_starts) - 1) * seq_len) <= 0.03
