"""Settings that follow from the size of a model and its budget, where nobody named them.

One place, step by step, so that a preset and a budget are enough for a good pretraining. Each rule passes near what
was found with models of 1M to 6M parameters (docs/LOG.md) and continues it by an exponent that is usual; for larger
ones nothing was tuned.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from minimind.model.count import active_parameters
from minimind.recipe import Recipe

# What to reckon with where the budget is not given in tokens (Hoffmann et al. 2022, arXiv:2203.15556).
TOKENS_PER_PARAMETER = 20


def derive(recipe: Recipe, named: Collection[str] = ()) -> dict[str, Any]:
    """By key, without those `named`: positions of a step and peak rates for a pretraining by this recipe."""
    tokens = recipe.budget.tokens or TOKENS_PER_PARAMETER * active_parameters(recipe.model)
    width, positions = recipe.model.hidden_size, recipe.batch.tokens_per_step
    derived: dict[str, Any] = {}
    if "batch.tokens_per_step" not in named:
        # For 3M tokens 2,048 positions were best: half of them learned no more per token, twice as many less. A
        # longer training has steps enough to make them larger. A power of two, of at least eight rows.
        wanted = 2048 * math.sqrt(tokens / 3e6)
        power = 2 ** round(math.log2(min(max(wanted, 2048), 2**19)))
        positions = max(8, round(power / recipe.batch.seq_len)) * recipe.batch.seq_len
        derived["batch.tokens_per_step"] = positions
    if recipe.optimizer.name == "muon":
        # Muon's update has the same size in every direction, so its best rate hardly depends on the width. But the
        # fewer positions a step has, the more of the update is chance: 0.008 was best at 2,048; 0.02 is usual.
        derived["optimizer.learning_rate"] = _rounded(min(0.02, 0.008 * math.sqrt(positions / 2048)))
        derived["optimizer.embedding_learning_rate"] = _rounded(0.02 * math.sqrt(256 / width))
    elif recipe.optimizer.name == "adamw":
        derived["optimizer.learning_rate"] = _rounded(0.002 * math.sqrt(512 / width))
    return {key: value for key, value in derived.items() if key not in named}


def _rounded(rate: float) -> float:
    return float(f"{rate:.2g}")
