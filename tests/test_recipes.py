"""Every shipped recipe is complete, and its model begins where a model from zero must."""

import math
from importlib import resources

import pytest
import torch

from minimind import config
from minimind.presets import preset_fields
from minimind.recipe import Recipe
from minimind.stages import STAGES

RECIPES = sorted((resources.files("minimind") / "recipes").iterdir(), key=str)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_shipped_recipe_loads_and_names_its_stage(path):
    recipe = config.load(Recipe, files=[path])
    assert recipe.stage in STAGES
    merged = config.load(Recipe, files=[path], defaults=STAGES[recipe.stage].defaults)
    assert config.load(Recipe, (), (), {**config.to_dict(merged)}) == merged


@pytest.mark.parametrize("path", [path for path in RECIPES if "pretrain" in path.name], ids=lambda path: path.name)
def test_the_first_loss_of_a_shipped_recipe_is_that_of_a_uniform_guess(path):
    from minimind.losses.cross_entropy import linear_cross_entropy
    from minimind.model import ModelConfig, Transformer

    recipe = config.load(Recipe, files=[path])
    shape = ModelConfig(**preset_fields(recipe.preset))
    model = Transformer(shape, recipe.seed)
    tokens = torch.randint(0, shape.vocab_size, (2, 64), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        loss = linear_cross_entropy(model(tokens).flatten(0, 1), model.output_weight, tokens.roll(-1, 1).flatten())
    assert float(loss) / tokens.numel() == pytest.approx(math.log(shape.vocab_size), rel=0.02)
