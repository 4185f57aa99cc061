"""Budgets, evaluation, and what a run directory holds."""

import json
import math
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tests.helpers import (
    assert_same_run,
    evaluations,
    last_checkpoint,
    losses,
    make_trainer,
    metrics,
    weights,
)

from minimind import config
from minimind.cli import main
from minimind.commands.dry_run import forecast
from minimind.data.batches.loader import sequential_batches
from minimind.eval.perplexity import NLL
from minimind.model import load_model
from minimind.optim.schedule import lr_multiplier
from minimind.recipe import Recipe
from minimind.train import budget
from minimind.train.evaluation import HeldOutNLL
from minimind.train.trainer import Trainer


def progress(run):
    return json.loads((last_checkpoint(run) / "progress.json").read_text())


def test_samples_answer_the_same_held_out_prompts_at_every_evaluation(pretrain, tmp_path):
    run = tmp_path / "run"
    assert main(pretrain(run, budget__steps=4, evaluation__every=2, evaluation__samples=3)) == 0
    lines = [json.loads(line) for line in (run / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines] == [2, 2, 2, 4, 4, 4]
    asked = [line["conversations"][0]["content"] for line in lines]
    assert asked[:3] == asked[3:]
    assert len(set(asked[:3])) == 3
    assert all(line["conversations"][1]["role"] == "assistant" for line in lines)


def test_questions_longer_than_the_context_are_no_samples(sft, base_model, tmp_path):
    """They are trained on, cut to a sequence, but there is no room for an answer; the run goes on without them."""
    narrow = tmp_path / "narrow"
    shutil.copytree(base_model, narrow)
    shape = json.loads((narrow / "config.json").read_text())
    (narrow / "config.json").write_text(json.dumps({**shape, "max_position_embeddings": 8}))
    assert main([*sft(tmp_path / "run", budget__steps=2), "--from", str(narrow)]) == 0
    assert (tmp_path / "run/samples.jsonl").read_text() == ""


def test_a_run_directory(pretrain, corpus, tokenizer_directory, tmp_path):
    run, argv = tmp_path / "run", pretrain(tmp_path / "run", evaluation__every=4)
    assert main(argv) == 0
    assert {path.name for path in run.iterdir()} == {
        "best", "checkpoints", "data.json", "environment.json", "lock", "metrics.jsonl", "model", "recipe.yaml",
        "samples.jsonl", "state.json",
    }  # fmt: skip
    state = json.loads((run / "state.json").read_text())
    assert state["stage"] == "pretrain"
    assert state["status"] == "finished"
    assert state["step"] == state["total_steps"] == 12
    assert state["started"] < state["ended"] < time.time()
    assert state["tokens"] == metrics(run)[-1]["tokens"]

    recipe = config.load(Recipe, files=[run / "recipe.yaml"])
    assert (recipe.stage, recipe.data, recipe.tokenizer) == ("pretrain", [str(corpus)], str(tokenizer_directory))
    assert (recipe.budget.steps, recipe.optimizer.name, recipe.model.hidden_size) == (12, "muon", 32)
    written = yaml.safe_load((run / "recipe.yaml").read_text())
    assert written["model"]["vocab_size"] == load_model(run / "model").config.vocab_size

    environment = json.loads((run / "environment.json").read_text())
    assert environment["torch"] == torch.__version__
    assert environment["threads"] == torch.get_num_threads()
    assert {"minimind", "command", "python", "platform", "processor", "cpu_capability"} <= environment.keys()
    data = json.loads((run / "data.json").read_text())
    assert (data["sources"], data["documents"], len(data["fingerprint"])) == ([str(corpus)], 200, 64)

    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == ["step-0000008", "step-0000012"]
    assert (run / "model/model.safetensors").read_bytes() == (
        last_checkpoint(run) / "model.safetensors"
    ).read_bytes()
    for directory in ("model", "best", "checkpoints/step-0000012"):
        names = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
        assert names <= {path.name for path in (run / directory).iterdir()}


def test_the_lines_of_metrics(pretrain, tmp_path):
    run = tmp_path / "run"
    assert main(pretrain(run, log_every=3, budget__steps=8, evaluation__every=6)) == 0
    trainer = make_trainer(pretrain(tmp_path / "probe"))
    lines = [line for line in metrics(run) if "eval" not in line]
    assert [line["step"] for line in lines] == [3, 4, 6, 8]  # also where a checkpoint or evaluation is due
    batches = [trainer.source.step(k) for k in range(8)]
    read = np.cumsum([0] + [int((batch.documents >= 0).sum()) for batch in batches])
    for line, since in zip(lines, (0, 3, 4, 6)):
        step = line["step"]
        assert line["tokens"] == read[step]
        assert line["padding"] == pytest.approx(1 - (read[step] - read[since]) / (256 * (step - since)))
        assert line["lr"] == pytest.approx(0.02 * lr_multiplier(trainer.recipe.schedule, step - 1, 8))
        assert line["epoch"] == pytest.approx(step * 8 / trainer.source.sequences_per_epoch)
        assert 3 < line["loss"] < 7
        assert line["grad_norm"] > 0
        assert line["tokens_per_second"] > 0
        assert 0 < line["mfu"] < 1
        assert 0 <= line["data_time"] < 1
        assert line["memory_gb"] > 0.1
    assert [line["step"] for line in evaluations(run)] == [0, 6, 8]
    assert evaluations(run)[0]["eval"]["loss"] == pytest.approx(math.log(trainer.model.config.vocab_size), rel=0.02)


@pytest.mark.parametrize(
    ("budget", "steps"),
    [({"tokens": 2000}, 8), ({"tokens": 100}, 1), ({"epochs": 0.5}, None), ({"epochs": 1}, None), ({}, None)],
)
def test_budgets_in_steps(pretrain, tmp_path, budget, steps):
    changes = {f"budget__{name}": value for name, value in budget.items()}
    trainer = make_trainer(pretrain(tmp_path / "run", budget__steps=None, **changes))
    if steps is None:
        steps = math.ceil(budget.get("epochs", 1) * trainer.source.sequences_per_epoch / 8)
    assert trainer.fit().progress.step == steps
    assert len(losses(tmp_path / "run")) == steps


def test_an_epoch_reads_every_training_document_once_and_no_held_out_one(pretrain, tmp_path, monkeypatch):
    seen, original = [], Trainer.train_step

    def watched(self, batch):
        seen.append(batch)
        original(self, batch)

    monkeypatch.setattr(Trainer, "train_step", watched)
    trainer = make_trainer(pretrain(tmp_path / "run", budget__steps=None, budget__epochs=1))
    trainer.fit()
    setup = trainer.setup
    everything = set(range(len(setup.data)))
    held_out = set(setup.held_out.tolist())
    assert 5 < len(held_out) < 50
    sequences = [sequence for batch in seen for sequence in range(8)]
    assert len(sequences) - 8 < trainer.source.sequences_per_epoch <= len(sequences)
    trained = {int(source) for batch in seen for source in batch.table["source"]}
    assert trained == everything - held_out
    contents = setup.data.hashes
    assert not {contents[d] for d in trained} & {contents[d] for d in held_out}


def test_minutes_become_steps_once(pretrain, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(budget, "seconds_per_step", lambda step, source: 0.5)
    run, changes = tmp_path / "run", {"budget__steps": None, "budget__minutes": 0.1}
    original = Trainer.train_step

    def stopping(self, batch):
        if self.progress.step == 6:
            raise KeyboardInterrupt
        original(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", stopping)
        assert main(pretrain(run, **changes)) == 130
    assert "6.0 s are enough for 11 steps" in capsys.readouterr().err
    monkeypatch.setattr(budget, "seconds_per_step", lambda step, source: 0.01)
    assert main(pretrain(run, **changes)) == 0
    assert len(losses(run)) == 11
    assert progress(run)["total_steps"] == 11


def test_checkpoints_by_time(pretrain, tmp_path):
    changes = {"checkpoint__every": None, "checkpoint__keep": 9, "budget__steps": 3}
    for minutes, count in ((0, 3), (10, 1)):
        run = tmp_path / f"{minutes}"
        assert main(pretrain(run, checkpoint__every_minutes=minutes, **changes)) == 0
        assert len(list((run / "checkpoints").iterdir())) == count


def test_timing_a_step_changes_nothing(pretrain, tmp_path):
    assert main(pretrain(tmp_path / "steps")) == 0
    trainer = make_trainer(pretrain(tmp_path / "timed"))
    steps, seconds = forecast(trainer)
    assert steps == 12
    assert 0 < seconds < 30
    trainer.fit()
    assert_same_run(tmp_path / "steps", tmp_path / "timed")


# --------------------------------------------------------------------------------------------- evaluation


def test_the_nll_is_that_of_each_held_out_document_alone(sft, tmp_path):
    """Whatever the micro-batch; against log-softmax, document by document."""
    found = []
    for sequences in (1, 8):
        trainer = make_trainer(sft(tmp_path / f"{sequences}", batch__micro_batch_tokens=32 * sequences))
        found.append(trainer.evaluation.nll(sequences))
    setup = trainer.setup
    nats, tokens = 0.0, 0
    for document in setup.held_out:
        for batch in sequential_batches(setup.data, np.array([document]), 32, 1):
            with torch.no_grad():
                hidden = trainer.model(batch.tokens, batch.positions, batch.documents)
                scores = trainer.model.logits(hidden).log_softmax(-1)
            trained = batch.targets >= 0
            nats -= float(scores[trained].gather(1, batch.targets[trained][:, None]).sum())
            tokens += int(trained.sum())
    size = int(setup.data.bytes[setup.held_out].sum())
    for nll in found:
        assert (nll.tokens, nll.bytes) == (tokens, size)
        assert nll.nats == pytest.approx(nats, rel=1e-5)
        assert nll.bits_per_byte == pytest.approx(nats / math.log(2) / size, rel=1e-5)


def test_evaluation_reads_at_most_so_many_tokens(pretrain, tmp_path):
    counts = []
    for sequences in (1, 8):
        changes = {"evaluation__max_tokens": 300, "batch__micro_batch_tokens": 32 * sequences}
        trainer = make_trainer(pretrain(tmp_path / f"{sequences}", **changes))
        counts.append(trainer.evaluation.nll(sequences).tokens)
        assert trainer.setup.data.lengths[trainer.setup.held_out].sum() > 300
    assert counts[0] == counts[1]
    assert 200 < counts[0] < 300


@pytest.fixture
def scores(monkeypatch):
    """Evaluations that give these bits per byte, one after the other."""

    def give(*values):
        left = iter(values)
        monkeypatch.setattr(HeldOutNLL, "nll", lambda *_: NLL(next(left) * math.log(2), 1, 1.0))

    return give


def test_early_stopping_keeps_the_best(pretrain, tmp_path, scores, capsys):
    run = tmp_path / "run"
    changes = {"evaluation__every": 2, "evaluation__patience": 2, "budget__steps": 30, "checkpoint__keep": 9}
    changes |= {"checkpoint__every": 2}
    scores(8.5, 3, 2, 2.5, float("nan"))  # the first before the first step
    assert main(pretrain(run, **changes)) == 0
    said = capsys.readouterr().err
    assert "step 4: held-out 2.0000 bits/byte, loss 1.3863 (best)" in said
    assert "step 6: held-out 2.5000 bits/byte, loss 1.7329 (best 2.0000 at step 4)" in said
    assert "no better result in 2 evaluations: stopping" in said
    state = json.loads((run / "state.json").read_text())
    assert (state["status"], state["step"], state["best"], state["best_step"]) == ("finished", 8, 2.0, 4)
    best = (run / "best/model.safetensors").read_bytes()
    assert best == (run / "checkpoints/step-0000004/model.safetensors").read_bytes()
    last = (run / "model/model.safetensors").read_bytes()
    assert last == (run / "checkpoints/step-0000008/model.safetensors").read_bytes() != best
    assert [line["eval"]["bits_per_byte"] for line in evaluations(run)[1:]] == [3, 2, 2.5, None]

    # The same command does not train on, more patience does.
    assert main(pretrain(run, **changes)) == 0
    assert "this run is finished; to train on, use the same command with a larger evaluation.patience" in (
        capsys.readouterr().err
    )
    assert (run / "model/model.safetensors").read_bytes() == last
    scores(2.2, 1.5, 1.6, 1.7, 1.8)
    assert main(pretrain(run, **changes | {"evaluation__patience": 4, "budget__steps": 18})) == 0
    assert progress(run)["step"] == 18
    assert progress(run)["best_step"] == 12


def test_the_first_evaluation_may_fail_to_give_a_number(pretrain, tmp_path, scores, capsys):
    scores(8.5, float("nan"), 2, float("nan"))
    assert main(pretrain(tmp_path / "run", evaluation__every=4)) == 0
    assert progress(tmp_path / "run")["best"] == 2
    assert "step 4: held-out nan bits/byte" in capsys.readouterr().err


def test_without_held_out_documents_nothing_is_evaluated(pretrain, tmp_path):
    run = tmp_path / "run"
    assert main(pretrain(run, evaluation__holdout=0, evaluation__every=2)) == 0
    assert not evaluations(run)
    assert not (run / "best").exists()


def test_a_wrong_initialisation_is_noticed(pretrain, tmp_path, capsys):
    trainer = make_trainer(pretrain(tmp_path / "run", budget__steps=1))
    trainer.model.model.embed_tokens.weight.data *= 30
    trainer.fit()
    assert "warning: the first loss is " in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------- the stages


def test_sft_trains_on_answers_alone(sft, tmp_path):
    """The trained targets of each conversation spell what the assistant says, and its ends of turns."""
    trainer = make_trainer(sft(tmp_path / "run", batch__seq_len=256, batch__tokens_per_step=1024))
    batch = trainer.source.step(0)
    assert len(batch.table["source"]) > 5
    for document, source in enumerate(batch.table["source"].tolist()):
        file, line = trainer.setup.data.provenance(source)
        talk = json.loads(Path(file).read_text(encoding="utf-8").splitlines()[line - 1])["conversations"]
        ids = batch.targets[(batch.documents == document) & (batch.targets >= 0)]
        answers = [message["content"] + "<|im_end|>" for message in talk if message["role"] == "assistant"]
        assert trainer.setup.tokenizer.decode(ids.tolist(), skip_special=False) == "".join(answers)


def test_sft_starts_from_the_model(sft, base_model, tmp_path):
    trainer = make_trainer(sft(tmp_path / "run"))
    start = weights(base_model)
    for name, parameter in trainer.model.named_parameters():
        assert torch.equal(parameter, start[name])
    assert not trainer.model.training  # until it is trained
    trainer.fit()
    assert trainer.model.training
    moved = weights(tmp_path / "run/model")
    assert all(not torch.equal(moved[name], start[name]) for name in start)
