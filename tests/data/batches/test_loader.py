import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minimind.data.batches.batch import IGNORE, PADDING, valid_positions
from minimind.data.batches.collate import split_into_micro_batches
from minimind.data.batches.loader import Loader, Prefetcher, sequential_batches
from minimind.data.shards.shard_set import DOC, ShardSet, ShardWriter
from minimind.errors import UserError
from minimind.model.kernels.varlen_attention import document_boundaries


class NumberedDocuments:
    """Documents in which token p of document d is 1000 d + p."""

    group = 1
    token_columns = ()

    def __init__(self, lengths, masks=None):
        self.masked = masks is not None
        self.document_columns = {}
        self.lengths = np.array(lengths, dtype=np.int64)
        self.bytes = self.lengths * 3 + 1
        self.masks = masks

    def __len__(self):
        return len(self.lengths)

    def read(self, index, start=0, stop=None):
        ids = (1000 * index + np.arange(self.lengths[index]))[start:stop].astype(np.uint32)
        mask = np.ones(len(ids)) if self.masks is None else np.array(self.masks[index])[start:stop]
        return ids, mask.astype(np.uint8)


def documents_of(seed=0, count=60, longest=90):
    return NumberedDocuments(np.random.default_rng(seed).integers(2, longest, count))


def pairs_in(batches):
    """All (token, target) pairs that are trained on."""
    pairs = []
    for batch in batches:
        trained = batch.targets != IGNORE
        pairs += zip(batch.tokens[trained].tolist(), batch.targets[trained].tolist())
    return sorted(pairs)


def all_pairs(data, documents):
    return sorted((1000 * d + p, 1000 * d + p + 1) for d in documents for p in range(data.lengths[d] - 1))


def check(batch, data):
    """Everything that the Batch docstring promises, position by position."""
    num_sequences, seq_len = batch.tokens.shape
    seen = 0
    boundaries = []
    for sequence in range(num_sequences):
        before = None
        for column in range(seq_len):
            document = batch.documents[sequence, column].item()
            if document != before or column == 0:
                boundaries.append(sequence * seq_len + column)
                position = 0
                if document != PADDING:
                    assert document == seen
                    seen += 1
            before = document
            if document == PADDING:
                assert batch.targets[sequence, column] == IGNORE
                continue
            source, start = (batch.table[name][document].item() for name in ("source", "start"))
            assert batch.positions[sequence, column] == position
            assert batch.tokens[sequence, column] == 1000 * source + start + position
            _, mask = data.read(source)
            target = 1000 * source + start + position + 1 if mask[start + position + 1] else IGNORE
            assert batch.targets[sequence, column] == target
            position += 1
    assert batch.cu_seqlens.tolist() == [*boundaries, num_sequences * seq_len]
    assert batch.cu_seqlens.dtype == torch.int32
    assert torch.equal(batch.cu_seqlens, document_boundaries(batch.documents))
    assert all(len(column) == seen for column in batch.table.values())
    for document in range(seen):
        trained = (batch.documents == document) & (batch.targets != IGNORE)
        assert batch.table["tokens"][document] == trained.sum()
    assert batch.num_valid_tokens == (batch.targets != IGNORE).sum()
    assert torch.equal(valid_positions(batch), (batch.targets.flatten() != IGNORE).nonzero()[:, 0])


def same(a, b):
    tensors = ("tokens", "targets", "positions", "documents", "cu_seqlens")
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in tensors) and all(
        torch.equal(a.table[name], b.table[name]) for name in a.table.keys() | b.table.keys()
    )


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 50), min_size=1, max_size=40).filter(lambda lengths: max(lengths) > 1),
    seq_len=st.integers(2, 24),
    sequences=st.integers(1, 6),
    seed=st.integers(0, 3),
    data=st.data(),
)
def test_an_epoch_holds_every_pair_of_every_document_once(lengths, seq_len, sequences, seed, data):
    documents = data.draw(st.permutations(range(len(lengths))))
    corpus = NumberedDocuments(lengths)
    loader = Loader(corpus, np.array(documents), seq_len, sequences, seed)
    # after this many steps, the stream of sequences stands at the end of an epoch
    batches = [loader.step(k) for k in range(loader.sequences_per_epoch)]
    assert pairs_in(batches) == sorted(all_pairs(corpus, documents) * sequences)
    for batch in batches[:3]:
        check(batch, corpus)


def test_only_the_given_documents_are_read():
    data = documents_of()
    chosen = np.array([3, 50, 7, 8])
    loader = Loader(data, chosen, 16, 1, seed=0)
    batches = [loader.step(k) for k in range(loader.steps_per_epoch)]
    assert pairs_in(batches) == all_pairs(data, chosen)


def test_a_step_does_not_depend_on_what_was_asked_before():
    data = documents_of()
    loader = Loader(data, np.arange(len(data)), 32, 5, seed=7)
    steps = range(3 * loader.steps_per_epoch)
    forwards = [loader.step(k) for k in steps]
    for k in reversed(steps):
        assert same(loader.step(k), forwards[k])
    assert same(Loader(data, np.arange(len(data)), 32, 5, seed=7).step(17), forwards[17])


def test_seeds_and_epochs_shuffle_differently():
    data = documents_of()
    a, b = (Loader(data, np.arange(len(data)), 32, 4, seed) for seed in (0, 1))
    assert not same(a.step(0), b.step(0))
    epoch = Loader(data, np.arange(len(data)), 32, a.sequences_per_epoch, seed=0)
    first, second = epoch.step(0), epoch.step(1)
    assert pairs_in([first]) == pairs_in([second])
    assert not same(first, second)


def test_steps_and_epochs_are_counted_in_sequences():
    loader = Loader(NumberedDocuments([9] * 10), np.arange(10), 8, 4, seed=0)  # ten sequences
    assert loader.sequences_per_epoch == 10
    assert loader.steps_per_epoch == 3
    assert [loader.steps(epochs) for epochs in (0.1, 0.4, 2, 2.1)] == [1, 1, 5, 6]
    assert loader.epoch(5) == 2.0


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_the_sequences_of_one_process(world):
    data = documents_of()
    loader = Loader(data, np.arange(len(data)), 32, 6, seed=0)
    for k in range(12):
        whole = loader.step(k)
        for rank in range(world):
            part = loader.step(k, rank, world)
            assert torch.equal(part.tokens, whole.tokens[rank::world])
            assert torch.equal(part.targets, whole.targets[rank::world])
            check(part, data)


def test_rows_that_processes_cannot_share_are_refused():
    loader = Loader(documents_of(), np.arange(60), 32, 6, seed=0)
    with pytest.raises(UserError, match="6 sequences per step cannot be shared equally by 4"):
        loader.step(0, 0, 4)


def test_truncate_keeps_the_beginning_of_a_long_document():
    data = documents_of(longest=80)
    loader = Loader(data, np.arange(len(data)), 32, 1, seed=0, long="truncate")
    batches = [loader.step(k) for k in range(loader.steps_per_epoch)]
    assert pairs_in(batches) == [pair for pair in all_pairs(data, range(len(data))) if pair[0] % 1000 < 32]
    assert loader.stats.long_documents == (data.lengths > 33).sum()
    assert loader.stats.pairs == sum(len(batch.tokens[batch.documents != PADDING]) for batch in batches)
    used = sum((batch.documents != PADDING).sum().item() for batch in batches)
    assert loader.stats.padding == pytest.approx(1 - used / (32 * loader.sequences_per_epoch))


def test_a_segment_of_a_chat_with_nothing_to_learn_is_dropped_and_counted():
    masks = [
        [0] * 20 + [1] * 5,  # the answer begins after the cut
        [0] * 8 + [1] * 17,
        [0] * 3 + [1] * 3,
        [0] * 8 + [1],  # exactly a sequence
        [0] * 8 + [1] + [0] * 8,  # the token that two segments share is a target of the first only
    ]
    data = NumberedDocuments([len(mask) for mask in masks], masks)
    truncated = Loader(data, np.arange(5), 8, 1, seed=0, long="truncate")
    assert truncated.stats.dropped_segments == 1
    batches = [truncated.step(k) for k in range(truncated.steps_per_epoch)]
    assert sorted(np.concatenate([batch.table["source"] for batch in batches])) == [1, 2, 3, 4]
    for batch in batches:
        check(batch, data)
        assert (batch.table["tokens"] > 0).all()

    split = Loader(data, np.arange(5), 8, 1, seed=0, long="split")
    assert split.stats.dropped_segments == 3  # the first two segments of document 0, the second of document 4
    batches = [split.step(k) for k in range(split.steps_per_epoch)]
    assert sum(batch.num_valid_tokens for batch in batches) == sum(map(sum, masks))


def test_nothing_to_train_on_is_said():
    with pytest.raises(UserError, match="none of the 2 training documents"):
        Loader(NumberedDocuments([1, 0]), np.arange(2), 8, 1, seed=0)


@pytest.mark.parametrize("kind", ["pretrain", "chat"])
def test_the_bytes_of_a_documents_segments_sum_to_its_bytes(kind):
    random = np.random.default_rng(0)
    lengths = random.integers(2, 90, 40)
    masks = None
    if kind == "chat":
        masks = [np.append(random.integers(0, 2, length - 1), 1) for length in lengths]
    data = NumberedDocuments(lengths, masks)
    total = np.zeros(len(data), np.int64)
    for batch in sequential_batches(data, np.arange(len(data)), 16, 4):
        np.add.at(total, batch.table["source"], batch.table["bytes"])
    assert (total == data.bytes).all()


def test_micro_batches_are_complete_batches():
    data = documents_of()
    batch = list(sequential_batches(data, np.arange(20), 32, 8))[-1]  # has sequences of padding at its end
    assert (batch.documents[-1] == PADDING).all()
    batch.columns["weights"] = torch.rand(batch.tokens.shape)
    parts = split_into_micro_batches(batch, 3)
    assert [len(part.tokens) for part in parts] == [3, 3, 2]
    for part in parts:
        check(part, data)
    for name in ("tokens", "targets", "positions"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name))
    assert torch.equal(torch.cat([part.columns["weights"] for part in parts]), batch.columns["weights"])
    for name, column in batch.table.items():
        assert torch.equal(torch.cat([part.table[name] for part in parts]), column)


def test_sequential_batches_hold_every_document_once_in_fixed_shapes():
    data = documents_of()
    documents = np.array([5, 9, 2, 40, 41, 13])
    batches = list(sequential_batches(data, documents, 16, 4))
    assert {tuple(batch.tokens.shape) for batch in batches} == {(4, 16)}
    assert pairs_in(batches) == all_pairs(data, documents)
    for batch in batches:
        check(batch, data)
    again = list(sequential_batches(data, documents, 16, 4))
    assert all(same(a, b) for a, b in zip(batches, again, strict=True))
    assert batches[0].table["source"][0] == 5
    assert list(sequential_batches(data, documents[:0], 16, 4)) == []


def test_prefetcher_gives_the_loaders_steps():
    data = documents_of()
    loader = Loader(data, np.arange(len(data)), 32, 4, seed=0)
    reference = Loader(data, np.arange(len(data)), 32, 4, seed=0)
    with Prefetcher(loader, 3, 40, rank=1, world=2) as batches:
        taken = list(batches)
    assert [k for k, _ in taken] == list(range(3, 40))
    assert all(same(batch, reference.step(k, 1, 2)) for k, batch in taken)
    assert batches.wait_seconds > 0


def test_prefetcher_raises_the_loaders_error():
    loader = Loader(documents_of(), np.arange(60), 32, 6, seed=0)
    with Prefetcher(loader, 0, 5, 0, world=4) as batches, pytest.raises(UserError, match="cannot be shared"):
        next(iter(batches))


def test_prefetcher_stops_early():
    loader = Loader(documents_of(), np.arange(60), 32, 4, seed=0)
    began = time.perf_counter()
    with Prefetcher(loader, 0, 10**9, depth=1) as batches:
        for k, _ in batches:
            if k == 3:
                break
        assert next(iter(batches))[0] == 4  # iterating again goes on
    assert time.perf_counter() - began < 5
    assert not any(thread.name == "minimind-prefetch" for thread in threading.enumerate())


@pytest.mark.parametrize("kind", ["pretrain", "chat"])
def test_real_shards_give_the_same_batches(tmp_path, kind):
    lengths = [5, 40, 12, 3, 30]
    masks = [[0, 0] + [1] * (length - 2) for length in lengths] if kind == "chat" else None
    memory = NumberedDocuments(lengths, masks)
    writer = ShardWriter(tmp_path, kind, 70_000, tokenizer="t", shard_tokens=50)
    for index, length in enumerate(lengths):
        ids, mask = memory.read(index)
        docs = np.zeros(1, DOC)
        docs["length"], docs["bytes"] = length, memory.bytes[index]
        writer.append(ids, mask if kind == "chat" else None, docs)
    writer.finish({"sources": [{"path": "a.jsonl"}], "report": {}})

    on_disk = ShardSet.open(tmp_path)
    a, b = (Loader(data, np.arange(5), 16, 2, seed=0) for data in (memory, on_disk))
    for k in range(a.steps_per_epoch):
        assert same(a.step(k), b.step(k))
