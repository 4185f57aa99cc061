"""Models with no symmetry left, so that a mistake anywhere shows in their numbers."""

from __future__ import annotations

from typing import Any

import torch

from minimind.model import ModelConfig, Transformer

SHAPE: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
}


def random_model(seed: int = 1, std: float = 0.3, **fields: Any) -> Transformer:
    """Every matrix and every norm random; `fields` are those of ModelConfig."""
    model = Transformer(ModelConfig(**{**SHAPE, **fields}), seed=None)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator) * std
        parameter.data.copy_(noise if parameter.dim() > 1 else 1 + noise)
    return model.eval()


def random_ids(*shape: int, seed: int = 0, vocab_size: int = SHAPE["vocab_size"]) -> torch.Tensor:
    return torch.randint(vocab_size, shape, generator=torch.Generator().manual_seed(seed))
