import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minimind.data.shards.holdout import holdout
from minimind.data.shards.shard_set import DOC, ShardSet, ShardWriter
from minimind.errors import UserError

EXTRA = {"sources": [{"path": "a.jsonl", "sha256": ""}, {"path": "b.jsonl", "sha256": ""}], "report": {}}


def write(directory, lengths, batches=1, shard_tokens=100, vocab_size=1000, kind="pretrain"):
    """A data set of random documents; returns it with their ids and masks."""
    random = np.random.default_rng(0)
    ids = [random.integers(0, vocab_size, length) for length in lengths]
    masks = [random.integers(0, 2, length) for length in lengths]
    directory.mkdir()
    writer = ShardWriter(directory, kind, vocab_size, "tokenizer's", shard_tokens)
    for part in np.array_split(np.arange(len(lengths)), batches):
        docs = np.zeros(len(part), DOC)
        docs["length"] = [lengths[index] for index in part]
        docs["file"] = part % 2
        docs["line"] = part + 1
        docs["bytes"] = part * 3
        docs["hash"] = part * 2**50
        of_part = [
            np.concatenate([column[index] for index in part] or [np.zeros(0, int)]) for column in (ids, masks)
        ]
        writer.append(of_part[0], of_part[1] if kind == "chat" else None, docs)
    writer.finish(EXTRA)
    return ShardSet.open(directory), ids, masks


@pytest.mark.parametrize("kind", ["pretrain", "chat"])
@pytest.mark.parametrize("vocab_size", [1000, 2**16, 2**16 + 1])
def test_what_goes_in_comes_out(tmp_path, kind, vocab_size):
    lengths = [2, 40, 60, 99, 100, 101, 350, 3, 3, 3]
    data, ids, masks = write(tmp_path / "d", lengths, 3, 100, vocab_size, kind)
    assert len(data) == 10
    assert data.num_tokens == sum(lengths)
    assert data.lengths.tolist() == lengths
    assert data.bytes.tolist() == [3 * index for index in range(10)]
    assert data.hashes.tolist() == [index * 2**50 for index in range(10)]
    for index in range(10):
        got, mask = data.read(index)
        assert got.dtype == (np.uint16 if vocab_size <= 2**16 else np.uint32)
        assert got.tolist() == ids[index].tolist()
        assert mask.tolist() == (masks[index].tolist() if kind == "chat" else [1] * lengths[index])
        assert data.provenance(index) == (["a.jsonl", "b.jsonl"][index % 2], index + 1)


def test_a_part_of_a_document(tmp_path):
    data, ids, masks = write(tmp_path / "d", [50, 50], kind="chat")
    for start, stop in [(0, 10), (10, 50), (49, 60), (50, 50), (60, 70), (3, None)]:
        got, mask = data.read(1, start, stop)
        assert got.tolist() == ids[1][start:stop].tolist()
        assert mask.tolist() == masks[1][start:stop].tolist()
    for index in (2, -1):
        with pytest.raises(IndexError):
            data.read(index)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(1, 9), st.integers(1, 60))
def test_shards_are_bounded_and_batches_do_not_matter(tmp_path_factory, lengths, batches, shard_tokens):
    place = tmp_path_factory.mktemp("shards")
    data, ids, _ = write(place / "a", lengths, batches, shard_tokens)
    whole, _, _ = write(place / "b", lengths, 1, shard_tokens)
    for name in sorted(path.name for path in (place / "b").iterdir()):
        assert (place / "a" / name).read_bytes() == (place / "b" / name).read_bytes()
    assert data.fingerprint == whole.fingerprint
    for number, shard in enumerate(data.meta["shards"]):
        documents = np.load(place / "a" / f"{number:05d}.docs.npy")
        assert shard["tokens"] <= shard_tokens or shard["documents"] == 1
        assert documents["offset"].tolist() == [0, *np.cumsum(documents["length"])[:-1].tolist()]
    assert np.concatenate([data.read(i)[0] for i in range(len(data))]).tolist() == np.concatenate(ids).tolist()


def test_the_fingerprint_is_of_the_data_not_of_their_layout(tmp_path):
    one, _, _ = write(tmp_path / "a", [10, 20, 30], shard_tokens=100)
    cut, _, _ = write(tmp_path / "b", [10, 20, 30], shard_tokens=10)
    other, _, _ = write(tmp_path / "c", [10, 30, 20], shard_tokens=100)
    assert one.fingerprint == cut.fingerprint != other.fingerprint


def test_directories_that_are_none_or_damaged(tmp_path):
    with pytest.raises(UserError, match=r"no meta\.json"):
        ShardSet.open(tmp_path)
    for name, damage in {
        "missing": lambda d: (d / "00001.ids.npy").unlink(),
        "cut": lambda d: (d / "00000.ids.npy").write_bytes((d / "00000.ids.npy").read_bytes()[:-2]),
        "empty": lambda d: (d / "00000.docs.npy").write_bytes(b""),
        "another": lambda d: np.save(d / "00000.ids.npy", np.zeros(3, np.uint16)),
        "meta": lambda d: (d / "meta.json").write_text("{"),
        "shape": lambda d: (d / "meta.json").write_text("[]"),
        "key": lambda d: (d / "meta.json").write_text(
            (d / "meta.json").read_text().replace('"counts"', '"cpunts"')
        ),
    }.items():
        write(tmp_path / name, [60, 60])
        damage(tmp_path / name)
        with pytest.raises(UserError, match="damaged"):
            ShardSet.open(tmp_path / name)
    write(tmp_path / "old", [60])
    meta = json.loads((tmp_path / "old/meta.json").read_text())
    (tmp_path / "old/meta.json").write_text(json.dumps({**meta, "version": 0}))
    with pytest.raises(UserError, match="another version"):
        ShardSet.open(tmp_path / "old")


def test_holdout_is_about_the_fraction_and_spread_evenly():
    hashes = np.arange(100_000, dtype=np.uint64)  # as unlike a hash as can be
    for fraction in (0.01, 0.1, 0.5):
        held = holdout(hashes, fraction, seed=0)
        # five standard deviations of a binomial count
        assert abs(held.mean() - fraction) < 5 * np.sqrt(fraction * (1 - fraction) / len(hashes))
        assert abs(held[::2].mean() - held[1::2].mean()) < 0.02
    assert not holdout(hashes, 0.0, 0).any()
    assert holdout(hashes, 1.0, 0).all()


@given(st.lists(st.integers(0, 2**64 - 1), max_size=50), st.floats(0, 1), st.integers(-5, 2**70))
def test_holdout_depends_on_the_content_alone(values, fraction, seed):
    hashes = np.array(values, np.uint64)
    held = holdout(hashes, fraction, seed)
    alone = [holdout(hashes[i : i + 1], fraction, seed)[0] for i in range(len(values))]
    assert held.tolist() == alone


def test_seeds_hold_out_different_documents():
    hashes = np.random.default_rng(0).integers(0, 2**64, 10_000, dtype=np.uint64)
    both = holdout(hashes, 0.1, 0) & holdout(hashes, 0.1, 1)
    assert 50 < both.sum() < 150  # 100 expected of independent choices
