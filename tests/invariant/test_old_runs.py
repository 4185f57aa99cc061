"""Runs of an earlier version, in `tests/fixtures/old_runs`, which called some settings by other names.

Each is three steps long; beside it lies `NAME-resumed.jsonl`, the metrics of the same run as that version resumed
it to six. Of the recipes, `row_length`, `cooldown`, `final`, `recompute` and `start` have other names today.
"""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from tests.helpers import metrics

import minimind
from minimind.cli import main

FIXTURES = Path(__file__).parents[1] / "fixtures/old_runs"
SHAPE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
SHAPE |= {"head_dim": 8, "intermediate_size": 32, "max_position_embeddings": 512}
EXPERTS = ["--model.model_type=qwen3_moe", "--model.moe_intermediate_size=16", "--router.balance=global"]
BATCH = ["--batch.seq_len=64", "--batch.tokens_per_step=256", "--batch.micro_batch_tokens=128"]
SAME = [*BATCH, "--evaluation.samples=0", "--compile=false", "--precision=fp32", "--device=cpu", "--log_every=1"]
PRETRAIN = ["pretrain", "--tokenizer", "tokenizer", "--data", "world/pretrain.jsonl", *SAME]
PRETRAIN += [f"--model.{name}={value}" for name, value in SHAPE.items()]
DECAY = ["--schedule.decay=0.4", "--schedule.min_lr_ratio=0.1", "--activation_checkpointing=true"]
COMMANDS = {  # as one types them today
    "dense": [*PRETRAIN, *DECAY],
    "moe": [*PRETRAIN, *EXPERTS],
    "chat": ["sft", "--from", "dense", "--data", "world/sft.jsonl", *SAME],
}
EXACT = {"loss", "balance", "grad_norm", "lr", "tokens", "padding", "epoch"}

names = pytest.mark.parametrize("name", COMMANDS)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A copy of the runs, and what they were trained on where their recipes say it is."""
    shutil.copytree(FIXTURES, tmp_path, dirs_exist_ok=True)
    (tmp_path / "world").mkdir()
    for file in ("pretrain.jsonl", "sft.jsonl"):
        (tmp_path / file).rename(tmp_path / "world" / file)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(*argv):
    return main(["train", *map(str, argv), "--quiet"])


def assert_as_the_earlier_version(run, name):
    """All that does not depend on the speed of the machine, line by line."""
    wanted = [json.loads(line) for line in Path(f"{name}-resumed.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(wanted) == 6
    for line, expected in zip(metrics(run), wanted, strict=True):
        assert line.keys() == expected.keys()
        for key in EXACT & line.keys():
            assert line[key] == pytest.approx(expected[key], rel=1e-6), (line["step"], key)
        if "experts" in expected:
            assert line["experts"]["load"] == [pytest.approx(layer) for layer in expected["experts"]["load"]]
            assert line["experts"]["entropy"] == pytest.approx(expected["experts"]["entropy"])


@names
def test_it_is_resumed_by_the_command_of_today(place, name):
    assert train(*COMMANDS[name], "--budget.steps=6", "--out", name) == 0
    assert_as_the_earlier_version(place / name, name)


@names
def test_it_is_resumed_by_its_own_recipe(place, name):
    recipe = shutil.copy(f"{name}/recipe.yaml", "old.yaml")
    stage = COMMANDS[name][0]
    assert train(stage, "--recipe", recipe, "--budget.steps=6", "--out", name) == 0
    assert_as_the_earlier_version(place / name, name)


@pytest.mark.parametrize("name", ["dense", "moe"])
def test_its_recipe_begins_a_new_run(place, name):
    """With the old keys; its first three steps are those of the old run."""
    assert train("pretrain", "--recipe", f"{name}/recipe.yaml", "--out", "new") == 0
    found, wanted = ([line for line in metrics(Path(run)) if "loss" in line] for run in ("new", name))
    for key in ("loss", "grad_norm", "lr"):
        assert [line[key] for line in found] == pytest.approx([line[key] for line in wanted], rel=1e-6)
    written = yaml.safe_load(Path("new/recipe.yaml").read_text(encoding="utf-8"))
    old = yaml.safe_load(Path(f"{name}/recipe.yaml").read_text(encoding="utf-8"))
    assert "row_length" in old["batch"]
    assert written["batch"]["seq_len"] == old["batch"]["row_length"] == 64
    assert written["schedule"]["decay"] == old["schedule"]["cooldown"]
    assert written["schedule"]["min_lr_ratio"] == old["schedule"]["final"]
    assert written["activation_checkpointing"] is old["recompute"]
    assert written["init_from"] == old["start"]


def test_another_setting_under_its_old_name_is_still_another_setting(place, capsys):
    assert train("pretrain", "--recipe", "dense/recipe.yaml", "--schedule.min_lr_ratio=0.2", "--out", "dense") == 2
    assert "schedule.min_lr_ratio was 0.1, now 0.2" in capsys.readouterr().err


def test_runs_are_listed_and_shown(place, capsys):
    assert main(["runs", "list", ".", "--json"]) == 0
    listed = {run["name"]: run for run in json.loads(capsys.readouterr().out)}
    assert listed.keys() == COMMANDS.keys()
    assert {(run["status"], run["steps"]) for run in listed.values()} == {("finished", 3)}
    for name, command in COMMANDS.items():
        assert listed[name]["stage"] == command[0]
        assert main(["runs", "show", name]) == 0
        assert command[0] in capsys.readouterr().out
    assert main(["runs", "compare", "dense", "moe"]) == 0
    assert "activation_checkpointing" in capsys.readouterr().out


def test_its_model_loads_and_generates(place):
    model = minimind.Model("dense/model")
    assert model.predict("The", max_tokens=5, temperature=0)
    assert model.predict("The", max_tokens=5, temperature=0) == minimind.Model("dense").predict(
        "The", max_tokens=5, temperature=0
    )


@pytest.mark.parametrize(
    ("flag", "today"),
    [
        ("--batch.row_length=64", "batch.seq_len"),
        ("--schedule.cooldown=0.4", "schedule.decay"),
        ("--schedule.final=0.1", "schedule.min_lr_ratio"),
        ("--recompute=true", "activation_checkpointing"),
        ("--start=dense", "init_from"),
    ],
)
def test_an_old_key_as_a_flag_is_answered_with_the_new_one(place, capsys, flag, today):
    assert train(*PRETRAIN, flag, "--out", "new") == 2
    old = flag[2:].partition("=")[0]
    assert capsys.readouterr().err == f"error: unknown setting '{old}' (--{old}); it is called {today} here\n"
