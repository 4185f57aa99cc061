"""`minimind quickstart`: the whole chain, in a size of seconds."""

import json
import os
import shutil
import signal

import pytest

from minimind import quickstart
from minimind.cli import main
from minimind.train.trainer import Trainer

STEPS = ("--budget.tokens", "8192", "--compile", "false", "--evaluation.max_tokens", "2000")


@pytest.fixture
def small(monkeypatch):
    size = quickstart.Size(
        pretrain_bytes=150_000,
        conversations=300,
        vocab_size=1000,
        questions_per_skill=2,
        pretrain_flags=STEPS,
        sft_flags=STEPS,
        rl_flags=("--compile", "false", "--budget.steps", "3", "--rl.prompts", "2", "--rl.questions", "4"),
    )
    monkeypatch.setattr(quickstart, "SMOKE", size)


def model_bytes(out, *names):
    return [(out / name / "model/model.safetensors").read_bytes() for name in names or ("base", "chat")]


def test_the_whole_chain_and_again(small, tmp_path, capsys):
    out = tmp_path / "quick"
    assert main(["quickstart", "--smoke", "--out", str(out)]) == 0
    said = capsys.readouterr()
    for word in ("tokens/s", "bits/byte", "arithmetic", "mean", "assistant:", f"minimind chat {out / 'chat'}"):
        assert word in said.out, word
    for part in ("[1/6]", "[2/6]", "[3/6] pretrain", "[4/6]", "[5/6] sft", "[6/6]"):
        assert part in said.err
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert [stage["stage"] for stage in results["stages"]] == ["pretrain", "sft"]
    assert all(len(stage["skills"]["skills"]) == 8 for stage in results["stages"])
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") >= 4
    assert "arithmetic" in page

    before = model_bytes(out)
    assert main(["quickstart", "--smoke", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["stages"] == results["stages"]  # nothing was done again
    assert model_bytes(out) == before


def test_stopped_and_continued_it_ends_with_the_same_bits(small, tmp_path, monkeypatch, capsys):
    assert main(["quickstart", "--smoke", "--out", str(tmp_path / "whole")]) == 0
    step = Trainer.train_step

    def step_and_interrupt(self, batch):
        step(self, batch)
        if self.progress.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Trainer, "train_step", step_and_interrupt)
    halves = ["quickstart", "--smoke", "--out", str(tmp_path / "halves")]
    for _ in ("pretrain", "sft"):  # each training is interrupted once, at its second step
        capsys.readouterr()
        assert main(halves) == 130
        assert "the same command again goes on" in capsys.readouterr().err
    monkeypatch.setattr(Trainer, "train_step", step)
    assert main(halves) == 0
    assert model_bytes(tmp_path / "halves") == model_bytes(tmp_path / "whole")


def test_reinforcement_learning_goes_on_from_the_chat_model(small, tmp_path, monkeypatch, capsys):
    """Also that of a quickstart without it; stopped and continued as the other trainings are."""
    out = tmp_path / "quick"
    command = ["quickstart", "--smoke", "--out", str(out)]
    assert main(command) == 0
    plain, before = json.loads((out / "results.json").read_text(encoding="utf-8")), model_bytes(out)
    capsys.readouterr()
    assert main([*command, "--rl"]) == 0
    whole = model_bytes(out, "rl")
    said = capsys.readouterr()
    for word in ("[7/8] grpo", "step 3/3", "[8/8]"):
        assert word in said.err
    for word in ("95% interval", "Reinforcement learning took stopping from ", f"minimind chat {out / 'rl'}"):
        assert word in said.out.replace("\n", " "), word

    step = Trainer.train_step

    def step_and_interrupt(self, batch):
        step(self, batch)
        if self.progress.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    shutil.rmtree(out / "rl")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", step_and_interrupt)
        assert main([*command, "--rl"]) == 130
    assert main([*command, "--rl"]) == 0
    assert model_bytes(out) == before
    assert model_bytes(out, "rl") == whole != model_bytes(out, "chat")

    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert results["stages"][:2] == plain["stages"]
    assert [stage["stage"] for stage in results["stages"]] == ["pretrain", "sft", "grpo"]
    for name, change in results["rl"]["skills"].items():
        scores = [stage["skills"]["skills"].get(name, stage["skills"]["macro"]) for stage in results["stages"][1:]]
        assert [score["accuracy"] for score in scores] == pytest.approx([change["before"], change["after"]])
        assert change["low"] <= change["difference"] <= change["high"]
    page = (out / "report.html").read_text(encoding="utf-8")
    for part in ("What reinforcement learning changed", "Answers while it learned", "Curves: rl", "Held-out score"):
        assert part in page


def test_another_seed_needs_another_directory(small, tmp_path, capsys):
    out = ["quickstart", "--smoke", "--out", str(tmp_path / "quick")]
    assert main(out) == 0
    capsys.readouterr()
    assert main([*out, "--seed", "1"]) == 2
    assert "another recipe (" in capsys.readouterr().err


def test_a_file_in_the_place_of_a_directory_is_one_sentence(small, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("mine")
    for command in (["quickstart", "--smoke"], ["data", "world"]):
        assert main([*command, "--out", str(file)]) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith(f"error: {file}")
        assert said.endswith("; choose another path")
    assert file.read_text() == "mine"
