"""Documents of random tokens, for timings in which their content plays no part."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from minimind.data.batches.batch import Batch
from minimind.data.batches.loader import Loader
from minimind.data.shards.shard_set import DOC, ShardSet, ShardWriter

MEDIAN_TOKENS = 200  # of a document; the lengths are log-normal, as those of real texts roughly are


def write_shards(directory: Path, kind: str, lengths: np.ndarray, vocab_size: int) -> ShardSet:
    """A data set of documents of `lengths` tokens; of a chat the second half of each is trained on."""
    writer = ShardWriter(directory, kind, vocab_size, tokenizer="synthetic")
    random = np.random.default_rng(0)
    for some in np.array_split(lengths, max(1, len(lengths) // 10_000)):
        docs = np.zeros(len(some), DOC)
        docs["length"], docs["bytes"] = some, 4 * some
        ids = random.integers(0, vocab_size, some.sum()).astype(np.uint16 if vocab_size <= 2**16 else np.uint32)
        mask = np.concatenate([np.arange(length) >= length // 2 for length in some]).astype(np.uint8)
        writer.append(ids, mask if kind == "chat" else None, docs)
    writer.finish({"sources": [], "report": {}})
    return ShardSet.open(directory)


def packed_batch(sequences: int, seq_len: int, vocab_size: int) -> Batch:
    """Sequences as the loader packs them, of texts of random tokens."""
    count = 8 + 4 * sequences * seq_len // MEDIAN_TOKENS  # more than they hold
    lengths = np.random.default_rng(1).lognormal(np.log(MEDIAN_TOKENS), 0.6, count)
    with tempfile.TemporaryDirectory() as directory:
        data = write_shards(Path(directory), "pretrain", np.maximum(lengths.astype(np.int64), 2), vocab_size)
        return Loader(data, np.arange(len(data)), seq_len, sequences, seed=0).step(0)
