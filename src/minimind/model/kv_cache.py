"""Keys and values of the positions already read, in memory laid out once.

Letters in names: L layers, K key/value heads, C channels of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from minimind.model.config import ModelConfig


@dataclass
class KVCache:
    """Room for `rows` texts of up to `length` positions each.

    memory  (L, rows, length, 2, K, C) in the model's compute type; keys are 0, values 1: what a token adds lies
            side by side and is written at once

    What stands behind a row's last position is never attended to, so a row is handed to the next text without being
    cleared.
    """

    memory: torch.Tensor

    @classmethod
    def empty(
        cls, config: ModelConfig, rows: int, length: int, dtype: torch.dtype, device: torch.device
    ) -> KVCache:
        shape = (config.num_hidden_layers, rows, length, 2, config.num_key_value_heads, config.head_dim)
        # Zeros, not raw memory: a masked position's weight is 0, and 0 times a stray NaN would be NaN.
        return cls(torch.zeros(shape, dtype=dtype, device=device))

    @property
    def rows(self) -> int:
        return self.memory.shape[1]

    @property
    def length(self) -> int:
        return self.memory.shape[2]

    def flat(self) -> tuple[torch.Tensor, ...]:
        """For each layer (rows · length, 2 · K · C), all memory: position p of row r is line r · length + p."""
        return self.memory.flatten(3).flatten(1, 2).unbind(0)

    def keys_values(self, rows: int, length: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """For each layer keys and values of the first rows and positions, each (rows, K, length, C), not copied."""
        keys, values = self.memory[:, :rows, :length].transpose(2, 4).unbind(3)
        return list(zip(keys.unbind(0), values.unbind(0)))

    def grown(self, rows: int) -> KVCache:
        """The same content with room for more rows."""
        shape = list(self.memory.shape)
        shape[1] = rows
        memory = self.memory.new_empty(shape)
        memory[:, : self.rows] = self.memory
        memory[:, self.rows :] = 0
        return KVCache(memory)
