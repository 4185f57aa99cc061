"""What the loader hands to an objective: packed rows and a table of the documents in them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch

IGNORE = -100  # a target that is not trained on, as in torch's cross-entropy
PADDING = -1  # the document number of a position that belongs to none


@dataclass
class Batch:
    """Rows of packed documents.

    tokens     (B, T) int64: what the model reads
    targets    (B, T) int64: what it should say next at each position; IGNORE = not trained on
    positions  (B, T) int64: position inside the document, from 0
    documents  (B, T) int64: row of `table` the position belongs to; PADDING = none. Numbers grow
               from left to right and are unique in the whole batch, so equality means "same document".
    cu_seqlens (S + 1,) int32 on the host: where each document or run of padding starts in the flattened
               B·T positions, then B·T itself (for variable-length attention kernels)
    weights    (B, T) float32 or None: weight of each target in the loss
    table      one entry per document piece in the batch, numpy arrays of equal length: `source` (document
               number in the data set), `start` (offset of the piece in its document), `bytes` (UTF-8 bytes
               of the text its targets spell; of a piece of a split document, its share by tokens);
               stages may add columns
    """

    tokens: torch.Tensor
    targets: torch.Tensor
    positions: torch.Tensor
    documents: torch.Tensor
    cu_seqlens: torch.Tensor
    weights: torch.Tensor | None = None
    table: dict[str, np.ndarray] = field(default_factory=dict)

    def to(self, device: torch.device) -> Batch:
        """The same batch with its tensors on `device` (cu_seqlens stays on the host)."""
        if device.type == "cpu":
            return self
        move = lambda x: x.pin_memory().to(device, non_blocking=True)  # noqa: E731
        weights = None if self.weights is None else move(self.weights)
        return replace(
            self,
            tokens=move(self.tokens),
            targets=move(self.targets),
            positions=move(self.positions),
            documents=move(self.documents),
            weights=weights,
        )
