"""What follows from a model's size and its budget."""

import dataclasses

import pytest

from minimind import config
from minimind.cli import main
from minimind.optim.options import OptimizerOptions
from minimind.plan.derive import derive
from minimind.presets import PRESETS, get
from minimind.recipe import BatchOptions, BudgetOptions, Recipe


def recipe(preset="nano", tokens=3e6, seq_len=256, **optimizer):
    return Recipe(
        model=get(preset),
        budget=BudgetOptions(tokens=tokens),
        batch=BatchOptions(seq_len=seq_len),
        optimizer=OptimizerOptions(**optimizer),
    )


def rates(recipe):
    return recipe.optimizer.learning_rate, recipe.optimizer.embedding_learning_rate


def test_the_anchors_of_the_rules():
    """Found at 3M tokens and 2,048 positions of `nano` (docs/LOG.md); the others are as the rules continue."""
    assert derive(recipe()).batch.tokens_per_step == 2048
    assert derive(recipe(tokens=10e6)).batch.tokens_per_step == 4096
    assert derive(recipe()).optimizer.learning_rate == 0.008
    assert derive(recipe(tokens=10e6)).optimizer.learning_rate == 0.011
    small_steps = dataclasses.replace(recipe(), batch=BatchOptions(seq_len=128, tokens_per_step=128))
    assert derive(small_steps).optimizer.learning_rate == 0.002
    assert derive(recipe("nano")).optimizer.embedding_learning_rate == 0.02
    assert rates(derive(recipe("nano", name="sgd"))) == (0.02, 0.02)


@pytest.mark.parametrize(("name", "wanted"), [("muon", 0.006), ("adamw", 0.02), ("sgd", 0.02)])
def test_fine_tuning_takes_about_32768_positions_and_one_rate(name, wanted):
    """Muon's companion has 0.3 of it; none of it depends on the model or the budget."""
    for preset, tokens in (("nano", None), ("minimind-3", 1e9)):
        tuned = derive(dataclasses.replace(recipe(preset, tokens, seq_len=500, name=name), init_from="a model"))
        assert tuned.batch.tokens_per_step == 66 * 500
        assert rates(tuned) == (0.02, pytest.approx(wanted))
    gentle = derive(dataclasses.replace(recipe(name=name, learning_rate=0.002), init_from="a model"))
    assert rates(gentle) == (0.002, pytest.approx(wanted / 10))


def test_what_is_named_is_not_derived_and_everything_else_is():
    named = recipe(learning_rate=0.3, embedding_learning_rate=0.1)
    named = dataclasses.replace(named, batch=BatchOptions(tokens_per_step=512))
    assert derive(named) == named
    assert derive(derive(recipe())) == derive(recipe())


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_gets_a_whole_number_of_sequences_and_rates_in_range(preset):
    for tokens in (None, 1e5, 1e8, 1e12):
        for name in ("muon", "adamw"):
            derived = derive(recipe(preset, tokens=tokens, seq_len=340, name=name))
            sequences, rest = divmod(derived.batch.tokens_per_step, 340)
            assert rest == 0
            assert sequences >= 8
            assert derived.batch.tokens_per_step <= 2**19 + 340
            low, high = {"muon": (0.007, 0.021), "adamw": (0.0005, 0.006)}[name]
            assert low < derived.optimizer.learning_rate < high


@pytest.fixture
def train(corpus, tokenizer_directory, tmp_path):
    """Begins or continues one run with these flags; its recipe."""
    paths = ["--data", str(corpus), "--tokenizer", str(tokenizer_directory), "--out", str(tmp_path / "run")]
    quick = ["--preset=tiny", "--evaluation.samples=0", "--compile=false", "--device=cpu"]

    def run(*flags, seq_len=32):
        assert main(["train", "pretrain", *paths, *quick, "--quiet", f"--batch.seq_len={seq_len}", *flags]) == 0
        return config.load(Recipe, files=[tmp_path / "run" / "recipe.yaml"])

    return run


def test_another_budget_does_not_change_a_run_that_is_continued(train):
    first = train("--budget.tokens=4096")
    assert first.batch.tokens_per_step == 2048
    anew = dataclasses.replace(first, batch=BatchOptions(seq_len=32), optimizer=OptimizerOptions())
    assert derive(anew) == first
    assert derive(dataclasses.replace(anew, budget=BudgetOptions(steps=3))).batch.tokens_per_step != 2048
    continued = train("--budget.steps=3")
    assert continued.batch == first.batch
    assert rates(continued) == rates(first)


def test_sequences_of_any_length_make_whole_steps(train):
    assert train("--budget.steps=1", seq_len=34).batch.tokens_per_step % 34 == 0


def test_what_is_named_stays(train):
    assert train("--budget.steps=1", "--optimizer.learning_rate=0.011").optimizer.learning_rate == 0.011
