"""Documents that come in groups, such as pairs of answers: a group is never torn apart."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minimind.data.batches.batch import IGNORE, PADDING
from minimind.data.batches.collate import split_into_micro_batches
from minimind.data.batches.documents import MemoryDocuments
from minimind.data.batches.loader import Loader, pack_once, sequential_batches
from minimind.data.batches.packing import fit_groups
from minimind.errors import UserError


def numbered(lengths, group, masks=None):
    """Groups of documents in which token p of document d is 1000 d + p."""
    ids = [1000 * d + np.arange(length) for d, length in enumerate(lengths)]
    masks = masks or [np.ones(length, np.uint8) for length in lengths]
    place = np.arange(len(lengths))
    columns = {"group": place // group, "side": place % group}
    return MemoryDocuments(ids, masks, document_columns=columns, group=group)


# (documents of a group, lengths of all documents)
groups = st.integers(2, 4).flatmap(
    lambda group: st.lists(
        st.lists(st.integers(2, 40), min_size=group, max_size=group), min_size=1, max_size=12
    ).map(lambda lengths: (group, [length for one in lengths for length in one]))
)


@given(groups | st.tuples(st.just(1), st.lists(st.integers(0, 40), min_size=1)), st.integers(8, 60))
def test_fit_groups_cuts_the_longest_to_the_largest_length_that_fits(documents, seq_len):
    group, lengths = documents
    kept = fit_groups(np.array(lengths), seq_len, group).reshape(-1, group)
    pairs = np.maximum(np.array(lengths).reshape(-1, group) - 1, 0)
    assert (kept <= pairs).all()
    assert (kept.sum(1) <= seq_len).all()
    for kept_of_one, pairs_of_one in zip(kept, pairs):
        cut = kept_of_one < pairs_of_one
        if not cut.any():
            continue
        (limit,) = set(kept_of_one[cut].tolist())  # all that are cut, at one length
        assert (kept_of_one[~cut] <= limit).all()
        assert np.minimum(pairs_of_one, limit + 1).sum() > seq_len


def read_groups(batch):
    """For each group in a batch: the sequence its documents stand in, and how many pairs each has."""
    found = {}
    for document in range(batch.num_documents):
        sequences, positions = (batch.documents == document).nonzero(as_tuple=True)
        assert len(sequences.unique()) == 1
        source = int(batch.table["source"][document])
        wanted = 1000 * source + torch.arange(len(positions))
        assert torch.equal(batch.tokens[sequences, positions], wanted)
        assert (batch.positions[sequences, positions] == torch.arange(len(positions))).all()
        number = int(batch.table["group"][document])
        found.setdefault(number, []).append((int(sequences[0]), source, len(positions)))
    return found


@settings(max_examples=60, deadline=None)
@given(groups, st.integers(8, 60), st.integers(1, 4), st.integers(0, 3))
def test_every_group_is_whole_in_one_sequence_once_an_epoch(documents, seq_len, sequences, seed):
    group, lengths = documents
    data = numbered(lengths, group)
    loader = Loader(data, np.arange(len(lengths)), seq_len, sequences, seed)
    kept = fit_groups(data.lengths, seq_len, group)
    counts = np.zeros(len(lengths) // group, int)
    for k in range(loader.sequences_per_epoch):  # the stream of sequences then stands at the end of an epoch
        batch = loader.step(k)
        for micro in split_into_micro_batches(batch, 1):
            for number, members in read_groups(micro).items():
                counts[number] += 1
                assert [source for _, source, _ in members] == [number * group + side for side in range(group)]
                assert len({sequence for sequence, _, _ in members}) == 1
                assert [pairs for _, _, pairs in members] == kept[number * group : (number + 1) * group].tolist()
    assert (counts == sequences).all()
    assert loader.stats.segments == len(lengths)
    assert loader.stats.long_documents == (data.lengths - 1 > kept).sum()
    assert loader.stats.pairs == kept.sum()


@settings(max_examples=40, deadline=None)
@given(groups, st.integers(8, 60), st.integers(1, 4))
def test_evaluation_reads_every_group_once_and_whole(documents, seq_len, sequences):
    group, lengths = documents
    data = numbered(lengths, group)
    seen = []
    for batch in sequential_batches(data, np.arange(len(lengths)), seq_len, sequences):
        assert batch.tokens.shape == (sequences, seq_len)
        for number, members in read_groups(batch).items():
            seen.append(number)
            assert len({sequence for sequence, _, _ in members}) == 1
            assert len(members) == group
    assert sorted(seen) == list(range(len(lengths) // group))


def test_only_the_given_groups_are_read():
    data = numbered([9] * 20, 2)
    chosen = np.array([4, 5, 12, 13])
    loader = Loader(data, chosen, 32, 1, seed=0)
    sources = {int(s) for k in range(loader.steps_per_epoch) for s in loader.step(k).table["source"]}
    assert sources == set(chosen.tolist())


def test_micro_batches_keep_groups_together():
    rng = np.random.default_rng(0)
    data = numbered(rng.integers(3, 20, 60).tolist(), 3)
    loader = Loader(data, np.arange(60), 64, 4, seed=1)
    for k in range(loader.steps_per_epoch):
        for size in (1, 2, 3):
            for micro in split_into_micro_batches(loader.step(k), size):
                assert micro.table["side"].tolist() == [0, 1, 2] * (micro.num_documents // 3)
                assert (micro.table["group"].reshape(-1, 3) == micro.table["group"][::3, None]).all()
        shares = [loader.step(k, rank, 2) for rank in (0, 1)]
        assert all(share.table["side"].tolist() == [0, 1, 2] * (share.num_documents // 3) for share in shares)


def test_a_group_of_which_one_has_nothing_to_learn_is_left_out_and_counted():
    """Cut to fit, the answer of the second pair's longer side is gone; half a pair teaches nothing."""
    lengths = [6, 6, 20, 6, 5, 7]
    masks = [np.array([0] * (length - 2) + [1] * 2, np.uint8) for length in lengths]
    data = numbered(lengths, 2, masks)
    loader = Loader(data, np.arange(6), 16, 1, seed=0)
    assert loader.stats.dropped_segments == 2
    assert loader.stats.segments == 4
    batches = [loader.step(k) for k in range(loader.steps_per_epoch)]
    groups = sorted({int(group) for batch in batches for group in batch.table["group"]})
    assert groups == [0, 2]
    assert all((batch.table["tokens"] > 0).all() for batch in batches)
    with pytest.raises(UserError, match="none of the 2 training documents has a token to train on"):
        Loader(data, np.array([2, 3]), 16, 1, seed=0)


def test_pack_once_holds_every_document_in_as_few_sequences_as_they_need():
    data = numbered([5, 9, 30, 4, 16], 1)
    batch = pack_once(data, 16)
    assert batch.tokens.shape[1] == 16
    assert len(batch.tokens) == 3  # 4 + 8 + 3, 16 of the 29, 15
    assert sorted(batch.table["source"].tolist()) == [0, 1, 2, 3, 4]
    read_groups(batch)
    counts = {int(s): int(n) for s, n in zip(batch.table["source"], batch.table["tokens"])}
    assert counts == {0: 4, 1: 8, 2: 16, 3: 3, 4: 15}
    assert (batch.targets[batch.documents == PADDING] == IGNORE).all()
