"""All initialisation in one place.

| parameter                          | initial value                                                    |
|------------------------------------|------------------------------------------------------------------|
| embed_tokens, tied                 | normal, std 2/D                                                  |
| embed_tokens, untied               | normal, std 1/sqrt(D)                                            |
| lm_head (untied)                   | zero                                                             |
| q, k, v, gate, up, router           | uniform with std 1/sqrt(fan in)                                  |
| o_proj, down_proj                  | zero: every block begins as the identity                         |
| norms                              | one                                                              |

The first loss must be ln V. With zero output projections the last hidden state is the token's own embedding
scaled to length sqrt(D), so a tied head gives that token the logit D·std: a std above about 3/D would make
the model sure, from the start, that every token repeats.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from minimind.model.transformer import Transformer


@torch.no_grad()
def initialise(model: Transformer, seed: int) -> None:
    """Set every parameter from `seed`, the same on every device and number of threads."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        kind = name.removesuffix(".weight").rpartition(".")[2]
        if kind.endswith("norm"):
            parameter.fill_(1.0)
        elif kind in ("o_proj", "down_proj", "lm_head"):
            parameter.zero_()
        elif kind == "embed_tokens":
            width = parameter.shape[1]
            std = 2 / width if model.config.tie_word_embeddings else width**-0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
        else:
            limit = math.sqrt(3 / parameter.shape[-1])  # a uniform distribution on ±limit has std limit/√3
            parameter.copy_((torch.rand(parameter.shape, generator=generator) * 2 - 1) * limit)
