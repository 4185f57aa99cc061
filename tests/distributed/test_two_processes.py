"""Two processes, each with its half of every step's sequences, train like one."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from tests.helpers import (
    SETTINGS,
    assert_same_run,
    evaluations,
    flags,
    free_port,
    last_checkpoint,
    losses,
    metrics,
    start,
    texts,
    weights,
    write_jsonl,
)

from minimind.cli import main

# A step that is one rounding error away from another grows apart only slowly with small rates.
CHANGES = {"optimizer__learning_rate": 0.005, "budget__steps": 6, "evaluation__every": 3}


def start_two(argv, tmp_path):
    """What torchrun starts: the same command twice, each told its rank."""
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    ranks = [common | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in (0, 1)]
    return [start(argv, tmp_path / f"log-{env['RANK']}", environment=env) for env in ranks]


def wait_for(processes):
    for process in processes:
        process.join(200)
    return [process.exitcode for process in processes]


def train_alone_and_as_two(command, tmp_path, **changes):
    """Train by a stage's command in one process and in two; what they did, which is the same."""
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(command(one, **changes)) == 0
    assert wait_for(start_two(command(two, **changes), tmp_path)) == [0, 0], (tmp_path / "log-0").read_text()
    assert_like_one_process(two, one)
    return one, two


def assert_like_one_process(two, one, near_zero=0.0):
    """`near_zero`: how far losses may be apart whose terms are of size 1 and cancel."""
    assert losses(two) == pytest.approx(losses(one), rel=1e-5, abs=near_zero)
    assert losses(two, "grad_norm") == pytest.approx(losses(one, "grad_norm"), rel=1e-5)
    wanted, found = weights(one / "model"), weights(two / "model")
    for name in wanted:
        assert (found[name] - wanted[name]).abs().max() <= 1e-5 * wanted[name].abs().max(), name
    for line, other in zip(evaluations(two), evaluations(one), strict=True):
        assert line["eval"] == pytest.approx(other["eval"], rel=1e-5, abs=1e-6)  # a margin is a difference
    counts = [[line["tokens"] for line in metrics(run)] for run in (two, one)]
    assert counts[0] == counts[1]


def test_pretraining_under_torchrun(pretrain, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(pretrain(one, **CHANGES)) == 0
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        free_port(),
    ]
    done = subprocess.run(
        [*launcher, "-m", "minimind", *pretrain(two, **CHANGES)], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert_like_one_process(two, one)
    assert done.stderr.count("done: the model is in") == 1
    assert done.stderr.count("step 6/6") == 1


def test_fine_tuning_with_uneven_numbers_of_trained_tokens(sft, tmp_path):
    """In two micro-batches a process, with an optimizer to which the size of a gradient matters."""
    changes = CHANGES | {"batch__micro_batch_tokens": 64, "optimizer__name": "sgd", "optimizer__grad_clip": 0}
    train_alone_and_as_two(sft, tmp_path, **changes)


def test_preferences_with_fewer_held_out_batches_than_processes(base_model, tmp_path):
    """A process that has no batch to evaluate knows the scores all the same, and when patience is at its end."""
    asked = [[{"role": "user", "content": text}] for text in texts(60, longest=6)]
    answers = [[{"role": "assistant", "content": text}] for text in texts(120, seed=1, longest=12)]
    pairs = [{"chosen": q + a, "rejected": q + b} for q, a, b in zip(asked, answers[::2], answers[1::2])]
    file = write_jsonl(tmp_path / "pairs.jsonl", pairs)
    changes = {name: None for name in SETTINGS if name.startswith("model.")} | CHANGES
    changes |= {"batch__seq_len": 128, "batch__micro_batch_tokens": 1024, "batch__tokens_per_step": 1024}
    changes |= {"budget__steps": 30, "evaluation__patience": 1, "evaluation__max_tokens": 150}
    runs = tmp_path / "one", tmp_path / "two"
    one, two = (
        ["train", "dpo", "--data", str(file), "--from", str(base_model), "--out", str(run), *flags(**changes)]
        for run in runs
    )
    assert main(one) == 0
    assert wait_for(start_two(two, tmp_path)) == [0, 0], (tmp_path / "log-0").read_text()
    assert_like_one_process(runs[1], runs[0])
    assert 1 < len(evaluations(runs[0])) < 10


@pytest.mark.parametrize("balance", ["document", "bias"])
def test_experts_that_one_process_never_chooses(pretrain, tmp_path, balance):
    """One process's sequences leave experts without tokens; counts and gradients are those of the whole step."""
    changes = CHANGES | {"model__model_type": "glm4_moe", "model__num_experts": 32, "model__num_experts_per_tok": 1}
    changes |= {"model__n_shared_experts": 1, "model__moe_intermediate_size": 32}
    changes |= {"router__balance": balance, "router__bias_rate": 0.01, "batch__tokens_per_step": 64}
    changes |= {"optimizer__name": "sgd", "optimizer__learning_rate": 0.02, "optimizer__grad_clip": 0}
    one, two = train_alone_and_as_two(pretrain, tmp_path, **changes)
    for line, other in zip(metrics(two), metrics(one), strict=True):
        if "experts" in line:
            assert line["experts"] == other["experts"] | {"entropy": pytest.approx(other["experts"]["entropy"])}
    assert any(0 in load for line in metrics(one) if "experts" in line for load in line["experts"]["load"])


def test_one_signal_stops_both_and_the_same_command_continues(pretrain, tmp_path):
    changes = {"budget__steps": 40, "checkpoint__every": None, "evaluation__every": 7}
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert wait_for(start_two(pretrain(whole, **changes), tmp_path)) == [0, 0]
    processes = start_two(pretrain(run, **changes), tmp_path)
    while not (run / "metrics.jsonl").exists() or len(metrics(run)) < 4:
        assert all(process.is_alive() for process in processes)
        time.sleep(0.01)
    os.kill(processes[1].pid, signal.SIGTERM)
    assert wait_for(processes) == [143, 143]
    step = json.loads((run / "state.json").read_text())["step"]
    assert 0 < step < 40
    assert last_checkpoint(run).name == f"step-{step:07d}"
    assert wait_for(start_two(pretrain(run, **changes), tmp_path)) == [0, 0]
    assert_same_run(run, whole)


def test_sequences_that_cannot_be_shared_are_refused(pretrain, tmp_path):
    codes = wait_for(start_two(pretrain(tmp_path / "run", batch__tokens_per_step=96), tmp_path))
    assert codes == [2, 2]
    said = (tmp_path / "log-0").read_text()
    assert "error: 3 sequences per step cannot be shared equally by 2 processes" in said
    assert "Traceback" not in said


def test_a_refusal_is_said_once(pretrain, tmp_path):
    """Only the first process looks at the run directory."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/thesis.tex").write_text("years of work")
    codes = wait_for(start_two(pretrain(tmp_path / "run"), tmp_path))
    first, second = ((tmp_path / f"log-{rank}").read_text() for rank in (0, 1))
    assert first == f"error: {tmp_path}/run is not empty and is no run; choose another --out\n"
    assert second == "error: another process of this training has ended; it said why\n"
    assert codes == [2, 1]


def test_processes_begin_with_the_same_weights(tmp_path):
    """Nothing but the recipe's seed decides them; DDP would hide a difference by sending the first one's."""
    from minimind.model import ModelConfig, Transformer

    shape = ModelConfig(vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    torch.manual_seed(1)
    first = Transformer(shape, 3).state_dict()
    torch.manual_seed(2)
    second = Transformer(shape, 3).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
