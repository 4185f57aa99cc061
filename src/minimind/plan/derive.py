"""Settings that follow from the size of a model and its budget, where nobody named them: all are filled in here.

One place, step by step, so that a preset and a budget are enough for a good pretraining. Each rule passes near what
was found with models of 1M to 6M parameters (docs/LOG.md) and continues it by an exponent that is usual; for larger
ones nothing was tuned.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

from minimind import config
from minimind.errors import UserError
from minimind.model.count import active_parameters
from minimind.recipe import Recipe
from minimind.util.checksums import is_intact

# What to reckon with where the budget is not given in tokens (Hoffmann et al. 2022, arXiv:2203.15556).
TOKENS_PER_PARAMETER = 20
FINE_TUNING_POSITIONS = 32768
FINE_TUNING_RATE = 0.02


def derive(recipe: Recipe, run: Path | None = None) -> Recipe:
    """The recipe with a value for every setting that is None because nobody named it.

    run  a run to be resumed keeps the values it has, so that a longer budget does not change them
    """
    stored = stored_recipe(run) if run is not None and (run / "recipe.yaml").exists() else None
    positions = recipe.batch.tokens_per_step
    if positions is None:
        positions = stored.batch.tokens_per_step if stored else positions_per_step(recipe)
    optimizer = recipe.optimizer
    rate = optimizer.learning_rate
    if rate is None:
        rate = stored.optimizer.learning_rate if stored else learning_rate(recipe, positions)
    embedding_rate = optimizer.embedding_learning_rate
    if embedding_rate is None:
        embedding_rate = (
            stored.optimizer.embedding_learning_rate if stored else embedding_learning_rate(recipe, rate)
        )
    return dataclasses.replace(
        recipe,
        batch=dataclasses.replace(recipe.batch, tokens_per_step=positions),
        optimizer=dataclasses.replace(optimizer, learning_rate=rate, embedding_learning_rate=embedding_rate),
    )


def positions_per_step(recipe: Recipe) -> int:
    """For 3M tokens 2,048 positions were best: half of them learned no more per token, twice as many less. A longer
    training has steps enough to make them larger. A power of two, of at least eight sequences."""
    seq_len = recipe.batch.seq_len
    if recipe.init_from:
        return max(1, round(FINE_TUNING_POSITIONS / seq_len)) * seq_len
    tokens = recipe.budget.tokens or TOKENS_PER_PARAMETER * active_parameters(recipe.model)
    wanted = 2048 * math.sqrt(tokens / 3e6)
    power = 2 ** round(math.log2(min(max(wanted, 2048), 2**19)))
    return max(8, round(power / seq_len)) * seq_len


def learning_rate(recipe: Recipe, positions: int) -> float:
    """Muon's update has the same size in every direction, so its best rate hardly depends on the width. But the
    fewer positions a step has, the more of the update is chance: 0.008 was best at 2,048; 0.02 is usual."""
    if recipe.optimizer.name == "muon" and not recipe.init_from:
        return _rounded(min(0.02, 0.008 * math.sqrt(positions / 2048)))
    if recipe.optimizer.name == "adamw" and not recipe.init_from:
        return _rounded(0.002 * math.sqrt(512 / recipe.model.hidden_size))
    return FINE_TUNING_RATE


def embedding_learning_rate(recipe: Recipe, rate: float) -> float:
    """Beside muon, adamw moves the embedding: its rate follows from the width, or in fine-tuning from the other."""
    if recipe.optimizer.name == "muon":
        return 0.3 * rate if recipe.init_from else _rounded(0.02 * math.sqrt(256 / recipe.model.hidden_size))
    return rate


def stored_recipe(run: Path) -> Recipe:
    """The recipe that a run directory holds. A rate of the embedding that it does not name was 0.3 of the other.

    UserError where it is not what was written: values of it would decide steps.
    """
    path = run / "recipe.yaml"
    if not is_intact(path.read_text(encoding="utf-8", errors="replace")):
        raise UserError(
            f"{path} is damaged or was edited: it does not fit its last line, a checksum; restore it, or look "
            "at it and delete that line"
        )
    recipe = config.load(Recipe, files=[path])
    optimizer = recipe.optimizer
    if optimizer.embedding_learning_rate is not None:
        return recipe
    rate = (0.3 if optimizer.name == "muon" else 1.0) * optimizer.learning_rate
    return dataclasses.replace(recipe, optimizer=dataclasses.replace(optimizer, embedding_learning_rate=rate))


def _rounded(rate: float) -> float:
    return float(f"{rate:.2g}")
