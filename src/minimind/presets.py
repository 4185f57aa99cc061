"""Named model shapes, one function each.

The vocabulary comes with the tokenizer, so it is an argument: a shape's default is the one its parameters are
counted with. To add a shape, write a function and enter it in PRESETS.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch

from minimind.errors import UserError
from minimind.model import ModelConfig, Transformer


def tiny(vocab_size: int = 2560) -> ModelConfig:
    """2.3M: the quickstart's, trained in minutes on a CPU"""
    return ModelConfig(
        vocab_size=vocab_size,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=3,
        num_key_value_heads=3,
        max_position_embeddings=1024,
        rope_theta=1e4,  # enough for a short context, and more of the channels turn fast
    )


def nano(vocab_size: int = 6400) -> ModelConfig:
    """6M"""
    return ModelConfig(
        vocab_size=vocab_size,
        hidden_size=256,
        intermediate_size=640,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
    )


def micro(vocab_size: int = 6400) -> ModelConfig:
    """12M"""
    return ModelConfig(
        vocab_size=vocab_size,
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=4096,
    )


def minimind2_small(vocab_size: int = 6400) -> ModelConfig:
    """as published"""
    return ModelConfig(
        model_type="llama",
        vocab_size=vocab_size,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=2,
        rms_norm_eps=1e-5,
    )


def minimind2(vocab_size: int = 6400) -> ModelConfig:
    """as published"""
    return ModelConfig(
        model_type="llama",
        vocab_size=vocab_size,
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=16,
        num_attention_heads=8,
        num_key_value_heads=2,
        rms_norm_eps=1e-5,
    )


def minimind_3(vocab_size: int = 6400) -> ModelConfig:
    """as published"""
    return ModelConfig(
        vocab_size=vocab_size,
        hidden_size=768,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
    )


PRESETS: dict[str, Callable[..., ModelConfig]] = {
    "tiny": tiny,
    "nano": nano,
    "micro": micro,
    "minimind2-small": minimind2_small,
    "minimind2": minimind2,
    "minimind-3": minimind_3,
}


def get(name: str, **changes: Any) -> ModelConfig:
    """The shape of that name; `vocab_size` may be given. UserError naming the nearest for an unknown one."""
    if name not in PRESETS:
        close = difflib.get_close_matches(name.lower().replace("_", "-"), PRESETS, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UserError(f"no preset is called {name!r}; {hint}there are {', '.join(PRESETS)}")
    return PRESETS[name](**changes)


def preset_fields(name: str) -> dict[str, Any]:
    """The settings that a preset decides, by field of ModelConfig: all but the vocabulary."""
    fields = asdict(get(name))
    del fields["vocab_size"]
    return fields


def count_parameters(config: ModelConfig) -> dict[str, Any]:
    """Number of parameters: total, active (used for one token), and by part; nothing is allocated."""
    with torch.device("meta"):
        model = Transformer(config, seed=None)
    parts = {"embedding": 0, "attention": 0, "feed_forward": 0, "norms": 0}
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parts["norms"] += parameter.numel()
        elif "self_attn" in name:
            parts["attention"] += parameter.numel()
        elif "mlp" in name:
            parts["feed_forward"] += parameter.numel()
        else:
            parts["embedding"] += parameter.numel()  # and the output projection, where it is its own
    total = sum(parts.values())
    return {"total": total, "active": total, "parts": parts}
