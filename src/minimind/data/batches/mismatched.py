"""Prompts with the answers to other prompts: what a model must not learn to say to everything."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from minimind.data.batches.documents import Documents
from minimind.data.batches.loader import expand


class Mismatched:
    """Documents, and behind those of each group as many more: their prompts with the answers of the next group.

    An answer begins at a document's first trained token. Numbers change: see `renumber`.
    """

    masked = True
    token_columns: tuple[str, ...] = ()

    def __init__(self, data: Documents) -> None:
        assert not data.token_columns, "what would they be of a prompt with another's answer?"
        self.data, self.half, self.group = data, data.group, 2 * data.group
        count = len(data.lengths)
        self.starts = np.array([int(data.read(index)[1].argmax()) for index in range(count)], np.int64)
        unit, place = np.divmod(np.arange(2 * count), self.group)
        is_other = place >= self.half
        self.own = unit * self.half + place % self.half
        self.other = np.where(is_other, (self.own + self.half) % count, self.own)
        self.lengths = self.starts[self.own] + (data.lengths - self.starts)[self.other]
        self.bytes = np.where(is_other, 0, data.bytes[self.own])
        self.document_columns = {name: values[self.own] for name, values in data.document_columns.items()}
        self.fingerprint = hashlib.sha256(f"mismatched {data.fingerprint}".encode()).hexdigest()
        self.origin = data.origin

    def renumber(self, documents: np.ndarray) -> np.ndarray:
        """Whole groups of the data's documents, by the numbers that they and what was added have here."""
        return expand(documents[:: self.half] // self.half, self.group)

    def read(self, index: int, start: int = 0, stop: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        own, other = int(self.own[index]), int(self.other[index])
        if own == other:
            return self.data.read(own, start, stop)
        (prompt, before), (answer, after) = self.data.read(own), self.data.read(other)
        ids = np.concatenate([prompt[: self.starts[own]], answer[self.starts[other] :]])
        mask = np.concatenate([before[: self.starts[own]], after[self.starts[other] :]])
        return ids[start:stop], mask[start:stop]

    def read_column(self, name: str, index: int, start: int = 0, stop: int | None = None) -> Any:
        raise KeyError(name)

    def provenance(self, index: int) -> tuple[str, int]:
        return self.data.provenance(int(self.own[index]))
