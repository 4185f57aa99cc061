"""A training that is killed, stopped or damaged, and resumed, ends as if nothing had happened, bit for bit."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from tests.helpers import (
    assert_equal_trees,
    assert_same_run,
    evaluations,
    last_checkpoint,
    losses,
    metrics,
    start,
    start_function,
)

from minimind.cli import main
from minimind.train.trainer import Trainer

STEPS = 24


def wait_until(condition, process=None, seconds=200):
    """Wait for a condition; also over when the process has ended."""
    end = time.monotonic() + seconds
    while not condition() and (process is None or process.is_alive()):
        assert time.monotonic() < end
        time.sleep(0.002)


def run_to_the_end(argv, log):
    process = start(argv, log)
    process.join(200)
    assert process.exitcode == 0, log.read_text()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The finished run of each command, made once."""
    made = {}

    def finished(command, **changes):
        key = (command.__qualname__, *sorted(changes.items()))
        if key not in made:
            made[key] = tmp_path_factory.mktemp("uninterrupted") / "run"
            assert main(command(made[key], **changes)) == 0
        return made[key]

    return finished


def test_killed_at_random_instants(pretrain, tmp_path, uninterrupted):
    """With evaluation and samples, and a checkpoint every second step, so that many kills hit one being written.

    A life is measured in steps, not in seconds: the test asks the same of a slow machine and of a fast one.
    """
    changes = {"budget__steps": STEPS, "checkpoint__every": 2, "evaluation__every": 5, "evaluation__samples": 1}
    run, log = tmp_path / "run", tmp_path / "log"
    lock, file = run / "lock", run / "metrics.jsonl"

    def lines():
        return file.read_bytes().count(b"\n") if file.exists() else 0

    draw, kills, inside = random.Random(0), 0, 0
    while True:
        before = lines()
        process = start(pretrain(run, **changes), log)
        wait_until(lambda pid=process.pid: lock.exists() and lock.read_text() == str(pid), process)
        if kills % 2:  # while a checkpoint is written
            wait_until(lambda: any((run / "checkpoints").glob("*.partial")), process)
            time.sleep(draw.uniform(0, 0.004))
        else:  # some steps further, or before the first
            goal = before + draw.randint(-2, 4)
            wait_until(lambda goal=goal: lines() >= goal, process)
            time.sleep(draw.uniform(0, 0.01))
        if kills == 9:
            process.join(200)
        else:
            process.kill()
            process.join()
            inside += any((run / "checkpoints").glob("*.partial"))
            kills += 1
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL, log.read_text()
    assert kills >= 4
    assert inside >= 1
    assert_same_run(run, uninterrupted(pretrain, **changes))
    names = sorted(path.name for path in run.iterdir())
    assert names == sorted(path.name for path in uninterrupted(pretrain, **changes).iterdir())
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == ["step-0000022", "step-0000024"]


def test_killed_at_operations_on_files(sft, tmp_path, uninterrupted):
    """Each attempt dies at another operation: a rename, a new file, a removal."""
    changes = {"budget__steps": 16, "checkpoint__every": 2, "evaluation__every": 2, "checkpoint__keep": 1}
    run, log = tmp_path / "run", tmp_path / "log"
    draw, kills = random.Random(1), 0
    while True:
        process = start(sft(run, **changes), log, die_at=draw.randint(1, 100) if kills < 12 else None)
        process.join(200)
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL, log.read_text()
        kills += 1
    assert kills >= 6
    assert_same_run(run, uninterrupted(sft, **changes))


def train_until_killed(argv, step):
    """The command, killed after that step was computed and before anything is written of it."""
    train_step = Trainer.train_step

    def killed(trainer, batch):
        train_step(trainer, batch)
        if trainer.progress.step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    Trainer.train_step = killed
    main(argv)


@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        ("sft", {"lora__rank": 4, "lora__dropout": 0.1}),
        ("reason", {}),
        ("dpo", {}),
        ("dpo", {"dpo__loss": "kto"}),
        ("reward", {"lora__rank": 4}),
        ("distill", {"distill__on_policy": 0.5}),
        ("distill", {"distill__cache": "true", "distill__top_k": 5}),
    ],
)
def test_each_way_of_teaching_killed_in_its_middle(request, tmp_path, stage, changes):
    command, run, whole = request.getfixturevalue(stage), tmp_path / "run", tmp_path / "whole"
    changes = {"budget__steps": 8, "checkpoint__every": 3, "evaluation__every": 4, **changes}
    assert main(command(whole, **changes)) == 0
    process = start_function(train_until_killed, command(run, **changes), 5, log=tmp_path / "log")
    process.join(200)
    assert process.exitcode == -signal.SIGKILL, (tmp_path / "log").read_text()
    assert last_checkpoint(run).name == "step-0000003"
    assert main(command(run, **changes)) == 0
    assert_same_run(run, whole)


def test_ctrl_c_saves_and_says_how_to_go_on(pretrain, tmp_path, uninterrupted):
    """A real command, as typed."""
    changes = {"budget__steps": STEPS, "checkpoint__every": None}
    run = tmp_path / "run"
    command = [sys.executable, "-m", "minimind", *pretrain(run, **changes)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: (run / "metrics.jsonl").exists() and len(metrics(run)) > 3)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=200)
    assert process.returncode == 130, said
    assert_stopped_and_continued(run, said, pretrain(run, **changes), uninterrupted(pretrain, **changes))


def test_sigterm_saves_and_says_how_to_go_on(sft, tmp_path, uninterrupted):
    changes = {"budget__steps": STEPS, "checkpoint__every": None, "evaluation__every": 3}
    run, log = tmp_path / "run", tmp_path / "log"
    process = start(sft(run, **changes), log)
    wait_until(lambda: (run / "metrics.jsonl").exists() and len(metrics(run)) > 3, process)
    os.kill(process.pid, signal.SIGTERM)
    process.join(200)
    assert process.exitcode == 143, log.read_text()
    assert_stopped_and_continued(run, log.read_text(), sft(run, **changes), uninterrupted(sft, **changes))


def assert_stopped_and_continued(run, said, command, whole):
    state = json.loads((run / "state.json").read_text())
    assert state["status"] == "stopped"
    assert 0 < state["step"] < STEPS
    assert said.splitlines()[-1] == f"saved at step {state['step']}; the same command again continues"
    assert last_checkpoint(run).name == f"step-{state['step']:07d}"
    assert main(command) == 0
    assert_same_run(run, whole)


def test_a_second_ctrl_c_stops_at_once(pretrain, tmp_path, monkeypatch, uninterrupted):
    run, original = tmp_path / "run", Trainer.train_step

    def twice(self, batch):
        original(self, batch)
        if self.progress.step == 6:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", twice)
        assert main(pretrain(run, budget__steps=STEPS)) == 130
    assert last_checkpoint(run).name == "step-0000004"
    assert json.loads((run / "state.json").read_text())["status"] == "interrupted"
    assert main(pretrain(run, budget__steps=STEPS)) == 0
    assert_same_run(run, uninterrupted(pretrain, budget__steps=STEPS))


@pytest.mark.slow
def test_compiled_blocks_resume_exactly(pretrain, tmp_path, uninterrupted):
    changes = {"compile": "true", "budget__steps": 8}
    run, log = tmp_path / "run", tmp_path / "log"
    whole = uninterrupted(pretrain, **changes)
    process = start(pretrain(run, **changes), log)
    wait_until(lambda: (run / "checkpoints/step-0000004").exists(), process)
    process.kill()
    process.join()
    run_to_the_end(pretrain(run, **changes), log)
    assert "resuming from step 4" in log.read_text()
    assert_same_run(run, whole)
    assert json.loads((run / "state.json").read_text())["compiled"]


def test_a_run_can_be_extended(pretrain, tmp_path, capsys):
    """And a finished one is not trained on by the same command."""
    run = tmp_path / "run"
    assert main(pretrain(run, budget__steps=8)) == 0
    before = (run / "model/model.safetensors").read_bytes()
    first = losses(run)
    capsys.readouterr()
    assert main(pretrain(run, budget__steps=8)) == 0
    assert "this run is finished; to train on, use the same command with a larger budget" in capsys.readouterr().err
    assert (run / "model/model.safetensors").read_bytes() == before
    assert losses(run) == first
    assert main(pretrain(run, budget__steps=12)) == 0
    assert losses(run)[:8] == first
    assert len(losses(run)) == 12
    assert (run / "model/model.safetensors").read_bytes() != before


def test_a_model_lost_in_a_kill_is_written_again(pretrain, tmp_path, uninterrupted):
    run = tmp_path / "run"
    shutil.copytree(uninterrupted(pretrain), run)
    shutil.rmtree(run / "model")
    assert main(pretrain(run)) == 0
    assert_same_run(run, uninterrupted(pretrain))


def test_another_recipe_is_refused(pretrain, tmp_path, uninterrupted, capsys):
    run = tmp_path / "run"
    shutil.copytree(uninterrupted(pretrain), run)
    capsys.readouterr()
    changes = {"optimizer__learning_rate": 0.5, "optimizer__embedding_learning_rate": 0.006, "seed": 3}
    assert main(pretrain(run, **changes)) == 2
    assert capsys.readouterr().err == (
        f"error: {run} is a run with another recipe (optimizer.learning_rate was 0.02, now 0.5; "
        "seed was 0, now 3); use its recipe or another --out\n"
    )
    changes = {"log_every": 5, "checkpoint__keep": 3, "batch__micro_batch_tokens": 64, "evaluation__every": 3}
    assert main(pretrain(run, **changes)) == 0


def test_other_data_are_refused(pretrain, tmp_path, corpus, capsys):
    file = tmp_path / "texts.jsonl"
    shutil.copy(corpus, file)
    argv = pretrain(tmp_path / "run", budget__steps=2)
    argv[argv.index(str(corpus))] = str(file)
    assert main(argv) == 0
    file.write_text(file.read_text() + json.dumps({"text": "something new"}) + "\n")
    capsys.readouterr()
    assert main(argv) == 2
    assert "has changed since it began; restore it or use another --out" in capsys.readouterr().err


def test_renamed_data_are_the_same_data(pretrain, tmp_path, corpus, tokenizer_directory, monkeypatch, capsys):
    file = tmp_path / "texts.jsonl"
    shutil.copy(corpus, file)
    monkeypatch.chdir(tmp_path)
    argv = pretrain(tmp_path / "run", budget__steps=3)
    argv[argv.index(str(corpus))] = "texts.jsonl"
    assert main(argv) == 0
    file.rename(tmp_path / "renamed.jsonl")
    argv[argv.index("texts.jsonl")] = "./renamed.jsonl"
    argv[argv.index(str(tokenizer_directory))] = f"{tokenizer_directory}/../{tokenizer_directory.name}"
    argv[argv.index("3")] = "6"
    assert main(argv) == 0
    for steps in (3, 6):
        assert main(pretrain(tmp_path / "as_named", budget__steps=steps)) == 0
    assert losses(tmp_path / "run") == losses(tmp_path / "as_named")


class TestDamage:
    """A run of which every checkpoint so far was kept."""

    @pytest.fixture
    def run(self, pretrain, tmp_path, uninterrupted):
        run = tmp_path / "run"
        shutil.copytree(uninterrupted(pretrain, checkpoint__keep=9), run)
        shutil.rmtree(run / "model")
        return run

    @pytest.mark.parametrize("name", ["model.safetensors", "training.pt", "progress.json", "config.json"])
    def test_the_one_before_is_used(self, run, pretrain, uninterrupted, capsys, name):
        file = last_checkpoint(run) / name
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        assert main(pretrain(run, checkpoint__keep=9)) == 0
        said = capsys.readouterr().err
        assert f"{file.parent} is damaged: " in said
        assert name in said
        assert "resuming from an earlier one" in said
        assert "resuming from step 8" in said
        shutil.rmtree(run / "checkpoints/step-0000012.damaged")
        assert_same_run(run, uninterrupted(pretrain, checkpoint__keep=9))

    def test_a_missing_file_is_damage(self, run, pretrain, uninterrupted):
        (last_checkpoint(run) / "training.pt").unlink()
        assert main(pretrain(run, checkpoint__keep=1)) == 0
        assert_same_run(run, uninterrupted(pretrain, checkpoint__keep=9))
        assert [path.name for path in (run / "checkpoints").glob("step-???????")] == ["step-0000012"]

    def test_without_a_whole_one_nothing_is_started_over(self, run, pretrain, capsys):
        for path in (run / "checkpoints").iterdir():
            (path / "training.pt").write_bytes(b"")
        before = (run / "metrics.jsonl").read_bytes()
        assert main(pretrain(run, checkpoint__keep=9)) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: {run}/checkpoints/step-0000012 is damaged: training.pt has 0 bytes")
        assert "no other checkpoint is whole" in said
        assert said.count("\n") == 1
        assert (run / "metrics.jsonl").read_bytes() == before

    def test_a_cut_last_line_of_metrics(self, run, pretrain, uninterrupted):
        shutil.rmtree(last_checkpoint(run))
        file = run / "metrics.jsonl"
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(lines[:-2]) + lines[-2][:20])
        assert main(pretrain(run, checkpoint__keep=9)) == 0
        assert_same_run(run, uninterrupted(pretrain, checkpoint__keep=9))

    @pytest.mark.parametrize("name", ["metrics.jsonl", "samples.jsonl"])
    @pytest.mark.parametrize("end", [b"\xe5\xb1", b'{"step": 9, "text": "\xe5', b"\0\0\0\0", b'{"step": 99}'])
    def test_lines_that_end_inside_a_character(self, run, pretrain, uninterrupted, capsys, name, end):
        """As a power cut leaves them."""
        file = run / name
        file.write_bytes(file.read_bytes() + end)
        assert main(pretrain(run, checkpoint__keep=9)) == 0
        assert f"{file} ends inside a line, which was dropped" in capsys.readouterr().err
        assert_same_run(run, uninterrupted(pretrain, checkpoint__keep=9))

    def test_lines_that_are_damaged_or_gone_are_said(self, run, pretrain, capsys):
        file = run / "metrics.jsonl"
        before = file.read_bytes()
        lines = before.split(b"\n")
        for changed, said in (
            ([*lines[:3], lines[3][:5], *lines[4:]], "1 damaged lines were dropped"),
            (lines[:-3] + lines[-1:], "is not what was written up to step 12"),
            ([lines[0].replace(b"0", b"1"), *lines[1:]], "is not what was written up to step 12"),
        ):
            file.write_bytes(b"\n".join(changed))
            assert main(pretrain(run, checkpoint__keep=9)) == 0
            assert said in capsys.readouterr().err
        file.write_bytes(before)
        assert main(pretrain(run, checkpoint__keep=9)) == 0
        assert str(file) not in capsys.readouterr().err

    @pytest.mark.parametrize(
        "link", ["checkpoints/step-0000004", "checkpoints/step-0000011.partial", "model", "best", "model.partial"]
    )
    def test_a_link_is_not_followed(self, run, pretrain, tmp_path, capsys, link):
        kept = tmp_path / "kept"
        kept.mkdir()
        (kept / "thesis.tex").write_text("years of work")
        shutil.rmtree(run / link, ignore_errors=True)
        (run / link).symlink_to(kept)
        assert main(pretrain(run, checkpoint__keep=1)) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith(f"error: {run / link} is a symbolic link, which is not followed here")
        assert (kept / "thesis.tex").read_text() == "years of work"
        assert (run / link).is_symlink()
        (run / link).unlink()
        assert main(pretrain(run, checkpoint__keep=1)) == 0


def test_what_a_kill_left_is_removed(pretrain, tmp_path, uninterrupted):
    run = tmp_path / "run"
    shutil.copytree(uninterrupted(pretrain), run)
    for left in ("checkpoints/step-0000011.partial", "best.old.partial", "model.partial"):
        (run / left).mkdir()
    (run / "state.json.4711.partial").write_text("{")
    assert main(pretrain(run)) == 0
    assert not list(run.rglob("*.partial"))


def test_two_trainings_never_share_a_run(pretrain, tmp_path, capsys):
    run, log = tmp_path / "run", tmp_path / "log"
    process = start(pretrain(run, budget__steps=5000), log)
    wait_until(lambda: (run / "metrics.jsonl").exists() and len(metrics(run)) > 3, process)
    assert main(pretrain(run, budget__steps=5000)) == 2
    said = capsys.readouterr().err
    assert f"{run} is being trained right now by process {process.pid}" in said
    process.kill()
    process.join()
    assert main(pretrain(run, budget__steps=len(metrics(run)) + 4)) == 0
    assert losses(run)


def test_evaluation_and_samples_leave_no_trace_in_a_training(pretrain, tmp_path, uninterrupted):
    often, never = tmp_path / "often", uninterrupted(pretrain)
    assert main(pretrain(often, evaluation__every=2, evaluation__samples=2)) == 0
    assert losses(often) == losses(never)
    assert len(evaluations(often)) > len(evaluations(never))
    assert len((often / "samples.jsonl").read_text().splitlines()) == 12
    for name in ("model/model.safetensors", "checkpoints/step-0000012/model.safetensors"):
        assert (often / name).read_bytes() == (never / name).read_bytes()
    states = [torch.load(last_checkpoint(run) / "training.pt", weights_only=True) for run in (often, never)]
    assert_equal_trees(*states)
