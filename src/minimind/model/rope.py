"""Rotary position embeddings (Su et al. 2021, arXiv:2104.09864), half-rotated as in Hugging Face.

A model knows the angles of the lengths it was trained at and no others. Three ways make longer texts look like
them, computed as in transformers to the last bit: `linear` (Chen et al. 2023, arXiv:2306.15595), `dynamic` NTK, and
`yarn` (Peng et al. 2023, arXiv:2309.00071).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import torch

from minimind.errors import UserError
from minimind.model.config import ModelConfig, RopeScaling


def inverse_frequencies(config: ModelConfig) -> torch.Tensor:
    """(C / 2,) float32: theta^(-2i/C), the angle per position of channel pair i, stretched as the config says.

    Those of `dynamic` are for texts no longer than the model was trained at; `angles` replaces them.
    """
    powers = config.rope_theta ** exponents(config)
    match config.rope_scaling:
        case RopeScaling(rope_type="linear", factor=factor):
            return 1.0 / powers / factor
        case RopeScaling(rope_type="yarn", factor=factor) as scaling:
            fast = fast_part(config, scaling)
            return 1.0 / (factor * powers) * (1 - fast) + 1.0 / powers * fast
    return 1.0 / powers


def exponents(config: ModelConfig) -> torch.Tensor:
    """(C / 2,) float32: 2i/C. On the CPU, as on meta `arange` would import for seconds."""
    return torch.arange(0, config.head_dim, 2, dtype=torch.int64, device="cpu").float() / config.head_dim


def fast_part(config: ModelConfig, scaling: RopeScaling) -> torch.Tensor:
    """(C / 2,) float32: what part of each pair's frequency YaRN leaves as it is; the rest is divided by the factor.

    A pair that turns many times over the trained length tells near positions apart and keeps its pace: 1. One that
    never turned a whole time would come to angles it has never seen: 0. In between a straight ramp (equation 18).
    """
    trained = scaling.original_max_position_embeddings
    pairs = torch.arange(config.head_dim // 2, dtype=torch.float32, device="cpu")
    assert trained is not None  # ModelConfig filled it in

    def pair_that_turns(times: float) -> float:
        return config.head_dim * math.log(trained / (times * 2 * math.pi)) / (2 * math.log(config.rope_theta))

    low = max(math.floor(pair_that_turns(scaling.beta_fast)), 0)
    high = min(math.ceil(pair_that_turns(scaling.beta_slow)), config.head_dim - 1)
    ramp = (pairs - low) / (high - low or 0.001)  # 0.001: a step, where there is no room for a ramp
    return 1 - ramp.clamp(0, 1)


def attention_factor(config: ModelConfig) -> float:
    """What YaRN multiplies queries and keys by; its square is 1 / the temperature of attention (equation 22)."""
    scaling = config.rope_scaling
    if scaling is None or scaling.rope_type != "yarn":
        return 1.0
    return scaling.attention_factor or 0.1 * math.log(scaling.factor) + 1


def ntk_frequencies(config: ModelConfig, lengths: torch.Tensor) -> torch.Tensor:
    """(…, C / 2) float32: the frequencies of `dynamic` in texts of these lengths (…): theta grows with the text.

    Up to the trained length nothing changes; beyond it the slowest pair turns no further than it did in training.
    """
    scaling, trained = config.rope_scaling, config.max_position_embeddings
    assert scaling is not None
    growth = scaling.factor * lengths.clamp(min=trained) / trained - (scaling.factor - 1)
    # On a CPU, fp32 powers of many numbers and of one differ in the last bit, and packed texts would from unpacked
    # ones; rounded from fp64 they agree. (MPS has no fp64.)
    wide = torch.float32 if growth.device.type == "mps" else torch.float64
    power = growth.to(wide) ** (config.head_dim / (config.head_dim - 2))
    theta = config.rope_theta * power.to(growth.dtype)
    return 1.0 / (theta[..., None] ** exponents(config).to(lengths.device))


def text_lengths(positions_BT: torch.Tensor, documents_BT: torch.Tensor | None) -> torch.Tensor:
    """How long the text is that each position belongs to: (B, T) with documents, else (B, 1), a row being one text.

    (Generation says itself how long each text is. Keys read before keep the angles that they were read with, as in
    transformers: what the layers above made of them cannot be undone. So in `dynamic` alone, and beyond the trained
    length alone, an answer that grows token by token differs from the same text read whole.)
    """
    if documents_BT is None:
        return positions_BT.amax(1, keepdim=True) + 1
    B, T = positions_BT.shape
    documents_BT = documents_BT + 1  # padding is document −1
    last = positions_BT.new_zeros(B, B * T + 1).scatter_reduce(1, documents_BT, positions_BT, "amax")
    return last.gather(1, documents_BT) + 1


def angles(
    config: ModelConfig,
    frequencies: torch.Tensor,
    positions_BT: torch.Tensor,
    documents_BT: torch.Tensor | None = None,
    lengths_BT: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine of every position's angles, each (B, T, 1, C) float32, the half repeated; in YaRN times the
    attention factor. `frequencies` are `inverse_frequencies(config)`, on the positions' device. `lengths_BT`: how
    long each position's text is, where the positions do not tell."""
    if config.rope_scaling is not None and config.rope_scaling.rope_type == "dynamic":
        lengths = text_lengths(positions_BT, documents_BT) if lengths_BT is None else lengths_BT
        frequencies = ntk_frequencies(config, lengths)
    half = positions_BT[..., None].float() * frequencies
    full = torch.cat((half, half), dim=-1)[:, :, None, :]
    factor = attention_factor(config)
    return full.cos() * factor, full.sin() * factor


def rotate(x_BTHC: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn each pair (i, i + C/2) of channels by its position's angle (equation 34)."""
    first, second = x_BTHC.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return (x_BTHC * cos + turned * sin).to(x_BTHC.dtype)


def scale_rope(
    config: ModelConfig,
    factor: float,
    rope_type: Literal["linear", "dynamic", "yarn"] = "yarn",
    trained: int | None = None,
) -> ModelConfig:
    """The same model for contexts `factor` times as long as it was trained at; what it learned stays as it is.

    `trained` is that length, by default the one in the config. UserError if neither is known.
    """
    trained = trained or config.original_max_position_embeddings
    if trained is None:
        raise UserError("config.json has no original_max_position_embeddings; give the length it was trained at")
    return replace(
        config,
        # In `dynamic` this is the trained length, as transformers reads it.
        max_position_embeddings=trained if rope_type == "dynamic" else round(factor * trained),
        original_max_position_embeddings=trained,
        rope_scaling=replace(
            config.rope_scaling or RopeScaling(),
            rope_type=rope_type,
            factor=float(factor),
            original_max_position_embeddings=trained,
        ),
    )
