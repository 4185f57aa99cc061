"""Which channels rotary positions turn together: (i, i + C/2) as in Hugging Face, or neighbors (2i, 2i + 1).

One way becomes the other by the order of the rows of the query and key matrices, within each head. Letters:
H heads, C channels of a head, D model width.
"""

from __future__ import annotations

import torch


def neighbors(matrix: torch.Tensor, channels: int) -> torch.Tensor:
    """The rows of each head (H · C, D) put so that channels i and i + C/2 become neighbors."""
    return matrix.unflatten(0, (-1, 2, channels // 2)).transpose(1, 2).reshape(matrix.shape)


def halves(matrix: torch.Tensor, channels: int) -> torch.Tensor:
    """The inverse: pairs of neighbors (2i, 2i + 1) become pairs (i, i + C/2)."""
    return matrix.unflatten(0, (-1, channels // 2, 2)).transpose(1, 2).reshape(matrix.shape)
