"""What a model takes in memory."""

from __future__ import annotations

from minimind.model.config import ModelConfig
from minimind.model.count import count_parameters

BYTES = {"fp32": 4, "bf16": 2}


def memory(config: ModelConfig) -> dict[str, dict[str, int]]:
    """Bytes, by type: of all weights, and of the keys and values of one token (2·L·K·C numbers)."""
    total = count_parameters(config)["total"]
    cached = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    return {
        "weights": {name: size * total for name, size in BYTES.items()},
        "kv_cache_per_token": {name: size * cached for name, size in BYTES.items()},
    }
