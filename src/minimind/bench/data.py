"""How fast data is read, tokenized, packed and made into batches, and how fast training needs it."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from minimind.bench.step import TimedStep
from minimind.bench.synthetic import packed_batch
from minimind.data.batches.batch import PADDING
from minimind.data.batches.loader import Loader
from minimind.data.batches.packing import Long, pack, segments
from minimind.data.shards.prepare import prepare, resolve_kind
from minimind.data.sources.documents import Document, parse
from minimind.data.sources.files import is_plain_text, read_records
from minimind.recipe import Recipe
from minimind.tokenizer import Tokenizer
from minimind.world import write_world

LOADER_SECONDS = 1.0
POSITIONS_PER_STEP = 32768


@dataclass(frozen=True)
class DataSpeed:
    """What was measured on the beginning of a file. MB are 10⁶ bytes, decompressed."""

    file: str
    kind: str
    megabytes: float
    documents: int
    tokens: int
    read_mb_per_second: float
    """reading and parsing, one process"""
    prepare_mb_per_second: float
    """`minimind data prepare` on one process: reading, tokenizing, writing"""
    prepare_tokens_per_second: float
    packed_per_second: float
    """segments packed into sequences, one thread"""
    padding: float
    """part of the sequences' positions that holds nothing"""
    batch_tokens_per_second: float
    """tokens in finished batches, one thread"""


@dataclass(frozen=True)
class FileSample:
    """The beginning of a file, written to a file of its own without lines that cannot be used."""

    file: str
    kind: str
    path: Path
    megabytes: float
    seconds: float
    """that reading and parsing it took"""


def take(file: Path, size: int, scratch: Path, encoding: str | None = None) -> FileSample:
    """Read the first `size` bytes of a file, decompressed, and put its documents into `scratch`."""
    kind, plain = resolve_kind([file], "auto", encoding), is_plain_text(file)
    documents, read, begun = [], 0, time.perf_counter()
    for line, record in read_records(file, encoding=encoding):
        item = parse(record, str(file), line, plain, kind)
        read += len(record or b"")
        if record and isinstance(item, Document):
            documents.append(record)
        if read >= size:
            break
    seconds = time.perf_counter() - begun
    scratch.mkdir(parents=True)
    path = scratch / ("sample.txt" if plain else "sample.jsonl")
    path.write_bytes(b"".join(document + (b"\n\n" if plain else b"\n") for document in documents))
    return FileSample(str(file), kind, path, read / 1e6, seconds)


def measure(sample: FileSample, tokenizer: Tokenizer, seq_len: int) -> DataSpeed:
    """Time the way from a sample to batches."""
    begun = time.perf_counter()
    data = prepare([sample.path], tokenizer, sample.kind, sample.path.parent / "cache", workers=1)
    seconds = time.perf_counter() - begun
    long: Long = "truncate" if sample.kind == "chat" else "split"  # as the stages do
    sequences = max(1, POSITIONS_PER_STEP // seq_len)
    loader = Loader(data, np.arange(len(data)), seq_len, sequences, seed=0, long=long)
    padding = loader.stats.padding
    return DataSpeed(
        file=sample.file,
        kind=sample.kind,
        megabytes=sample.megabytes,
        documents=len(data),
        tokens=data.num_tokens,
        read_mb_per_second=sample.megabytes / sample.seconds,
        prepare_mb_per_second=sample.megabytes / seconds,
        prepare_tokens_per_second=data.num_tokens / seconds,
        packed_per_second=packing_rate(data.lengths, seq_len, long),
        padding=padding,
        batch_tokens_per_second=loader_rate(loader, LOADER_SECONDS) * (1 - padding),
    )


def packing_rate(lengths: np.ndarray, seq_len: int, long: Long) -> float:
    """Segments packed into sequences per second."""
    _, _, length = segments(lengths, seq_len, long)
    begun = time.perf_counter()
    pack(length, seq_len)
    return len(length) / (time.perf_counter() - begun)


def loader_rate(loader: Loader, seconds: float) -> float:
    """Positions per second of Loader.step, over about `seconds`."""
    begun, steps = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        loader.step(steps)
        steps += 1
    return steps * loader.sequences * loader.seq_len / (time.perf_counter() - begun)


def training_rate(recipe: Recipe, device: torch.device, dtype: torch.dtype) -> float:
    """Tokens per second that a training by `recipe` reads, without compiling."""
    timed, batch = TimedStep(recipe, device, dtype), recipe.batch
    micro = packed_batch(max(1, 1024 // batch.seq_len), batch.seq_len, recipe.model.vocab_size)
    times = [(timed.gradients(micro), timed.update()) for _ in range(4)][1:]  # the first lays out memory
    once, update = (statistics.median(column) for column in zip(*times))
    tokens = int((micro.documents != PADDING).sum())
    return tokens / (once + update * micro.tokens.numel() / batch.tokens_per_step)


def write_example(directory: Path, size: int) -> list[Path]:
    """Texts of `size` bytes of the embedded world, and as many bytes of conversations, about."""
    paths = write_world(directory, pretrain_bytes=size, sft=size // 200, preference=1, rl=1, per_skill=1)
    return [paths["pretrain"], paths["sft"]]
