"""How many parameters a shape has, how many of them one token passes through, and what they take in memory."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import torch

from minimind.model.config import ModelConfig
from minimind.model.transformer import Transformer

# Part -> its parameters' names; each name fits one of them.
PARTS = {
    "embedding": r"embed_tokens|lm_head",
    "score": r"^score\.",
    "attention": r"self_attn\.\w_proj",
    "router": r"mlp\.gate\.",
    "experts": r"mlp\.experts\.",
    "shared_experts": r"mlp\.shared_expert\.",
    "feed_forward": r"mlp\.\w+_proj",
    "norms": r"norm",
}


def count_parameters(config: ModelConfig) -> dict[str, Any]:
    """Number of parameters: total, active (those that one token passes through), and by part.

    Of the routed experts a token passes through `num_experts_per_tok`, of all else through everything. Nothing is
    allocated, and one block is counted for all.
    """
    with torch.device("meta"):
        model = Transformer(replace(config, num_hidden_layers=1), seed=None)
    parts = dict.fromkeys(PARTS, 0)
    for name, parameter in model.named_parameters():
        part = next(part for part, names in PARTS.items() if re.search(names, name))
        parts[part] += parameter.numel() * (config.num_hidden_layers if "layers." in name else 1)
    total, idle = sum(parts.values()), 0
    if config.num_experts:
        idle = parts["experts"] // config.num_experts * (config.num_experts - config.num_experts_per_tok)
    return {
        "total": total,
        "active": total - idle,
        "parts": {part: count for part, count in parts.items() if count},
    }


def active_parameters(config: ModelConfig) -> int:
    """Number of parameters that one token passes through."""
    active: int = count_parameters(config)["active"]
    return active
