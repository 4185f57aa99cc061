"""Keys and values of the positions already read, in memory laid out once."""

from __future__ import annotations

import torch

from minimind.model.config import ModelConfig


class KVCache:
    """Room for `rows` sequences of up to `length` positions each.

    keys, values  (L, rows, K, length, C) in the model's compute type
    lengths       (rows,) int64: positions already filled in each row
    """

    def __init__(
        self, config: ModelConfig, rows: int, length: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        shape = (config.num_hidden_layers, rows, config.kv_heads, length, config.channels)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.lengths = torch.zeros(rows, dtype=torch.int64, device=device)

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
        slots = torch.arange(self.keys.shape[3], device=positions_BT.device)
        return slots <= positions_BT[:, None, :, None]
