"""Rotary position embeddings (Su et al. 2021, arXiv:2104.09864), half-rotated as in Hugging Face."""

from __future__ import annotations

import torch

from minimind.model.config import ModelConfig


def inverse_frequencies(config: ModelConfig) -> torch.Tensor:
    """(C / 2,) float32: theta^(-2i/C), the angle per position of channel pair i."""
    channels = torch.arange(0, config.channels, 2, dtype=torch.int64).float()
    return 1.0 / (config.rope_theta ** (channels / config.channels))


def angles(positions_BT: torch.Tensor, frequencies: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine of every position's angles, each (B, T, 1, C) float32, the half repeated."""
    half = positions_BT[..., None].float() * frequencies
    full = torch.cat((half, half), dim=-1)[:, :, None, :]
    return full.cos(), full.sin()


def rotate(x_BTHC: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn each pair (i, i + C/2) of channels by its position's angle (equation 34)."""
    first, second = x_BTHC.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return (x_BTHC * cos + turned * sin).to(x_BTHC.dtype)
