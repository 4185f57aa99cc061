"""Several data sets in one file, each with its share of the text: `minimind data mix`.

Documents are drawn in the order of a hash of seed and content, whole and without repetition: the same files, shares
and seed give the same file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from minimind.data.sources.documents import Document, plain_text_of, read_documents, to_record
from minimind.data.sources.folder import data_files
from minimind.errors import UserError
from minimind.util.files import whole_file


@dataclass(frozen=True)
class Part:
    """What a mixture holds of one data set; bytes are those of its text in UTF-8."""

    path: str
    share: float
    documents: int
    bytes: int
    available: int


def mix(paths: Sequence[Path], shares: Sequence[float], out: Path, seed: int = 0) -> list[Part]:
    """Write a mixture as large as it can be without repeating anything; returns what each data set gave.

    shares  of the text's bytes, in any unit: 4 and 1 are 0.8 and 0.2. Each is met as nearly as whole documents can.

    UserError where the data sets are not all texts or all conversations, or one with a share is empty.
    """
    if len(paths) != len(shares) or any(share < 0 for share in shares) or not sum(shares):
        raise UserError("give each data set one share of 0 or more, for example --shares 0.8 0.2")
    wanted = [share / sum(shares) for share in shares]
    sizes = [_sizes(path, seed) for path in paths]
    available = [sum(size for _, size in documents) for documents in sizes]
    if empty := [path for path, bytes, share in zip(paths, available, wanted) if share and not bytes]:
        raise UserError(f"{empty[0]} has no document that can be used; see minimind data check {empty[0]}")
    total = min(bytes / share for bytes, share in zip(available, wanted) if share)
    chosen, kept = [], []
    for documents, share in zip(sizes, wanted):
        last, size = _take(documents, share * total)
        kept.append((last, size))
        chosen.append({key for key, _ in documents[:last]})
    kinds = set[str]()
    with whole_file(out) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
        for path, keys in zip(paths, chosen):
            for key, document in _documents(path, seed):
                if key in keys:
                    kinds.add("chat" if document.kind == "rl" else document.kind)
                    file.write(json.dumps(to_record(document), ensure_ascii=False) + "\n")
        if len(kinds) > 1:
            raise UserError(f"{' and '.join(sorted(kinds))} documents do not mix: a stage trains on one kind")
    everything = sum(size for _, size in kept)
    return [
        Part(str(path), size / everything, count, size, all_bytes)
        for path, (count, size), all_bytes in zip(paths, kept, available)
    ]


def _documents(path: Path, seed: int) -> Iterator[tuple[bytes, Document]]:
    """A data set's good documents, each with the key that decides about it; equal ones have different keys."""
    seen: dict[int, int] = {}
    for file in data_files([path]):
        for item in read_documents(file):
            if isinstance(item, Document):
                seen[item.hash] = seen.get(item.hash, -1) + 1
                said = f"{seed} {item.hash} {seen[item.hash]}".encode()
                yield hashlib.blake2b(said, digest_size=12).digest(), item


def _sizes(path: Path, seed: int) -> list[tuple[bytes, int]]:
    return sorted((key, len(plain_text_of(document).encode())) for key, document in _documents(path, seed))


def _take(documents: list[tuple[bytes, int]], wanted: float) -> tuple[int, int]:
    """How many of the first documents come nearest to the wanted bytes, and their bytes."""
    size = 0
    for count, (_, more) in enumerate(documents):
        if size + more / 2 > wanted + 1e-6 * wanted:
            return count, size
        size += more
    return len(documents), size
