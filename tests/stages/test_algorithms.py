"""What holds for every algorithm of reinforcement learning, `minimind train grpo` and its like."""

import os

import pytest
import torch
from tests.distributed.test_two_processes import CHANGES, assert_like_one_process, wait_for
from tests.helpers import free_port, losses, make_trainer, metrics, start_function
from tests.invariant.test_accumulation import assert_close, in_float64, relative

from minimind.cli import main
from minimind.stages.rl import ALGORITHMS

SEVERAL = {"rl__minibatches": 2, "rl__epochs": 2}  # steps of one rollout
NAMES = list(ALGORITHMS)  # agent's episodes have several turns
OFF_POLICY = [name for name in NAMES if name != "online_dpo"]


@pytest.fixture(params=NAMES)
def algorithm(request):
    return request.param


@pytest.fixture
def training(grpo, agent):
    """`training(name, out, **changes)`: 24 answers a rollout, to four prompts or one each."""

    def arguments(name, out, **changes):
        size = ALGORITHMS[name].get("group_size", 6)
        small = {"rl__prompts": 24 // size, "rl__group_size": size}
        small |= {"batch__seq_len": 208, "batch__tokens_per_step": 208 * 8}
        argv = (agent if name == "agent" else grpo)(out, **small | changes)
        return ["train", name, *argv[2:]]

    return arguments


def on_their_own(packed, group):
    """Every document of a batch, or every pair, in a batch of its own."""
    for number in range(0, packed.num_documents, group):
        at = (packed.documents >= number) & (packed.documents < number + group)
        one = {name: getattr(packed, name)[at][None] for name in ("tokens", "targets", "positions", "documents")}
        one["documents"] = one["documents"] - number
        columns = {name: column[at][None] for name, column in packed.columns.items()}
        table = {name: column[number : number + group] for name, column in packed.table.items()}
        starts = [*(one["positions"][0] == 0).nonzero()[:, 0].tolist(), one["tokens"].shape[1]]
        yield type(packed)(
            **one, cu_seqlens=torch.tensor(starts).int(), num_valid_tokens=int(table["tokens"].sum()),
            columns=columns, table=table,
        )  # fmt: skip


def test_answers_in_one_sequence_are_as_answers_in_sequences_of_their_own(training, algorithm, tmp_path):
    """Every term and its gradients in fp64, of a model that has left the one which sampled."""
    trainer = in_float64(make_trainer(training(algorithm, tmp_path / "run")))
    model, objective = trainer.model, trainer.objective
    packed = trainer.source.step(0)
    alone = list(on_their_own(packed, trainer.source.documents.group))
    torch.manual_seed(0)
    parameters = {**dict(model.named_parameters()), **dict(objective.named_parameters())}
    for parameter in parameters.values():
        parameter.data += 0.05 * torch.randn_like(parameter)
    results = []
    for batches in ([packed], alone):
        for parameter in parameters.values():
            parameter.grad = None
        units = [objective.units(batch) for batch in batches]
        terms = [objective(model, batch).losses for batch in batches]
        totals = {name: sum(unit[name] for unit in units) for name in units[0]}
        loss = sum(sum(term[name] for term in terms) / totals[name] for name in totals)
        loss.backward()
        results.append((totals, loss.detach(), {name: one.grad.clone() for name, one in parameters.items()}))
    (units, loss, gradients), (units_alone, loss_alone, gradients_alone) = results
    assert units == units_alone
    assert units["loss"] > 0
    assert len(alone) > packed.tokens.shape[0] or algorithm == "online_dpo"
    assert relative(loss, loss_alone) <= 1e-9
    for name in gradients:
        assert relative(gradients[name], gradients_alone[name]) <= 1e-9, name


def test_micro_batches_do_not_change_a_training(training, algorithm, tmp_path):
    """Four steps of two rollouts in fp64; metrics.jsonl is of fp32 sums."""
    trained = []
    changes = {"optimizer__name": "sgd", "optimizer__learning_rate": 0.05, "optimizer__grad_clip": 0}
    changes |= {"rl__minibatches": 2, "rl__epochs": 1, "budget__steps": 4}
    for sequences in (1, 8):
        changes |= {"batch__micro_batch_tokens": 208 * sequences}
        trainer = in_float64(make_trainer(training(algorithm, tmp_path / f"{sequences}", **changes)))
        trainer.fit()
        assert trainer.step.micro_batch_size == sequences
        parameters = [*trainer.model.named_parameters(), *trainer.objective.named_parameters()]
        trained.append((losses(tmp_path / f"{sequences}"), dict(parameters)))
    assert_close(*trained, weight_tolerance=1e-9, loss_tolerance=1e-5)
    assert losses(tmp_path / "1", "reward") == losses(tmp_path / "8", "reward")


def train_all(commands, ports, environment):
    """Commands one after the other, each in a group of processes of its own."""
    os.environ.update(environment)
    for argv, port in zip(commands, ports, strict=True):
        os.environ["MASTER_PORT"] = port
        assert main(argv) == 0


def test_two_processes_are_as_one(training, tmp_path):
    """For every algorithm: their shares of a step differ in tokens, sequences and micro-batches."""
    changes = CHANGES | {"optimizer__name": "sgd", "optimizer__grad_clip": 0, "batch__micro_batch_tokens": 416}
    changes |= {"budget__steps": 4, "rl__minibatches": 2, "rl__epochs": 1}
    commands = [training(name, tmp_path / "two" / name, **changes) for name in NAMES]
    ports = [free_port() for _ in commands]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    ranks = [common | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in (0, 1)]
    processes = [
        start_function(train_all, commands, ports, environment, log=tmp_path / f"log-{environment['RANK']}")
        for environment in ranks
    ]
    for name in NAMES:
        assert main(training(name, tmp_path / "one" / name, **changes)) == 0
    assert wait_for(processes) == [0, 0], (tmp_path / "log-0").read_text()
    for name in NAMES:
        one, two = tmp_path / "one" / name, tmp_path / "two" / name
        assert_like_one_process(two, one, near_zero=1e-6)
        for column in ("reward", "length", "kl", "entropy"):
            assert losses(two, column) == pytest.approx(losses(one, column), rel=1e-5, abs=1e-7)


def test_resumed_in_the_middle_of_a_rollout_whose_later_steps_are_off_policy(
    training, algorithm, stopped_and_whole
):
    """The ratio leaves 1 with the second of a rollout's steps, and what bounds it acts."""
    changes = {"optimizer__learning_rate": 0.05, "budget__steps": 8, "evaluation__every": 4, **SEVERAL}
    run, whole = stopped_and_whole(lambda out, **more: training(algorithm, out, **more), 6, **changes)
    for line, other in zip(metrics(run), metrics(whole), strict=True):
        timed = [name for name in line if name.startswith("seconds")]
        known = {"reward", "kl", "length", "entropy", *(["clip_fraction"] if algorithm in OFF_POLICY else [])}
        assert "eval" in line or known < line.keys()
        for name in line.keys() - {*timed, "elapsed", "tokens_per_second", "mfu", "memory_gb", "data_time", "wait"}:
            assert line[name] == other[name], name
    if algorithm in OFF_POLICY:
        kl, clipped, ratio = (losses(whole, name) for name in ("approx_kl", "clip_fraction", "ratio"))
        for first in (0, 4):
            assert kl[first] < 1e-6
            assert clipped[first] == 0
            assert min(kl[first + 1 : first + 4]) > 1e-4
            assert max(clipped[first + 1 : first + 4]) > 0
            assert min(abs(one - 1) for one in ratio[first + 1 : first + 4]) > 1e-5


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("grpo", {"rl__minibatches": 25}, "rl.minibatches 25 of 24 answers or pairs are too many"),
        ("online_dpo", {"rl__minibatches": 5}, "rl.minibatches 5 of 4 answers or pairs are too many"),
        (
            "online_dpo",
            {"rl__max_tokens": 60},
            "a question and rl.max_tokens do not fit batch.seq_len; make that at",
        ),
        ("online_dpo", {"rl__reference": "false"}, "rl.reference is needed by rl.kl_weight and by rl.loss dpo"),
        ("ppo", {"rl__kl_in": "loss"}, "rl.kl_target moves rl.kl_weight, which must be above 0, with rl.kl_in"),
        ("rloo", {"rl__group_size": 1}, "rl.group_size 1: answers to a prompt are compared with each other"),
    ],
)
def test_what_cannot_be_done_is_refused(training, tmp_path, refusal, name, changes, sentence):
    assert refusal(training(name, tmp_path / "run", **changes)).startswith(f"error: {sentence}")
