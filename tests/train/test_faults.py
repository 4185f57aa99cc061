"""What goes wrong in a training: numbers that are not finite, no memory, a full disk."""

import dataclasses
import errno
import json
import math
import shutil
import subprocess

import pytest
import torch
from safetensors import SafetensorError
from tests.helpers import (
    assert_same_run,
    evaluations,
    last_checkpoint,
    losses,
    make_trainer,
    metrics,
    mounted,
    weights,
)

from minimind.cli import main
from minimind.model import Transformer
from minimind.stages import STAGES
from minimind.train import checkpoint as state
from minimind.train.metrics import JsonLines
from minimind.train.objective import NextToken, Terms
from minimind.train.trainer import Trainer


def segments_of(batch):
    return set(zip(batch.table["source"].tolist(), batch.table["start"].tolist()))


@pytest.fixture
def poison(monkeypatch, pretrain, tmp_path):
    """`poison([5, 6])`: the loss of a batch with a document of the data of step 5 or 6 (from 0) is not a number."""

    def change(steps, kind="loss"):
        source = make_trainer(pretrain(tmp_path / "probe")).source
        shutil.rmtree(tmp_path / "probe")
        poisoned = set.union(*(segments_of(source.step(step)) for step in steps))
        clean = set().union(*(segments_of(source.step(step)) for step in range(20) if step not in steps))
        assert source.steps_per_epoch >= 20
        assert not poisoned & clean

        class Poisoned(NextToken):
            def forward(self, model, batch):
                terms = super().forward(model, batch)
                if segments_of(batch) & poisoned:
                    if kind == "loss":
                        return Terms({"loss": terms.losses["loss"] * torch.nan})
                    terms.losses["loss"].register_hook(lambda gradient: gradient * torch.inf)
                return terms

        stage = dataclasses.replace(STAGES["pretrain"], objective=lambda setup: Poisoned())
        monkeypatch.setitem(STAGES, "pretrain", stage)
        return source

    return change


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_a_bad_step_is_skipped_and_its_documents_are_named(poison, pretrain, corpus, tmp_path, capsys, kind):
    source = poison([5], kind)
    run = tmp_path / "run"
    assert main(pretrain(run, checkpoint__every=1, checkpoint__keep=99)) == 0
    before, after = (run / f"checkpoints/step-{step:07d}" for step in (5, 6))
    assert (before / "model.safetensors").read_bytes() == (after / "model.safetensors").read_bytes()
    old, new = (torch.load(path / "training.pt", weights_only=True) for path in (before, after))
    for optimizer, updated in zip(old["optimizers"], new["optimizers"]):
        for number, state_before in optimizer["state"].items():
            for name, tensor in state_before.items():
                assert torch.equal(tensor, updated["state"][number][name])

    line = metrics(run)[6]  # a line of step 0 stands before
    assert (line["step"], line["loss"], line["grad_norm"], line["bad_steps"]) == (6, None, None, 1)
    assert all(math.isfinite(loss) for step, loss in enumerate(losses(run), start=1) if step != 6)

    dump = json.loads((run / "bad_steps/step-0000006.json").read_text())
    batch = source.step(5)
    assert dump["tokens"] == batch.tokens.tolist()
    numbers = {int(document.rpartition(":")[2]) for document in dump["documents"]}
    assert numbers == {int(source) + 1 for source in batch.table["source"]}
    assert all(document.startswith(f"{corpus}:") for document in dump["documents"])
    said = capsys.readouterr().err
    assert f"step 6: loss or gradient is not finite; step skipped, batch ({dump['documents'][0]}" in said


def test_bad_steps_in_a_row_lead_back_to_the_checkpoint_and_past_the_data(poison, pretrain, tmp_path, capsys):
    source = poison([6, 7, 8, 9, 10])
    run, seen = tmp_path / "run", []
    original = Trainer.train_step

    def watched(self, batch):
        seen.append((self.progress.step, segments_of(batch)))
        original(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_step", watched)
        assert main(pretrain(run, budget__steps=14)) == 0
    said = capsys.readouterr().err
    assert "5 bad steps in a row: back to step 8, now with later data" in said
    wanted = [(step, step) for step in range(11)] + [(step, step + 3) for step in range(8, 14)]
    assert seen == [(step, segments_of(source.step(data))) for step, data in wanted]
    progress = json.loads((last_checkpoint(run) / "progress.json").read_text())
    assert (progress["step"], progress["skipped"], progress["bad_steps"]) == (14, 3, 0)

    interrupted = tmp_path / "interrupted"
    for stop_at in (8, 10, 13):

        def stopping(self, batch, stop_at=stop_at):
            if self.progress.step == stop_at:
                raise KeyboardInterrupt
            original(self, batch)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "train_step", stopping)
            assert main(pretrain(interrupted, budget__steps=14)) == 130
    assert main(pretrain(interrupted, budget__steps=14)) == 0
    files = [path / "model/model.safetensors" for path in (run, interrupted)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert json.loads((interrupted / "state.json").read_text())["skipped"] == 3


@pytest.mark.parametrize(
    ("first_bad", "reason"),
    [
        (0, "5 steps in a row were not finite and there is no checkpoint to return to"),
        (6, "not finite again after rolling back"),
    ],
)
def test_a_hopeless_training_fails_with_one_sentence(poison, pretrain, tmp_path, capsys, first_bad, reason):
    poison(range(first_bad, 20))
    assert main([*pretrain(tmp_path / "run", budget__steps=20, checkpoint__every=6), "--quiet"]) == 1
    said = capsys.readouterr().err
    assert said == f"error: {reason}; try a lower optimizer.learning_rate, or --precision fp32\n"
    assert json.loads((tmp_path / "run/state.json").read_text())["status"] == "failed"


# ----------------------------------------------------------------------------------------------- memory


@pytest.fixture
def memory_for(monkeypatch):
    """`memory_for(2)`: a forward pass of more than two sequences runs out of memory."""
    original = Transformer.forward

    def limit(sequences):
        def forward(self, tokens_BT, *rest, **named):
            if len(tokens_BT) > sequences:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return original(self, tokens_BT, *rest, **named)

        monkeypatch.setattr(Transformer, "forward", forward)

    return limit


@pytest.mark.parametrize("holdout", [0, 0.1])
def test_with_little_memory_fewer_sequences_are_computed_at_once(pretrain, tmp_path, memory_for, capsys, holdout):
    """First noticed in a step, or in an evaluation."""
    changes = {"evaluation__holdout": holdout, "budget__steps": 4, "batch__micro_batch_tokens": 256}
    changes |= {"evaluation__every": 2, "evaluation__samples": 0}
    changes |= {"optimizer__name": "sgd", "optimizer__learning_rate": 0.05, "optimizer__grad_clip": 0}
    assert main(pretrain(tmp_path / "rich", **changes)) == 0
    memory_for(2)
    capsys.readouterr()
    assert main(pretrain(tmp_path / "poor", **changes)) == 0
    said = capsys.readouterr().err
    assert "out of memory: resuming with 4 sequences at a time (same results)" in said
    assert "out of memory: resuming with 2 sequences at a time (same results)" in said
    assert losses(tmp_path / "poor") == pytest.approx(losses(tmp_path / "rich"), rel=1e-5)
    rich, poor = (weights(tmp_path / name / "model") for name in ("rich", "poor"))
    for name in rich:
        assert (poor[name] - rich[name]).abs().max() <= 1e-5 * rich[name].abs().max()
    scores = [[line["eval"] for line in evaluations(tmp_path / name)] for name in ("poor", "rich")]
    for one, other in zip(*scores):
        assert one == pytest.approx(other, rel=1e-5)
        assert one.get("held_out_tokens") == other.get("held_out_tokens")


def test_memory_for_nothing_is_said_in_one_sentence(pretrain, tmp_path, memory_for, capsys):
    memory_for(0)
    assert main([*pretrain(tmp_path / "run"), "--quiet"]) == 2
    assert capsys.readouterr().err == (
        "error: out of memory with 1 sequences at a time; "
        "use a smaller batch.micro_batch_tokens, batch.seq_len or model\n"
    )


# ------------------------------------------------------------------------------------------------- disk


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def no_space_for_safetensors(*_, **__):
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def no_space_for_torch(*_, **__):
    try:
        no_space()
    except OSError:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598")  # noqa: B904


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """The run of the same command without a fault, made once."""
    run = tmp_path_factory.mktemp("whole") / "run"

    def made(command):
        if not run.exists():
            assert main(command(run)) == 0
        return run

    return made


@pytest.mark.parametrize(
    ("target", "name", "fault"),
    [
        ("minimind.model.hf.weights", "save_file", no_space_for_safetensors),
        ("torch", "save", no_space_for_torch),
        ("minimind.train.checkpoint", "write_json", no_space),
        ("minimind.util.files", "flush", no_space),
    ],
)
def test_a_disk_that_fills_up_at_a_checkpoint(pretrain, tmp_path, whole_run, capsys, target, name, fault):
    run, original = tmp_path / "run", state.Checkpoints.save

    def save(self, model, tokenizer, training, progress, marks):
        with pytest.MonkeyPatch.context() as patch:
            if progress.step == 8:
                patch.setattr(f"{target}.{name}", fault)
            return original(self, model, tokenizer, training, progress, marks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state.Checkpoints, "save", save)
        assert main([*pretrain(run), "--quiet"]) == 2
    assert capsys.readouterr().err == (
        f"error: the disk of {run}/checkpoints is full: no checkpoint of step 8 was written, "
        "earlier ones are whole; free some space and run the same command again\n"
    )
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-0000004"]
    assert state.damage(run / "checkpoints/step-0000004") is None
    assert json.loads((run / "state.json").read_text())["status"] == "failed"
    assert main(pretrain(run)) == 0
    assert_same_run(run, whole_run(pretrain))


def test_a_disk_that_fills_up_at_a_line_of_metrics(pretrain, tmp_path, whole_run, capsys):
    run, original = tmp_path / "run", JsonLines.write

    def write(self, **values):
        if values["step"] == 7 and "loss" in values:
            self._file.write('{"step": 7, "lo')
            self._file.flush()
            no_space()
        original(self, **values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JsonLines, "write", write)
        assert main([*pretrain(run), "--quiet"]) == 2
    assert capsys.readouterr().err == "error: the disk is full; free some space and run the same command again\n"
    assert main(pretrain(run)) == 0
    assert_same_run(run, whole_run(pretrain))


@pytest.mark.parametrize("name", ["recipe.yaml", "state.json", "environment.json"])
def test_a_disk_that_is_full_from_the_start(pretrain, tmp_path, whole_run, capsys, monkeypatch, name):
    from minimind.stages import launch
    from minimind.util import files

    run, original = tmp_path / "run", files.write_text

    def write(path, text):
        if path.name == name:
            path.with_name(f"{name}.1.partial").write_text(text[:10])
            no_space()
        original(path, text)

    monkeypatch.setattr(launch, "write_text", write)
    monkeypatch.setattr(files, "write_text", write)
    assert main([*pretrain(run), "--quiet"]) == 2
    assert capsys.readouterr().err == "error: the disk is full; free some space and run the same command again\n"
    monkeypatch.undo()
    assert main(pretrain(run)) == 0
    assert_same_run(run, whole_run(pretrain))


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 2 MiB at a path, and how to make it larger."""
    with mounted(tmp_path / "disk", "size=2m") as place:
        yield place, lambda: subprocess.run(["mount", "-o", "remount,size=32m", str(place)], check=True)


def test_a_small_disk(pretrain, whole_run, small_disk, capsys):
    """Not a simulation: the third checkpoint, or what comes with it, does not fit."""
    place, enlarge = small_disk
    assert main([*pretrain(place / "run", checkpoint__every=1, checkpoint__keep=9), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "disk" in said
    assert "free some space and run the same command again" in said
    assert said.count("\n") == 1
    assert not list((place / "run").rglob("*.partial*"))
    enlarge()
    assert main(pretrain(place / "run")) == 0
    assert_same_run(place / "run", whole_run(pretrain))


# ------------------------------------------------------------------------------------------------ precision


def test_fp16_finds_its_loss_scale_without_calling_it_a_fault(pretrain, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("minimind.train.step.GROWTH_STEPS", 1)  # so it soon grows too large
    run = tmp_path / "run"
    assert main(pretrain(run, precision="fp16", checkpoint__every=1, checkpoint__keep=99, max_bad_steps=1)) == 0
    scales = [
        torch.load(path / "training.pt", weights_only=True)["scale"].item()
        for path in sorted((run / "checkpoints").iterdir())
    ]
    steps = [math.log2(b / a) for a, b in zip([2.0**16, *scales], scales)]
    assert set(steps) == {-1, 1}
    bad = [line["step"] for line in metrics(run) if "bad_steps" in line]
    assert bad == [step for step, change in enumerate(steps, start=1) if change == -1]
    assert not (run / "bad_steps").exists()
    assert "not finite" not in capsys.readouterr().err
    for step in bad:
        before, after = (run / f"checkpoints/step-{n:07d}/model.safetensors" for n in (step - 1, step))
        assert before.read_bytes() == after.read_bytes()
    good = [loss for loss in losses(run) if loss is not None]
    assert good[-1] < good[0] - 1


def test_fp16_gradients_that_no_scale_mends_are_a_fault(poison, pretrain, tmp_path, capsys):
    poison(range(1, 20), "gradient")
    changes = {"precision": "fp16", "max_bad_steps": 2, "budget__steps": 24, "checkpoint__every": None}
    assert main([*pretrain(tmp_path / "run", **changes), "--quiet"]) == 1
    assert capsys.readouterr().err.startswith("error: 2 steps in a row were not finite")
    assert metrics(tmp_path / "run")[-1]["step"] == 19  # 17 halvings of 2^16, and then two more


def test_bf16_is_near_fp32_and_its_masters_are_fp32(pretrain, tmp_path):
    for precision in ("fp32", "bf16"):
        assert main(pretrain(tmp_path / precision, precision=precision)) == 0
    exact, rough = (losses(tmp_path / precision) for precision in ("fp32", "bf16"))
    assert exact != rough
    assert rough == pytest.approx(exact, rel=0.02)
    for directory in (tmp_path / "bf16/model", last_checkpoint(tmp_path / "bf16")):
        tensors = weights(directory)
        assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
        matrix = tensors["model.layers.0.mlp.up_proj.weight"]
        assert not torch.equal(matrix, matrix.bfloat16().float())
    state_of = torch.load(last_checkpoint(tmp_path / "bf16") / "training.pt", weights_only=True)
    tensors = [t for o in state_of["optimizers"] for s in o["state"].values() for t in s.values()]
    assert {tensor.dtype for tensor in tensors} == {torch.float32}
