"""What a batch source hands to an objective: sequences of packed documents and a table of the documents in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

IGNORE = -100  # a target that is not trained on, as in torch's cross-entropy
PADDING = -1  # the document number of a position that belongs to none


@dataclass
class Batch:
    """B sequences of T positions, S documents side by side in them.

    tokens      (B, T) int64: what the model reads
    targets     (B, T) int64: what it should say next at each position; IGNORE = not trained on
    positions   (B, T) int64: position inside the document, from 0
    documents   (B, T) int64: row of `table` the position belongs to; PADDING = none. Numbers grow
                from left to right and are unique in the whole batch, so equality means "same document".
    cu_seqlens  (documents and runs of padding + 1,) int32, always on the host: where each begins in the flattened
                B·T positions, then B·T itself; a variable-length attention kernel reads it
    num_valid_tokens  how many targets are trained on, known on the host without asking the device
    columns     further tensors (B, T, …), one entry per target: weights, recorded log-probabilities, advantages …
    table       tensors (S, …), one row per document: `source` (its number in the data set), `start` (offset of the
                segment in its document), `bytes` (UTF-8 bytes that its targets spell; of a segment, its share by
                tokens), `tokens` (its valid tokens), and what the data or the stage adds (pair, side, reward …)
    """

    tokens: torch.Tensor
    targets: torch.Tensor
    positions: torch.Tensor
    documents: torch.Tensor
    cu_seqlens: torch.Tensor
    num_valid_tokens: int
    columns: dict[str, torch.Tensor] = field(default_factory=dict)
    table: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def num_tokens(self) -> int:
        """Positions that are no padding; on the host."""
        return int((self.documents != PADDING).sum())

    @property
    def num_documents(self) -> int:
        return len(self.table["source"])

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`; cu_seqlens stays on the host."""
        if device.type == "cpu":
            return self
        return self._map(lambda tensor: tensor.pin_memory().to(device, non_blocking=True))

    def _map(self, move: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        return replace(
            self,
            tokens=move(self.tokens),
            targets=move(self.targets),
            positions=move(self.positions),
            documents=move(self.documents),
            columns={name: move(column) for name, column in self.columns.items()},
            table={name: move(column) for name, column in self.table.items()},
        )

    def sum_by_document(self, values_BT: torch.Tensor) -> torch.Tensor:
        """(S,): the sum of the values at each document's positions."""
        sums = values_BT.new_zeros(self.num_documents + 1)
        return sums.index_add(0, self.documents.flatten() + 1, values_BT.flatten())[1:]  # padding sums into row 0

    def spread(self, values_S: torch.Tensor) -> torch.Tensor:
        """(B, T): each document's value at all its positions, 0 at padding; the inverse of `sum_by_document`."""
        padded = torch.cat([values_S.new_zeros(1), values_S])
        return padded[self.documents + 1]


def valid_positions(batch: Batch) -> torch.Tensor:
    """(num_valid_tokens,): where in the flattened B·T positions the targets are that are trained on, in order.

    Sorted to the front, since asking the device where they are would wait for it.
    """
    return (batch.targets.flatten() == IGNORE).to(torch.uint8).argsort(stable=True)[: batch.num_valid_tokens]
