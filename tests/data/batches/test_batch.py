"""Columns and table of a batch: aligned with what they describe, whatever they come from."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minimind.data.batches.batch import IGNORE, PADDING, Batch
from minimind.data.batches.collate import split_into_micro_batches
from minimind.data.batches.documents import MemoryDocuments
from minimind.data.batches.loader import Loader, sequential_batches
from minimind.data.shards.shard_set import DOC, ShardSet, ShardWriter

LENGTHS = [5, 40, 12, 3, 30, 18, 2]


def in_memory(lengths=LENGTHS, seed=0, group=1):
    """Documents with a mask, columns of one and of three numbers a token, and of one and of two a document."""
    rng = np.random.default_rng(seed)
    ids = [rng.integers(0, 60_000, n) for n in lengths]
    masks = [np.append(rng.integers(0, 2, n - 1), 1).astype(np.uint8) for n in lengths]
    columns = {
        "log_probability": [rng.standard_normal(n).astype(np.float32) for n in lengths],
        "teacher": [rng.integers(0, 9, (n, 3)).astype(np.int32) for n in lengths],
    }
    document_columns = {
        "reward": rng.standard_normal(len(lengths)).astype(np.float32),
        "place": np.arange(2 * len(lengths)).reshape(-1, 2),
    }
    return MemoryDocuments(ids, masks, columns, document_columns, group)


def on_disk(directory, data, kind="chat", shard_tokens=50):
    """The same documents as a data set on disk, in several shards."""
    directory.mkdir(exist_ok=True)
    writer = ShardWriter(directory, kind, 60_000, tokenizer="t", shard_tokens=shard_tokens)
    docs = np.zeros(len(data.ids), DOC)
    docs["length"], docs["line"] = data.lengths, 1 + np.arange(len(docs))
    columns = {name: np.concatenate(values) for name, values in data.columns.items()}
    writer.append(np.concatenate(data.ids), np.concatenate(data.masks), docs, columns, data.document_columns)
    writer.finish({"sources": [{"path": "a.jsonl", "sha256": "0"}], "report": {}})
    return ShardSet.open(directory)


def assert_same(one, other):
    for name in ("tokens", "targets", "positions", "documents", "cu_seqlens"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert one.num_valid_tokens == other.num_valid_tokens
    for a, b in ((one.columns, other.columns), (one.table, other.table)):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in a)


def assert_aligned(batch, data):
    """Position by position: a column holds what belongs to the target, the table what belongs to the document."""
    B, T = batch.tokens.shape
    assert batch.columns["log_probability"].shape == (B, T)
    assert batch.columns["teacher"].shape == (B, T, 3)
    assert batch.table["place"].shape == (batch.num_documents, 2)
    for b, t in np.ndindex(B, T):
        document = int(batch.documents[b, t])
        if document == PADDING:
            assert batch.columns["log_probability"][b, t] == 0
            assert (batch.columns["teacher"][b, t] == 0).all()
            continue
        source, start = (int(batch.table[name][document]) for name in ("source", "start"))
        target = start + int(batch.positions[b, t]) + 1
        ids, mask = data.read(source)
        assert batch.tokens[b, t] == int(ids[target - 1])
        assert batch.targets[b, t] == (int(ids[target]) if mask[target] else IGNORE)
        assert batch.columns["log_probability"][b, t] == float(data.columns["log_probability"][source][target])
        assert batch.columns["teacher"][b, t].tolist() == data.columns["teacher"][source][target].tolist()
        assert batch.table["reward"][document] == float(data.document_columns["reward"][source])
        assert batch.table["place"][document].tolist() == [2 * source, 2 * source + 1]


def test_columns_of_shards_come_out_aligned_with_targets_and_documents(tmp_path):
    memory = in_memory()
    data = on_disk(tmp_path, memory)
    assert len(data._shards) > 2
    assert data.token_columns == ("log_probability", "teacher")
    assert data.document_columns.keys() == {"reward", "place"}
    loader = Loader(data, np.arange(len(data)), 16, 2, seed=0)
    for k in range(loader.steps_per_epoch):
        batch = loader.step(k)
        assert_aligned(batch, memory)
        for micro in split_into_micro_batches(batch, 1):
            assert_aligned(micro, memory)


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("long", ["split", "truncate"])
def test_documents_in_memory_give_the_batches_of_a_shard(tmp_path, long, group):
    memory = in_memory([5, 40, 12, 3, 30, 18, 2, 9], group=group)
    disk = on_disk(tmp_path, memory, kind="preference" if group == 2 else "chat")
    assert (disk.group, disk.masked) == (memory.group, memory.masked)
    documents = np.arange(len(memory.ids))
    one, other = (Loader(data, documents, 16, 2, seed=3, long=long) for data in (memory, disk))
    assert one.stats == other.stats
    for k in range(2 * one.steps_per_epoch):
        assert_same(one.step(k), other.step(k))
    batches = [list(sequential_batches(data, documents, 16, 2)) for data in (memory, disk)]
    for a, b in zip(*batches, strict=True):
        assert_same(a, b)
    for index in range(len(memory.ids)):
        for a, b in zip(memory.read(index, 1, 4), disk.read(index, 1, 4)):
            assert a.tolist() == b.tolist()
        wanted = memory.read_column("teacher", index, 1, 4)
        assert disk.read_column("teacher", index, 1, 4).tolist() == wanted.tolist()


def test_a_fingerprint_changes_with_every_column(tmp_path):
    prints = set()
    for number, name in enumerate(("nothing", "log_probability", "teacher", "reward", "place", "mask", "id")):
        data = in_memory()
        changed = {"mask": data.masks, "id": data.ids, **data.columns, **data.document_columns}.get(name)
        if changed is not None:
            changed[-1] = changed[-1] + 1
        prints.add(on_disk(tmp_path / f"{number}", data).fingerprint)
    assert len(prints) == 7
    whole = on_disk(tmp_path / "whole", in_memory(), shard_tokens=10**6)
    assert whole.fingerprint in prints, "it says what the data are, not how they are cut into shards"


def batch_of(lengths, seq_len, sequences=3):
    data = in_memory(lengths)
    return next(sequential_batches(data, np.arange(len(lengths)), seq_len, sequences))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(2, 30), min_size=1, max_size=9), st.integers(4, 20))
def test_sums_by_document_are_those_of_its_positions(lengths, seq_len):
    batch = batch_of(lengths, seq_len)
    values = torch.rand(batch.tokens.shape, dtype=torch.float64)
    sums = batch.sum_by_document(values)
    assert sums.shape == (batch.num_documents,)
    for document, found in enumerate(sums):
        torch.testing.assert_close(found, values[batch.documents == document].sum())
    trained = (batch.targets != IGNORE).long()
    assert torch.equal(batch.sum_by_document(trained), batch.table["tokens"])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(2, 30), min_size=1, max_size=9), st.integers(4, 20))
def test_spread_gives_each_documents_value_to_all_its_positions(lengths, seq_len):
    """And a sum by document of a value spread evenly is the value."""
    batch = batch_of(lengths, seq_len)
    values = torch.rand(batch.num_documents, dtype=torch.float64)
    spread = batch.spread(values)
    for document, value in enumerate(values):
        assert (spread[batch.documents == document] == value).all()
    assert (spread[batch.documents == PADDING] == 0).all()
    positions = batch.sum_by_document(torch.ones_like(spread))
    torch.testing.assert_close(batch.sum_by_document(batch.spread(values / positions)), values)


def test_sum_and_spread_pass_gradients():
    batch = batch_of([5, 9, 4], 12)
    values = torch.rand(batch.tokens.shape, requires_grad=True)
    weight = torch.arange(1.0, 1 + batch.num_documents)
    (batch.sum_by_document(values) * weight).sum().backward()
    assert torch.equal(values.grad, batch.spread(weight))


def test_a_batch_of_other_tensors_counts_on_the_host():
    batch = batch_of([5, 9, 4], 12)
    assert isinstance(batch, Batch)
    assert batch.num_tokens == int((batch.documents != PADDING).sum()) == 4 + 8 + 3
    assert batch.num_valid_tokens == int((batch.targets != IGNORE).sum())
    assert batch.to(torch.device("cpu")) is batch
