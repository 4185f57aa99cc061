"""How a step is cut into micro-batches changes nothing."""

import pytest
import torch
from tests.helpers import losses, make_trainer, weights

from minimind.cli import main
from minimind.data.batches.collate import split_into_micro_batches
from minimind.model import Transformer
from minimind.train.objective import NextToken


@pytest.fixture(params=["pretrain", "sft", "reason"])
def stage(request):
    return request.getfixturevalue(request.param)


def relative(found, wanted):
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


def in_float64(trainer):
    """All arithmetic of a trainer in fp64; its optimizers are made later, by these weights."""
    reference = getattr(trainer.source, "reference", None)
    for module in (trainer.model, trainer.objective, *([reference] if reference else [])):
        for part in module.double().modules():
            if isinstance(part, Transformer):
                part.compute_dtype = torch.float64
    return trainer


def assert_close(trained, wanted, weight_tolerance, loss_tolerance):
    """(losses, weights by name) of two trainings, relative to the largest entry of each tensor."""
    assert relative(torch.tensor(trained[0]), torch.tensor(wanted[0])) <= loss_tolerance
    for name in wanted[1]:
        assert relative(trained[1][name], wanted[1][name]) <= weight_tolerance, name


@pytest.mark.parametrize(
    ("micro_batch_size", "optimizer", "rate"),
    [(1, "muon", 0.02), (2, "muon", 0.02), (4, "muon", 0.02), (1, "adamw", 0.002), (1, "sgd", 0.05)],
)
def test_micro_batches_do_not_change_a_training(stage, tmp_path, micro_batch_size, optimizer, rate):
    """Six steps in fp64; the losses in metrics.jsonl were summed in fp32. Unclipped where size matters: SGD."""
    trained = []
    for sequences in (micro_batch_size, 8):
        run = tmp_path / f"{sequences}"
        changes = {"optimizer__name": optimizer, "optimizer__learning_rate": rate, "budget__steps": 6}
        changes["optimizer__grad_clip"] = 0 if optimizer == "sgd" else 1
        trainer = in_float64(make_trainer(stage(run, batch__micro_batch_tokens=32 * sequences, **changes)))
        trainer.fit()
        assert trainer.step.micro_batch_size == sequences
        states = [state for optimizer in trainer.step.optimizers for state in optimizer.state.values()]
        assert all(tensor.dtype == torch.float64 for state in states for tensor in state.values() if tensor.ndim)
        trained.append((losses(run), dict(trainer.model.named_parameters())))
    assert_close(*trained, weight_tolerance=1e-9, loss_tolerance=1e-6)


@pytest.mark.parametrize(("optimizer", "rate"), [("muon", 0.005), ("sgd", 0.02)])
def test_micro_batches_do_not_change_a_command(sft, tmp_path, optimizer, rate):
    """In fp32. Not with AdamW, which makes full steps of gradients that are nothing but rounding."""
    trained = []
    for sequences in (1, 8):
        run = tmp_path / f"{sequences}"
        changes = {"optimizer__name": optimizer, "optimizer__learning_rate": rate, "budget__steps": 4}
        changes["optimizer__grad_clip"] = 0 if optimizer == "sgd" else 1
        assert main(sft(run, batch__micro_batch_tokens=32 * sequences, **changes)) == 0
        trained.append((losses(run), weights(run / "model")))
    assert_close(*trained, weight_tolerance=1e-5, loss_tolerance=1e-5)


def test_the_micro_batches_of_these_steps_differ_in_trained_tokens(sft, tmp_path):
    """So a mean of means would have been noticed."""
    trainer = make_trainer(sft(tmp_path / "run"))
    objective = NextToken()
    for k in range(4):
        counts = [objective.units(micro)["loss"] for micro in split_into_micro_batches(trainer.source.step(k), 1)]
        assert max(counts) > 1.3 * min(counts)


def test_weighted_losses_are_divided_by_the_sum_of_their_weights(pretrain, tmp_path):
    """Token weights whose sum in the whole step is below one."""
    trainer = make_trainer(pretrain(tmp_path / "run"))
    trainer.prepare()
    batch = trainer.source.step(0)
    batch.columns["weights"] = 0.001 * (1 + batch.positions % 3).float()
    assert 0 < trainer.objective.units(batch)["loss"] < 1
    hidden = trainer.model(batch.tokens, batch.positions, batch.documents)
    scores = trainer.model.logits(hidden).log_softmax(-1)
    nll = -scores.gather(2, batch.targets.clamp(min=0)[..., None])[..., 0]
    weight = batch.columns["weights"] * (batch.targets >= 0)
    losses, _ = trainer.step.accumulate(batch)
    assert relative(losses, (nll * weight).sum() / weight.sum()) <= 1e-5
