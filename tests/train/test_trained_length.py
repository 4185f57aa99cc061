"""The length a model was trained at: recorded by training, kept or raised by the next, the base of a stretch."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.helpers import assert_equal_trees, assert_same_run, last_checkpoint

from minimind.cli import main
from minimind.errors import UserError
from minimind.model import load_model
from minimind.model.hf.config import read_config
from minimind.model.rope import scale_rope
from minimind.stages.resolve import resolve
from minimind.stages.stage import make_model

YARN = {"model__rope_scaling__rope_type": "yarn", "model__rope_scaling__factor": 4}
SEQ_LEN = 32  # of the tiny recipe
LONGEST = 4096


@pytest.fixture
def base(pretrain, tmp_path):
    """A model that was trained on sequences of 32."""
    assert main(pretrain(tmp_path / "base", budget__steps=2, model__max_position_embeddings=LONGEST)) == 0
    return tmp_path / "base"


@pytest.fixture
def tuning(sft, base, base_model):
    """`tuning(out, **changes)`: the arguments of a fine-tuning of `base`."""

    def arguments(out: Path, **changes: Any) -> list[str]:
        return [
            str(base) if word == str(base_model) else word for word in sft(out, **{"budget__steps": 2, **changes})
        ]

    return arguments


def config_of(run: Path):
    return read_config(run / "model")


def trained(run: Path) -> int | None:
    return config_of(run).original_max_position_embeddings


def recipe_of(argv: list[str]):
    """The resolved recipe of a command of the fixtures."""
    given = dict(zip(argv[2:8:2], argv[3:8:2]))
    names = {"--tokenizer": "tokenizer", "--from": "init_from"}
    paths = {names[flag]: path for flag, path in given.items() if flag in names}
    return resolve(argv[1], argv[8:], [], {**paths, "data": [given["--data"]]})


def test_pretraining_records_the_length_of_its_sequences(base):
    for directory in (base / "model", base / "best", last_checkpoint(base)):
        assert read_config(directory).original_max_position_embeddings == SEQ_LEN
    assert config_of(base).max_position_embeddings == LONGEST
    assert (
        yaml.safe_load((base / "recipe.yaml").read_text())["model"]["original_max_position_embeddings"] == SEQ_LEN
    )


@pytest.mark.parametrize(("seq_len", "wanted"), [(16, SEQ_LEN), (64, 64)])
def test_longer_sequences_raise_it_and_shorter_ones_do_not(tuning, tmp_path, seq_len, wanted):
    out = tmp_path / "tuned"
    argv = tuning(out, batch__seq_len=seq_len, batch__long_documents="split")
    assert main(argv) == 0
    assert trained(out) == wanted
    assert main(argv) == 0, "finished, and its recipe is still the same"


def test_what_is_not_recorded_stays_unknown_until_it_is_told(sft, base_model, tmp_path):
    assert read_config(base_model).original_max_position_embeddings is None
    for told, wanted in ((None, None), (SEQ_LEN, SEQ_LEN), (512, 512)):
        model = recipe_of(sft(tmp_path / "x", model__original_max_position_embeddings=told)).model
        assert model.original_max_position_embeddings == wanted


@pytest.mark.parametrize("rope_type", ["linear", "dynamic", "yarn"])
def test_a_start_model_can_be_stretched(tuning, base, tmp_path, rope_type):
    """As `stretch` does it, with its own weights."""
    argv = tuning(
        tmp_path / "long",
        model__rope_scaling__rope_type=rope_type,
        model__rope_scaling__factor=4,
        batch__seq_len=128,
    )
    wanted = scale_rope(config_of(base), 4, rope_type)
    recipe = recipe_of(argv)
    assert recipe.model == wanted
    assert_equal_trees(make_model(recipe).state_dict(), load_model(base / "model").state_dict())
    assert main(argv) == 0
    assert config_of(tmp_path / "long") == wanted
    assert trained(tmp_path / "long") == SEQ_LEN, "what the stretch is relative to"
    again = tuning(tmp_path / "again", batch__seq_len=256)
    again[again.index(str(base))] = str(tmp_path / "long")
    assert recipe_of(again).model == wanted, "a stretched model stays as it is"


def test_a_stretch_can_be_changed_in_every_detail(tuning, tmp_path):
    details = {"beta_fast": 16, "beta_slow": 2, "attention_factor": 1.1}
    given = {f"model__rope_scaling__{name}": value for name, value in details.items()}
    model = recipe_of(tuning(tmp_path / "x", **YARN, **given, model__max_position_embeddings=100)).model
    assert model.max_position_embeddings == 100
    assert {name: getattr(model.rope_scaling, name) for name in details} == details


def test_a_stretched_training_is_continued_exactly(tuning, tmp_path):
    changes = {**YARN, "batch__seq_len": 64, "budget__steps": 6, "checkpoint__every": 3}
    argv, whole = (tuning(tmp_path / name, **changes) for name in ("run", "whole"))
    assert main(argv) == main(whole) == 0
    shutil.rmtree(tmp_path / "run/model")
    shutil.rmtree(last_checkpoint(tmp_path / "run"))
    assert main(argv) == 0
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_the_recipe_of_a_stretched_run_makes_it_again(tuning, tmp_path):
    assert main(tuning(tmp_path / "run", **YARN, batch__seq_len=64)) == 0
    recipe = ["--recipe", str(tmp_path / "run/recipe.yaml")]
    assert main(["train", "sft", *recipe, "--out", str(tmp_path / "again")]) == 0
    assert_same_run(tmp_path / "run", tmp_path / "again")


def test_a_stretched_model_from_zero(pretrain, tmp_path):
    assert main(pretrain(tmp_path / "run", budget__steps=2, **YARN)) == 0
    scaling = load_model(tmp_path / "run/model").config.rope_scaling
    assert scaling is not None
    assert (scaling.rope_type, scaling.factor, scaling.original_max_position_embeddings) == ("yarn", 4, SEQ_LEN)
    told = pretrain(tmp_path / "told", **YARN, model__rope_scaling__original_max_position_embeddings=8)
    assert recipe_of(told).model.original_max_position_embeddings == 8


def test_contradictions_are_refused(pretrain, tuning, tmp_path):
    right = recipe_of(pretrain(tmp_path / "x", model__original_max_position_embeddings=SEQ_LEN)).model
    assert right.original_max_position_embeddings == SEQ_LEN
    for command, changes, sentence in (
        (
            pretrain,
            {"model__original_max_position_embeddings": 512},
            "512 is the length a model was trained at, and",
        ),
        (tuning, {"model__original_max_position_embeddings": 512}, "is then 32, not 512; leave it out"),
        (tuning, {**YARN, "model__original_max_position_embeddings": 8}, "is then 32, not 8; leave it out"),
        (tuning, {**YARN, "model__rope_scaling__original_max_position_embeddings": 8}, "is then 32, not 8"),
        (tuning, {"model__rope_scaling__factor": 0.5}, "factor: expected a number from 1"),
        (tuning, {"model__hidden_size": 64}, "model.hidden_size is then 32, not 64; leave it out"),
        (tuning, {"preset": "tiny"}, "leave out --preset"),
    ):
        with pytest.raises(UserError, match=sentence):
            recipe_of(command(tmp_path / "x", **changes))


def test_a_model_that_records_nothing_must_be_told_before_it_is_stretched(sft, tmp_path):
    with pytest.raises(UserError, match="give the length it was trained at"):
        recipe_of(sft(tmp_path / "x", **YARN))
    for name in ("original_max_position_embeddings", "rope_scaling__original_max_position_embeddings"):
        model = recipe_of(sft(tmp_path / "x", **YARN, **{f"model__{name}": 16})).model
        assert model.original_max_position_embeddings == 16
        assert model.max_position_embeddings == 64


def test_a_run_from_before_lengths_were_recorded_goes_on(pretrain, tmp_path):
    argv = pretrain(tmp_path / "run", budget__steps=2)
    assert main(argv) == 0
    file = tmp_path / "run/recipe.yaml"
    recipe = yaml.safe_load(file.read_text())
    recipe["model"]["original_max_position_embeddings"] = None
    file.write_text(yaml.safe_dump(recipe))
    assert main(argv) == 0
