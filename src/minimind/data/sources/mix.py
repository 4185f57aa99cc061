"""Several data sets in one file, each with its share of the text: `minimind data mix`.

Documents are drawn whole in the order of a hash of seed and content: the same files, shares and seed give the same
file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from minimind.data.sources.documents import Document, plain_text_of, read_documents, to_record
from minimind.data.sources.folder import data_files
from minimind.errors import UserError
from minimind.util.files import whole_file


@dataclass(frozen=True)
class Dataset:
    """Files and folders, their share of the mixture in any unit, how often a document may stand in it, and the
    encoding of files that are not UTF-8."""

    paths: Sequence[Path]
    share: float
    repeat: int = 1
    encoding: str | None = None


@dataclass(frozen=True)
class Part:
    """What a mixture holds of one data set: bytes are those of its text in UTF-8, repetitions included; `available`
    are those that are there once."""

    paths: list[str]
    share: float
    documents: int
    bytes: int
    available: int


def mix(
    datasets: Sequence[Dataset],
    out: Path,
    seed: int = 0,
    without: Collection[int] = (),
    whole_first: bool = False,
) -> list[Part]:
    """Write a mixture as large as the scarcest data set allows; returns what each data set gave.

    without      hashes of documents that are not drawn
    whole_first  all of the first data set is in the mixture, and shares of others are less where they are scarce

    Shares of the text's bytes are met as nearly as whole documents can. UserError where the data sets are not all
    texts or all conversations, or one with a share is empty.
    """
    datasets = [one for one in datasets if one.share]
    if not datasets:
        raise UserError("give a data set a share above 0, for example --shares 0.8 0.2")
    sizes = [_sizes(one, seed, without) for one in datasets]
    available = [sum(size for _, size in documents) for documents in sizes]
    for one, size in zip(datasets, available):
        if not size:
            raise UserError(f"{one.paths[0]} has no document to mix; see minimind data check {one.paths[0]}")
    totals = [size * one.repeat / one.share for one, size in zip(datasets, available)]
    total = totals[0] if whole_first else min(totals)
    copies = [_copies(documents, one.share * total, one.repeat) for one, documents in zip(datasets, sizes)]
    kinds, counts, written = set[str](), [0] * len(datasets), [0] * len(datasets)
    with whole_file(out) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
        for number, one in enumerate(datasets):
            for key, document in _documents(one, seed):
                if times := copies[number].get(key, 0):
                    kinds.add("chat" if document.kind == "rl" else document.kind)
                    counts[number] += times
                    written[number] += times * _size(document)
                    file.write((json.dumps(to_record(document), ensure_ascii=False) + "\n") * times)
        if len(kinds) > 1:
            raise UserError(f"{' and '.join(sorted(kinds))} documents do not mix: a stage trains on one kind")
    return [
        Part([str(path) for path in one.paths], size / sum(written), count, size, there)
        for one, size, count, there in zip(datasets, written, counts, available)
    ]


def _documents(data: Dataset, seed: int) -> Iterator[tuple[bytes, Document]]:
    """A data set's good documents, each with the key that decides about it; equal ones have different keys."""
    seen: dict[int, int] = {}
    for file in data_files(data.paths):
        for item in read_documents(file, encoding=data.encoding):
            if isinstance(item, Document):
                seen[item.hash] = seen.get(item.hash, -1) + 1
                said = f"{seed} {item.hash} {seen[item.hash]}".encode()
                yield hashlib.blake2b(said, digest_size=12).digest(), item


def _size(document: Document) -> int:
    return len(plain_text_of(document).encode())


def _sizes(data: Dataset, seed: int, without: Collection[int]) -> list[tuple[bytes, int]]:
    """Key and bytes of each document that may be drawn, in the order of drawing."""
    documents = _documents(data, seed)
    return sorted((key, _size(document)) for key, document in documents if document.hash not in without)


def _copies(documents: list[tuple[bytes, int]], wanted: float, repeat: int) -> dict[bytes, int]:
    """How often each document stands in a mixture that wants so many bytes: equally often, and the first ones
    once more."""
    once = sum(size for _, size in documents)
    passes = min(repeat, int(wanted / once + 1e-9))
    copies = {key: passes for key, _ in documents}
    missing = (1 + 1e-9) * (wanted - passes * once)
    for key, size in documents if passes < repeat else []:
        if missing < size / 2:
            break
        copies[key] += 1
        missing -= size
    return copies
