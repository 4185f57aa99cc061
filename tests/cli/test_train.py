"""`minimind train` as typed: what it does, and one sentence for every mistake."""

import os
import re

import pytest
import yaml

from minimind.cli import main
from minimind.model import load_model
from minimind.stages import STAGES


@pytest.fixture
def refused(capsys):
    """`refused(argv)`: the one sentence with which a command is refused."""

    def sentence(argv):
        capsys.readouterr()
        assert main(argv) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("error: ")
        assert captured.err.count("\n") == 1
        assert captured.out == ""
        return captured.err.removeprefix("error: ").rstrip()

    return sentence


def without(argv, *flags):
    """The command without some flags and their values."""
    argv = list(argv)
    for flag in flags:
        at = argv.index(flag)
        del argv[at : at + 2]
    return argv


def test_help_lists_every_setting_with_its_text(capsys):
    assert main(["train", "pretrain", "--help"]) == 0
    page = capsys.readouterr().out
    for words in (
        "--optimizer.learning_rate",
        "about 0.02 for muon",
        "--recipe NAME|FILE",
        "examples:",
        "--dry-run",
    ):
        assert words in page
    assert main(["train", "sft", "--help"]) == 0
    assert "--batch.long_documents  split or truncate (default truncate)" in capsys.readouterr().out
    assert main(["train"]) == 2


def test_options_may_stand_before_the_stage(pretrain, tmp_path, capsys):
    argv = pretrain(tmp_path / "run")
    for first in (["--seed", "1"], ["--data", argv[argv.index("--data") + 1]], ["--dry-run"]):
        words = ["train", *first, "pretrain", *without(argv, *(flag for flag in first if flag == "--data"))[2:]]
        assert main([*words, "--dry-run"] if first != ["--dry-run"] else words) == 0
    assert "seed: 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"device": "meta"}, "device 'meta' cannot be used here"),
        ({"preset": ""}, "--preset needs a value"),
        ({"seed": -1}, "seed: expected a whole number from 0"),
        (
            {"model__num_hidden_layers": 100_000},
            "model.num_hidden_layers: expected a whole number from 1 to",
        ),
        (
            {"model__hidden_size": 2**16, "model__num_hidden_layers": 1000, "model__head_dim": 64},
            "GB of memory, and there are",
        ),
    ],
)
def test_what_no_machine_holds_is_refused_before_any_work(pretrain, tmp_path, refused, changes, sentence):
    assert sentence in refused(pretrain(tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_dry_run_shows_the_recipe_and_its_cost_and_makes_nothing(pretrain, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*pretrain(tmp_path / "run"), "--dry-run"]) == 0
    out = capsys.readouterr().out
    shown, _, table = out.partition("\nparameters")
    recipe = yaml.safe_load(shown)
    assert recipe["model"]["hidden_size"] == 32
    assert recipe["budget"]["steps"] == 12
    rows = dict(line.split(maxsplit=1) for line in ("parameters" + table).strip().splitlines())
    assert rows["steps"] == "12 of 8 sequences × 32 = 256 tokens"
    assert rows["documents"].startswith("1")
    assert re.match(r"about \d\.\d s here \([\d,]+ tokens/s\)", rows["time"])
    assert re.match(r"[\d.]+ [MG]B in the timed step, and up to [\d.]+ KB for the optimizer", rows["memory"])
    assert re.match(r"[\d.]+ KB a model", rows["disk"])
    assert not list(tmp_path.iterdir())


def test_dry_run_of_a_fine_tuning_counts_the_start_models_parameters(sft, base_model, tmp_path, capsys):
    assert main([*sft(tmp_path / "run"), "--dry-run"]) == 0
    size = sum(parameter.numel() for parameter in load_model(base_model).parameters())
    assert f"parameters  {size:,}" in capsys.readouterr().out


def test_a_recipe_file_and_flags_over_it(pretrain, tmp_path, capsys):
    file = tmp_path / "my.yaml"
    file.write_text("budget:\n  steps: 3\noptimizer:\n  name: adamw\n  weight_decay: 0.2\n")
    argv = without(pretrain(tmp_path / "run"), "--budget.steps")
    assert main([*argv, "--recipe", str(file), "--optimizer.weight_decay", "0.1"]) == 0
    written = yaml.safe_load((tmp_path / "run/recipe.yaml").read_text())
    assert written["budget"]["steps"] == 3
    assert (written["optimizer"]["name"], written["optimizer"]["weight_decay"]) == ("adamw", 0.1)
    # A run's own recipe makes the same run again.
    again = ["train", "pretrain", "--recipe", str(tmp_path / "run/recipe.yaml"), "--out", str(tmp_path / "again")]
    assert main(again) == 0
    models = [tmp_path / name / "model/model.safetensors" for name in ("run", "again")]
    assert models[0].read_bytes() == models[1].read_bytes()


def test_quiet_says_nothing(pretrain, tmp_path, capfd):
    assert main([*pretrain(tmp_path / "run", budget__steps=2), "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--dim", "512"], "unknown setting 'dim' (--dim); it is called model.hidden_size here"),
        (["--max_steps", "5"], "unknown setting 'max_steps' (--max_steps); it is called budget.steps here"),
        (
            ["--accumulation_steps", "8"],
            "unknown setting 'accumulation_steps' (--accumulation_steps); use",
        ),
        (
            ["--optimizer.learning_rat", "1"],
            "did you mean optimizer.learning_rate?",
        ),
        (["--optimizer.name", "lion"], "optimizer.name: expected muon or adamw or sgd, got 'lion'"),
        (["--budget.tokens", "1e6"], "give one budget, not budget.steps and budget.tokens"),
        (["--budget.minutes", "1"], "give one budget, not budget.steps and budget.minutes"),
        (
            ["--model.num_attention_heads", "5"],
            "32 is not a multiple of model.num_attention_heads 5",
        ),
        (["--model.vocab_size", "100"], "ids, more than model.vocab_size 100; raise that or train a smaller"),
        (["--checkpoint.keep", "0"], "checkpoint.keep: expected a whole number from 1 to"),
        (["--evaluation.holdout", "0.9"], "evaluation.holdout: expected a number from 0 to 0.5, got '0.9'"),
        (["--schedule.warmup", "0.6"], "schedule.warmup and schedule.decay together must not exceed 1"),
        (["--device", "tpu"], "device 'tpu' cannot be used here; try auto or cpu"),
        (["--recipe", "nothing"], "no recipe 'nothing'"),
        (["--preset", "nothing"], "no preset is called 'nothing'; there are tiny"),
        (["--tokenizer", "/no/such"], "/no/such/tokenizer.json does not exist"),
        (["--data", "/no/such.jsonl"], "/no/such.jsonl does not exist"),
        (["--batch.seq_len", "4"], "batch.seq_len: expected a whole number from 8 to 1,048,576, got '4'"),
    ],
)
def test_mistakes(pretrain, refused, tmp_path, flags, sentence):
    argv = pretrain(tmp_path / "run")
    if flags[0] in argv:
        argv = without(argv, flags[0])
    assert sentence in refused([*argv, *flags])
    assert not (tmp_path / "run").exists()


def test_a_step_that_is_no_number_of_sequences_is_answered_with_one_that_is(pretrain, refused, tmp_path):
    sentence = refused(pretrain(tmp_path / "run", batch__tokens_per_step=250))
    assert sentence == "batch.tokens_per_step 250 is not a multiple of batch.seq_len 32; 256 is"


def test_what_is_missing_is_named(pretrain, sft, refused, tmp_path):
    argv = pretrain(tmp_path / "run")
    assert "pretraining needs a tokenizer: train one with" in refused(without(argv, "--tokenizer"))
    assert refused(without(argv, "--data")) == "no data: name the files with --data FILE…"
    assert "sft starts from a model: name its directory with --from" in refused(
        without(sft(tmp_path / "run"), "--from")
    )
    assert refused(["train", "dance"]) == f"unknown stage 'dance'; known: {', '.join(STAGES)}"
    assert "holds no model" in refused([*without(sft(tmp_path / "run"), "--from"), "--from", str(tmp_path)])
    assert not (tmp_path / "run").exists()


def test_conversations_are_no_texts(pretrain, chat_file, refused, tmp_path):
    argv = [*without(pretrain(tmp_path / "run"), "--data"), "--data", str(chat_file)]
    assert f"no document is left of {chat_file}; the first: {chat_file}:1: " in refused(argv)


def test_a_recipe_of_another_stage(pretrain, refused, tmp_path):
    file = tmp_path / "sft.yaml"
    file.write_text("stage: sft\n")
    sentence = refused([*pretrain(tmp_path / "run"), "--recipe", str(file)])
    assert sentence == "the recipe is for the stage sft, not for pretrain"


def test_a_fine_tuning_takes_the_shape_and_tokenizer_of_its_model(sft, refused, tmp_path, tokenizer_directory):
    argv = sft(tmp_path / "run")
    assert "with --from the model's shape is that of" in refused([*argv, "--model.hidden_size", "64"])
    assert main([*argv, "--tokenizer", str(tokenizer_directory), "--dry-run"]) == 0
    other = tmp_path / "tokenizer"
    other.mkdir()
    for file in tokenizer_directory.iterdir():
        (other / file.name).write_text(file.read_text().replace("assistant", "helper"))
    assert "is not that of" in refused([*argv, "--tokenizer", str(other)])


def test_a_directory_with_other_things_is_left_alone(pretrain, refused, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/thesis.tex").write_text("years of work")
    sentence = refused(pretrain(tmp_path / "run"))
    assert sentence == f"{tmp_path}/run is not empty and is no run; choose another --out"
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.tex"]


def test_all_documents_held_out(pretrain, refused, tmp_path):
    file = tmp_path / "one.jsonl"
    file.write_text('{"text": "one short text"}\n')
    argv = [*without(pretrain(tmp_path / "run", evaluation__holdout=0.5), "--data"), "--data", str(file)]
    sentences = set()
    for seed in range(8):
        argv_with_seed = [*argv, "--seed", str(seed), "--dry-run"]
        if main(argv_with_seed) == 2:
            sentences.add(refused(argv_with_seed))
    assert sentences == {"all 1 documents are held out; lower evaluation.holdout or add data"}


def test_a_name_that_is_no_text_is_refused_before_anything_is_written(pretrain, tmp_path, refused):
    out = tmp_path / os.fsdecode(b"run\xe9")
    assert "is not UTF-8; choose another" in refused(pretrain(out))
    assert list(tmp_path.iterdir()) == []
