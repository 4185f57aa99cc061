"""Named model shapes: a ladder of sizes, and the shapes of the published MiniMind models.

The vocabulary comes with the tokenizer; the one that stands here is what a shape's parameters are counted with.
To add a shape, enter it in PRESETS.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from minimind.errors import UserError
from minimind.model import ModelConfig
from minimind.util.suggest import did_you_mean


def dense(
    width: int, layers: int, heads: int, num_key_value_heads: int, context: int = 4096, **fields: Any
) -> ModelConfig:
    """A Qwen3; its feed-forward width follows from its width unless it is given."""
    return ModelConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=num_key_value_heads,
        max_position_embeddings=context,
        **fields,
    )


# The public MiniMind's first two versions are Llamas (with experts: Qwen2-MoE), the third is Qwen3.
V1: dict[str, Any] = {
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e4,
    "max_position_embeddings": 512,
}
V2: dict[str, Any] = {"num_attention_heads": 8, "num_key_value_heads": 2, "rms_norm_eps": 1e-5}
V3: dict[str, Any] = {
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "hidden_size": 768,
    "num_hidden_layers": 8,
}
W512: dict[str, Any] = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8}
W640: dict[str, Any] = {"hidden_size": 640, "intermediate_size": 1728, "num_hidden_layers": 8}
W768: dict[str, Any] = {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 16}
SHARED: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1}

PRESETS = {
    # A short context needs no large theta: with a small one more of the channels turn fast.
    "tiny": dense(96, 3, 2, 1, context=1024, rope_theta=1e4, head_dim=64),
    "quickstart": dense(192, 4, 3, 3, context=1024, rope_theta=1e4, intermediate_size=512, vocab_size=2560),
    "nano": dense(256, 6, 4, 2, context=2048, intermediate_size=640),
    "micro": dense(384, 6, 6, 2, intermediate_size=1024),
    # Deep and narrow up to 500m, with widths, heads and depths near MobileLLM's (arXiv:2402.14905), which found
    # that better below a billion; from there on the width grows faster than the depth, as is usual.
    "50m": dense(512, 14, 8, 4),
    "100m": dense(576, 24, 9, 3),
    "200m": dense(768, 27, 12, 4),
    "350m": dense(960, 30, 15, 5),
    "500m": dense(1024, 39, 16, 4),
    "1b": dense(1536, 35, 12, 3),
    "2b": dense(2048, 40, 16, 4),
    "3b": dense(2560, 38, 20, 5),
    # As published.
    "minimind-v1-small": ModelConfig("llama", **V1, **W512),
    "minimind-v1": ModelConfig("llama", **V1, **W768),
    "minimind-v1-moe": ModelConfig("qwen2_moe", **V1, **W512, **SHARED),
    "minimind2-small": ModelConfig("llama", **V2, **W512),
    "minimind2": ModelConfig("llama", **V2, **W768),
    "minimind2-moe": ModelConfig("qwen2_moe", **V2, **W640, **SHARED),
    "minimind-3": ModelConfig("qwen3", **V3),
    "minimind-3-moe": ModelConfig("qwen3_moe", **V3, num_experts=4, num_experts_per_tok=1),
}


def get(name: str, **changes: Any) -> ModelConfig:
    """The shape of that name; `vocab_size` may be given. UserError naming the nearest for an unknown one."""
    if name not in PRESETS:
        advice = did_you_mean(name.lower().replace("_", "-"), PRESETS, f"there are {', '.join(PRESETS)}")
        raise UserError(f"no preset is called {name!r}; {advice}")
    return replace(PRESETS[name], **changes)


def preset_fields(name: str) -> dict[str, Any]:
    """The settings that a preset decides, by field of ModelConfig: all but the vocabulary."""
    fields = asdict(get(name))
    del fields["vocab_size"]
    return {name: value for name, value in fields.items() if value is not None}
