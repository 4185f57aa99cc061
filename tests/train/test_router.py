"""Training a mixture of experts: pieces of a step change nothing, loads are reported, balancing balances."""

import math

import pytest
import torch
from tests.helpers import assert_same_run, last_checkpoint, losses, make_trainer, metrics, start
from tests.invariant.test_accumulation import assert_close, in_float64

from minimind.cli import main

MOE = {"model__model_type": "qwen3_moe", "model__moe_intermediate_size": 32}
BALANCES = {
    "document": MOE,
    "global": {**MOE, "router__balance": "global"},
    "bias": {
        "model__model_type": "glm4_moe",
        "model__moe_intermediate_size": 32,
        "model__n_shared_experts": 1,
        "router__balance": "bias",
        "router__bias_rate": 0.01,
    },
}
balances = pytest.mark.parametrize("changes", BALANCES.values(), ids=BALANCES)


def gates(trainer):
    return [block.mlp.gate for block in trainer.model.model.layers]


def state(trainer):
    """Weights and biases of routers."""
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


@balances
def test_micro_batches_do_not_change_a_training_with_experts(pretrain, tmp_path, changes):
    """8 sequences at once and one by one, in fp64, z-loss included; all terms of the loss as well."""
    trained = []
    for sequences in (1, 8):
        argv = pretrain(
            tmp_path / f"{sequences}",
            batch__micro_batch_tokens=32 * sequences,
            budget__steps=6,
            router__z_weight=0.01,
            router__weight=0.1,
            **changes,
        )
        trainer = in_float64(make_trainer(argv))
        trainer.fit()
        names = ["loss", *(["balance"] if changes.get("router__balance") != "bias" else []), "router_z"]
        assert trainer.step.terms == names
        terms = [losses(tmp_path / f"{sequences}", term) for term in names]
        trained.append(([value for term in terms for value in term], state(trainer)))
    assert_close(*trained, weight_tolerance=1e-9, loss_tolerance=1e-6)


@balances
def test_metrics_tell_how_busy_the_experts_are(pretrain, tmp_path, changes):
    run = tmp_path / "run"
    assert main(pretrain(run, **changes)) == 0
    for line in metrics(run):
        if "eval" in line:
            continue
        health = line["experts"]
        assert health["dropped"] == 0
        assert [sum(load) for load in health["load"]] == pytest.approx([1.0, 1.0])
        assert all(0 < entropy <= math.log(4) + 1e-6 for entropy in health["entropy"])


def spread(line):
    """How far the busiest expert of any layer is above its equal share."""
    return max(max(load) for load in line["experts"]["load"]) * 4 - 1


@pytest.mark.parametrize("balance", ["document", "global", "bias"])
def test_balancing_balances(pretrain, tmp_path, balance):
    """From routers that favor an expert: without balancing they stay so, with it the loads come together."""
    found = {}
    for name in ("none", balance):
        run = tmp_path / name
        changes = {**BALANCES["bias"], "router__balance": name, "router__weight": 0.3, "router__bias_rate": 0.03}
        trainer = make_trainer(pretrain(run, budget__steps=100, optimizer__learning_rate=0.01, **changes))
        for gate in gates(trainer):
            gate.e_score_correction_bias[0] = 0.3  # most tokens choose expert 0, whatever their scores
        trainer.fit()
        lines = [line for line in metrics(run) if "experts" in line]
        found[name] = (spread(lines[0]), spread(lines[-1]))
    assert found["none"][1] > 0.5, found
    assert found[balance][1] < 0.6 * found["none"][1], found


def test_bias_moves_towards_equal_loads_by_hand(pretrain, tmp_path):
    """b_e += rate · sign(mean share − share of e), after one step (DeepSeek-V3, section 2.1.2)."""
    trainer = make_trainer(pretrain(tmp_path / "run", **BALANCES["bias"]))
    trainer.prepare()
    (routers,) = trainer.step.auxiliaries
    choices = torch.tensor([[5.0, 1.0, 2.0, 0.0], [2.0, 2.0, 2.0, 2.0]])
    figures = torch.tensor([[1.0, 4.0], [1.0, 4.0]])
    routers.end_step(torch.cat([choices, figures], 1), torch.tensor(1.0))
    biases = [gate.e_score_correction_bias.tolist() for gate in routers.gates]
    assert biases[0] == pytest.approx([-0.01, 0.01, 0.0, 0.01])
    assert biases[1] == [0.0] * 4
    routers.end_step(torch.cat([choices, figures], 1), torch.tensor(torch.nan))  # a skipped step
    assert biases == [gate.e_score_correction_bias.tolist() for gate in routers.gates]


def test_a_router_learns_with_one_expert_a_token_and_no_balancing(pretrain, tmp_path):
    changes = {**MOE, "model__num_experts_per_tok": 1, "router__balance": "none", "budget__steps": 3}
    trainer = make_trainer(pretrain(tmp_path / "run", **changes))
    before = [gate.weight.detach().clone() for gate in gates(trainer)]
    trainer.fit()
    for gate, old in zip(gates(trainer), before):
        assert (gate.weight - old).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["global", "bias"])
def test_a_stopped_training_with_experts_resumes_bit_for_bit(pretrain, tmp_path, name):
    """Stopped in the middle; shares and biases are in the checkpoint."""
    changes = BALANCES[name] | {"checkpoint__every": 4}
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert main(pretrain(whole, budget__steps=12, **changes)) == 0
    process = start(pretrain(run, budget__steps=12, **changes), tmp_path / "log")
    while process.is_alive() and not (run / "checkpoints/step-0000004").exists():
        process.join(0.002)
    process.kill()
    process.join()
    assert main(pretrain(run, budget__steps=12, **changes)) == 0
    assert_same_run(run, whole)
    training = torch.load(last_checkpoint(run) / "training.pt", weights_only=True)
    assert training["routers"]["share"].shape == (2, 4)


def test_a_bias_where_the_family_has_none_is_refused(pretrain, tmp_path, capsys):
    assert main(pretrain(tmp_path / "run", **MOE, router__balance="bias")) == 2
    assert "router.balance bias needs model_type glm4_moe" in capsys.readouterr().err
