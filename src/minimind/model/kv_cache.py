"""Keys and values of the positions already read, in memory laid out once."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from minimind.model.config import ModelConfig


@dataclass
class KVCache:
    """Room for `rows` sequences of up to `length` positions each.

    keys, values  (L, rows, K, length, C) in the model's compute type

    What stands behind a row's last position is never attended to, so a row is handed to the next sequence
    without being cleared.
    """

    keys: torch.Tensor
    values: torch.Tensor

    @classmethod
    def empty(
        cls, config: ModelConfig, rows: int, length: int, dtype: torch.dtype, device: torch.device
    ) -> KVCache:
        shape = (config.num_hidden_layers, rows, config.kv_heads, length, config.channels)
        # Zeros, not raw memory: a masked position's weight is 0, and 0 times a stray NaN would be NaN.
        return cls(torch.zeros(shape, dtype=dtype, device=device), torch.zeros(shape, dtype=dtype, device=device))

    @property
    def rows(self) -> int:
        return self.keys.shape[1]

    @property
    def length(self) -> int:
        return self.keys.shape[3]

    def view(self, first: int, stop: int, length: int) -> KVCache:
        """Rows `first` to `stop` and their first `length` positions, in the same memory.

        Attention costs as much as its cache is long: short sequences read a short view.
        """
        return KVCache(self.keys[:, first:stop, :, :length], self.values[:, first:stop, :, :length])

    def copy_from(self, other: KVCache) -> None:
        """Take over a smaller cache's content."""
        self.keys[:, : other.rows, :, : other.length] = other.keys
        self.values[:, : other.rows, :, : other.length] = other.values

    def move(self, sources: list[int], targets: list[int]) -> None:
        """Copy whole rows onto others."""
        self.keys[:, targets] = self.keys[:, sources]
        self.values[:, targets] = self.values[:, sources]

    def write(
        self, layer: int, positions_BT: torch.Tensor, key_BTKC: torch.Tensor, value_BTKC: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store the new positions of one layer; returns its keys and values, (B, K, length, C) each."""
        rows = torch.arange(positions_BT.shape[0], device=positions_BT.device)[:, None]
        self.keys[layer][rows, :, positions_BT] = key_BTKC
        self.values[layer][rows, :, positions_BT] = value_BTKC
        return self.keys[layer], self.values[layer]

    def allowed(self, positions_BT: torch.Tensor) -> torch.Tensor:
        """(B, 1, T, length) bool: a query at position p sees the cached positions up to p."""
        slots = torch.arange(self.length, device=positions_BT.device)
        return slots <= positions_BT[:, None, :, None]
