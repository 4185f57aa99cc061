"""Documents by number: what the loader packs, be they on disk (`ShardSet`) or in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np


class Documents(Protocol):
    """N documents of token ids, of which some or all tokens are trained on.

    masked            whether a mask says which tokens are trained on; else all are
    group             how many consecutive documents must share a micro-batch: 1 for text, 2 for a preference pair
    lengths           (N,) int64, tokens of each document
    bytes             (N,) int64, UTF-8 bytes of each document's trained text
    token_columns     names of what is recorded for every token beside id and mask
    document_columns  what is recorded for every document, (N,) each
    fingerprint       changes when any token or mask does
    origin            where they come from, for data.json
    """

    masked: bool
    group: int
    lengths: np.ndarray
    bytes: np.ndarray
    token_columns: tuple[str, ...]
    document_columns: dict[str, np.ndarray]
    fingerprint: str

    @property
    def origin(self) -> dict[str, Any]: ...

    def read(self, index: int, start: int = 0, stop: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Ids and mask of tokens [start, stop) of a document."""

    def read_column(self, name: str, index: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """A token column of the same tokens."""

    def provenance(self, index: int) -> tuple[str, int]:
        """The file and the line that a document came from, to name it."""


class WholeDocuments:
    """Documents whose last token is read as well: behind it stands `end`, which is not trained on.

    A target is what comes after a token that is read, so of a document alone the last is never read; but there a
    reward model scores it.
    """

    masked = True
    token_columns: tuple[str, ...] = ()

    def __init__(self, data: Documents, end: int) -> None:
        assert not data.token_columns, "they would lack an entry"
        self.data, self.end = data, end
        self.group, self.bytes, self.document_columns = data.group, data.bytes, data.document_columns
        self.lengths = data.lengths + 1
        self.fingerprint, self.origin = data.fingerprint, data.origin

    def read(self, index: int, start: int = 0, stop: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        ids, mask = self.data.read(index, start, stop)
        if stop is not None and stop < self.lengths[index]:
            return ids, mask
        return np.append(ids, np.array(self.end, ids.dtype)), np.append(mask, np.array(0, mask.dtype))

    def read_column(self, name: str, index: int, start: int = 0, stop: int | None = None) -> Any:
        return self.data.read_column(name, index, start, stop)

    def provenance(self, index: int) -> tuple[str, int]:
        return self.data.provenance(index)


@dataclass
class MemoryDocuments:
    """Documents from memory, such as sampled answers: one array a document in every list, and columns by name."""

    ids: Sequence[np.ndarray]
    masks: Sequence[np.ndarray]
    columns: dict[str, Sequence[np.ndarray]] = field(default_factory=dict)
    document_columns: dict[str, np.ndarray] = field(default_factory=dict)
    group: int = 1
    masked: bool = True

    def __post_init__(self) -> None:
        self.lengths = np.array([len(ids) for ids in self.ids], np.int64)
        self.bytes = np.zeros(len(self.ids), np.int64)  # sampled text is not scored in bits per byte
        self.token_columns = tuple(self.columns)
        parts = [np.ascontiguousarray(part).tobytes() for part in (*self.ids, *self.masks)]
        self.fingerprint = hashlib.sha256(b"".join(parts)).hexdigest()
        self.origin: dict[str, Any] = {"sources": []}

    def read(self, index: int, start: int = 0, stop: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        return self.ids[index][start:stop], self.masks[index][start:stop]

    def read_column(self, name: str, index: int, start: int = 0, stop: int | None = None) -> Any:
        return self.columns[name][index][start:stop]

    def provenance(self, index: int) -> tuple[str, int]:
        return "memory", index + 1
