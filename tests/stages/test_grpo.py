"""`minimind train grpo`: a model learns from answers that it samples itself."""

import copy
import json

import numpy as np
import pytest
import torch
from tests.helpers import (
    assert_equal_trees,
    evaluations,
    losses,
    make_trainer,
    metrics,
    weights,
)
from tests.invariant.test_accumulation import assert_close, in_float64

from minimind.cli import main
from minimind.data.batches.batch import IGNORE
from minimind.errors import UserError
from minimind.eval.skills import greedy_answers
from minimind.infer.conversation import message_of
from minimind.infer.engine import Engine
from minimind.rl.prompts.world import training_prompts
from minimind.train.budget import seconds_per_step

COLUMNS = ("reward", "reward_correct", "reward_ended", "length", "entropy", "clip_fraction", "approx_kl", "kl")
STOP_IDS = (2, 0)
GROUP, LIMIT = 6, 12  # rl.group_size and rl.max_tokens of the fixture


def fields(batch):
    """Everything in a batch, by name."""
    return vars(batch) | {"columns": dict(batch.columns), "table": dict(batch.table)}


def answers(batch):
    """Of every document, by its group and place in it: ids and targets, recorded log-probabilities, advantages."""
    found = {}
    for number, group in enumerate(batch.table["group"].tolist()):
        at = batch.documents == number
        parts = batch.tokens, batch.targets, batch.columns["logprobs"], batch.columns["advantages"]
        place = int(batch.table["source"][number]) % GROUP
        found[group, place] = {
            "reward": float(batch.table["reward"][number]),
            "ended": float(batch.table["reward_ended"][number]),
            **dict(zip(("tokens", "targets", "logprobs", "advantages"), (part[at] for part in parts))),
        }
    return found


def every_answer(batch):
    """Ids and positions of every document."""
    for number in range(batch.num_documents):
        at = batch.documents == number
        yield {"tokens": batch.tokens[at], "targets": batch.targets[at]}


# ----------------------------------------------------------------------------------------------- what is trained on


def test_what_is_trained_on_is_what_was_sampled(grpo, tmp_path):
    """The answer's ids with the one that ended it, never the question, and never a text encoded again."""
    trainer = make_trainer(grpo(tmp_path / "run"))
    tokenizer = trainer.setup.tokenizer
    ended = again = 0
    for k in range(3):
        prompts = training_prompts(0, k, 4)
        found = answers(trainer.source.step(k))
        assert len(found) == 4 * GROUP
        for (group, _), answer in found.items():
            prompt, _ = tokenizer.encode_chat(prompts[group].messages, add_generation_prompt=True)
            assert answer["tokens"][: len(prompt)].tolist() == prompt
            assert (answer["targets"][: len(prompt) - 1] == IGNORE).all()
            for column in ("logprobs", "advantages"):
                assert (answer[column][: len(prompt) - 1] == 0).all()
            sampled = answer["targets"][len(prompt) - 1 :].tolist()
            assert sampled[:-1] == answer["tokens"][len(prompt) :].tolist()
            assert (answer["logprobs"][len(prompt) - 1 :] < 0).all()
            assert (sampled[-1] in STOP_IDS) == bool(answer["ended"])
            assert not set(sampled[:-1]) & set(STOP_IDS)
            if not answer["ended"]:
                assert len(sampled) == LIMIT
            ended += answer["ended"]
            again += tokenizer.encode(tokenizer.decode(sampled, skip_special=False)) != sampled
    assert ended > 5
    assert again > 5  # of random tokens, the text would be encoded otherwise


def test_advantages_compare_the_answers_of_a_group(grpo, tmp_path):
    """A group without a difference says nothing."""
    trainer = make_trainer(grpo(tmp_path / "run"))
    kinds = set()
    for k in range(4):
        found = answers(trainer.source.step(k))
        for group in range(4):
            members = [found[group, place] for place in range(GROUP)]
            rewards = np.array([member["reward"] for member in members])
            values = [member["advantages"][member["targets"] != IGNORE] for member in members]
            assert all(len(one.unique()) == 1 for one in values)  # the whole answer has one
            advantages = np.array([float(one[0]) for one in values])
            is_informative = rewards.max() > rewards.min()
            kinds.add(is_informative)
            if is_informative:
                assert advantages == pytest.approx((rewards - rewards.mean()) / rewards.std(), abs=1e-5)
            else:
                assert not advantages.any()
    assert kinds == {True, False}


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_recorded_logprobs_are_those_that_are_learned_from(grpo, tmp_path, temperature):
    """The engine's, when it sampled, and the model's, at the first step: no ratio is off 1, none is clipped."""
    changes = {"rl__temperature": temperature, "rl__normalize": "token"}
    trainer = make_trainer(grpo(tmp_path / "run", **changes))
    batch, model = trainer.source.step(0), trainer.model
    with torch.no_grad():
        logits = model.logits(model(batch.tokens, batch.positions, batch.documents)) / temperature
    valid = batch.targets != IGNORE
    wanted = logits.log_softmax(-1).gather(2, batch.targets.clamp(min=0)[..., None])[..., 0][valid]
    assert (batch.columns["logprobs"][valid] - wanted).abs().max() < 1e-4
    terms = trainer.objective(model, batch)
    sums = {name: float(total) / float(count) for name, (total, count) in terms.metrics.items()}
    assert abs(sums["approx_kl"]) < 1e-6
    assert sums["clip_fraction"] == 0
    entropy = torch.special.entr(logits.softmax(-1)).sum(-1)[valid].mean()
    assert sums["entropy"] == pytest.approx(float(entropy), rel=1e-4)
    assert trainer.source.metrics(1.0, 1)["length"] == pytest.approx(batch.num_valid_tokens / (4 * GROUP))
    advantages = batch.columns["advantages"][valid]
    assert float(terms.losses["loss"].detach()) == pytest.approx(-float(advantages.sum()), abs=1e-3)


def test_what_a_run_writes_down(grpo, base_model, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(grpo(run, evaluation__every=3)) == 0
    said = capsys.readouterr().err
    for word in ("step 0: held-out 0.", "  reward 0.", "  held-out ", "  KL 0.", "  rollout "):
        assert word in said
    assert "loss" not in said
    lines = [line for line in metrics(run) if "eval" not in line]
    assert [line["step"] for line in lines] == list(range(1, 7))
    for line in lines:
        assert set(COLUMNS) < line.keys()
        assert line["reward"] == pytest.approx(line["reward_correct"] + 0.1 * line["reward_ended"], abs=1e-6)
        assert 1 <= line["length"] <= LIMIT
        assert 0 < line["entropy"] < np.log(400)
        assert line["epoch"] == 0
    assert lines[0]["approx_kl"] < 1e-6
    assert lines[0]["clip_fraction"] == 0
    assert len({line["length"] for line in lines}) > 2
    assert [line["step"] for line in evaluations(run)] == [0, 3, 6]  # of the start model, too
    for line in evaluations(run):
        assert line["eval"].keys() == {"score"}
        assert 0 <= line["eval"]["score"] <= 1
    before, after = weights(base_model), weights(run / "model")
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_what_the_model_says_at_each_evaluation_and_what_it_earns(grpo, tmp_path):
    """The same held-out prompts, answered greedily, and judged as the answers that are trained on are."""
    trainer = make_trainer(grpo(tmp_path / "run", evaluation__every=3, evaluation__samples=2))
    evaluation, start = trainer.evaluation, copy.deepcopy(trainer.model)
    trainer.fit()
    samples = [json.loads(line) for line in (tmp_path / "run/samples.jsonl").read_text().splitlines()]
    assert [sample["step"] for sample in samples] == [0, 0, 3, 3, 6, 6]
    for model, said in ((start, samples[:2]), (trainer.model, samples[-2:])):
        for sample, prompt in zip(said, (evaluation.prompts[0], evaluation.prompts[2])):
            *asked, answer = sample["conversations"]
            assert asked == prompt.messages
            ((text, done),) = greedy_answers(Engine(model), trainer.setup.tokenizer, [asked], LIMIT)
            assert answer == message_of(done.ids, trainer.setup.tokenizer, False), text
            ended = float(done.stop_reason == "stop")
            assert sample["parts"] == {"correct": ended * prompt.grade(text), "ended": ended}
            assert sample["reward"] == pytest.approx(sample["parts"]["correct"] + 0.1 * ended)


def test_a_penalty_for_leaving_the_start_model(grpo, base_model, tmp_path):
    """It has a second model, which is frozen, and neither trained nor saved; at first the two are one."""
    free = make_trainer(grpo(tmp_path / "free", rl__kl_weight=0, rl__reference="false"))
    bound = make_trainer(grpo(tmp_path / "bound", rl__kl_weight=0.5))
    free.fit()
    bound.fit()
    assert not any("kl" in line for line in metrics(tmp_path / "free"))
    kl = losses(tmp_path / "bound", "kl")
    assert abs(kl[0]) < 1e-6
    assert kl[-1] > 1e-5
    assert losses(tmp_path / "bound")[0] == pytest.approx(losses(tmp_path / "free")[0], abs=1e-6)
    assert losses(tmp_path / "bound")[1:] != losses(tmp_path / "free")[1:]
    reference = bound.source.reference
    for name, tensor in weights(base_model).items():
        assert torch.equal(reference.state_dict()[name], tensor)
    assert weights(tmp_path / "bound/model").keys() == weights(base_model).keys()
    assert len(bound.step.parameters) == len(list(bound.model.parameters()))


def test_thinking_before_the_answer(grpo, tmp_path):
    """The prompt ends in <think>, and only what comes after the thought is graded."""
    changes = {"rl__think": "true", "rl__skills": "three_digits", "batch__seq_len": 256}
    trainer = make_trainer(grpo(tmp_path / "run", **changes))
    (prompt,) = training_prompts(0, 0, 1, ("three_digits",), think=True)
    assert not prompt.grade(prompt.gt[0])
    assert prompt.grade(f"a\n</think>\n\n{prompt.gt[0]}")
    for answer in answers(trainer.source.step(0)).values():
        first = int((answer["targets"] != IGNORE).nonzero()[0])
        prompt = trainer.setup.tokenizer.decode(answer["tokens"][: first + 1].tolist(), skip_special=False)
        assert prompt.endswith("<|im_start|>assistant\n<think>\n")
    assert 0 <= trainer.evaluation(8)["score"] <= 1


# ------------------------------------------------------------------------------------------------------- invariants


def test_a_batch_is_a_function_of_weights_seed_and_step(grpo, tmp_path):
    trainer, twin = (make_trainer(grpo(tmp_path / name)) for name in ("run", "twin"))
    source = trainer.source
    before = torch.get_rng_state()
    first, other = source.step(3), source.step(4)
    assert_equal_trees(fields(source.step(3)), fields(first))
    assert_equal_trees(fields(twin.source.step(3)), fields(first))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.tokens.shape != other.tokens.shape or not torch.equal(first.tokens, other.tokens)
    seeded = make_trainer(grpo(tmp_path / "seeded", seed=1)).source.step(3)
    assert answers(seeded)[0, 0]["tokens"].tolist() != answers(first)[0, 0]["tokens"].tolist()
    with torch.no_grad():
        trainer.model.model.norm.weight *= 3
    assert not torch.equal(source.step(3).columns["logprobs"], first.columns["logprobs"])


def test_processes_share_the_prompts_equally(grpo, tmp_path):
    source = make_trainer(grpo(tmp_path / "run")).source
    with pytest.raises(UserError, match=r"rl\.prompts 4 cannot be shared equally by 3 processes"):
        source.step(0, 0, 3)


@pytest.mark.parametrize(("optimizer", "rate"), [("muon", 0.02), ("sgd", 0.05)])
def test_micro_batches_do_not_change_a_training(grpo, tmp_path, optimizer, rate):
    """Six steps in fp64, sampled anew before each; metrics.jsonl is of fp32 sums."""
    trained = []
    for sequences in (1, 8):
        changes = {"optimizer__name": optimizer, "optimizer__learning_rate": rate, "optimizer__grad_clip": 0}
        changes |= {"batch__micro_batch_tokens": 128 * sequences, "evaluation__every": 2}
        trainer = in_float64(make_trainer(grpo(tmp_path / f"{sequences}", **changes)))
        assert trainer.source.step(0).tokens.shape[0] > 8
        trainer.fit()
        assert trainer.step.micro_batch_size == sequences
        trained.append((losses(tmp_path / f"{sequences}"), dict(trainer.model.named_parameters())))
    assert_close(*trained, weight_tolerance=1e-9, loss_tolerance=1e-5)
    for column in COLUMNS[:4]:
        assert losses(tmp_path / "1", column) == losses(tmp_path / "8", column)


SEVERAL = {"rl__minibatches": 2, "rl__epochs": 2}  # steps of one rollout


def test_several_steps_of_one_rollout(grpo, tmp_path):
    """Every epoch sees every answer once; the first step is on policy, the others are not, and are clipped."""
    changes = {"optimizer__learning_rate": 0.05, "budget__steps": 8}
    trainer = make_trainer(grpo(tmp_path / "run", **changes, **SEVERAL))
    batches = [trainer.source.step(k) for k in range(4)]
    seen = [batch.table["group"].tolist() for batch in batches]
    assert sorted(seen[0] + seen[1]) == sorted(seen[2] + seen[3]) == sorted([*range(4)] * GROUP)
    whole = {tuple(answer["tokens"].tolist()) for batch in batches[:2] for answer in every_answer(batch)}
    assert whole == {tuple(answer["tokens"].tolist()) for batch in batches[2:] for answer in every_answer(batch)}
    trainer.fit()
    kl, clipped = losses(tmp_path / "run", "approx_kl"), losses(tmp_path / "run", "clip_fraction")
    for first in (0, 4):
        assert kl[first] < 1e-6
        assert clipped[first] == 0
        assert min(kl[first + 1 : first + 4]) > 1e-4
        assert max(clipped[first + 1 : first + 4]) > 0


@pytest.mark.parametrize("several", [{}, SEVERAL], ids=["one step", "in the middle of a rollout"])
def test_stopped_and_resumed_as_if_nothing_had_happened(grpo, stopped_and_whole, several):
    changes = {"evaluation__every": 2, "evaluation__samples": 1, "rl__kl_weight": 0.1, **several}
    run, whole = stopped_and_whole(grpo, 3, **changes)
    for column in (*COLUMNS, "kl", "tokens"):
        assert losses(run, column) == losses(whole, column)


def test_a_resumed_training_samples_the_same_answers(grpo, tmp_path):
    trained = make_trainer(grpo(tmp_path / "run", budget__steps=3))
    trained.fit()
    resumed = make_trainer(grpo(tmp_path / "run"))
    resumed.begin()
    assert resumed.progress.step == 3
    assert_equal_trees(fields(resumed.source.step(3)), fields(trained.source.step(3)))
    resumed.metrics.close()


# -------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("budget", [{"budget__epochs": 1}, {"budget__tokens": 1e6}])
def test_budgets_that_mean_nothing_are_refused(grpo, tmp_path, refusal, budget):
    said = refusal(grpo(tmp_path / "run", budget__steps=None, **budget))
    assert said == (
        "error: sampled answers have no epochs and no fixed length; give --budget.steps or --budget.minutes"
    )
    assert not (tmp_path / "run").exists()


def test_a_budget_of_minutes_counts_the_sampling(grpo, tmp_path):
    """It takes the most of a step."""
    trainer = make_trainer(grpo(tmp_path / "run", rl__max_tokens=60, batch__seq_len=256))
    trainer.prepare()
    slow = seconds_per_step(trainer.step, trainer.source)
    trainer.source.prefetch = True
    quick = seconds_per_step(trainer.step, trainer.source)
    assert slow > 1.5 * quick
    assert main(grpo(tmp_path / "timed", budget__steps=None, budget__minutes=0.01)) == 0


def test_sequences_too_short_for_an_answer_are_refused(grpo, tmp_path, refusal):
    said = refusal(grpo(tmp_path / "run", batch__seq_len=64, batch__tokens_per_step=512, rl__max_tokens=60))
    assert said.startswith("error: a question and rl.max_tokens do not fit batch.seq_len; make that at least 1")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"rl__prompts": 0}, "rl.prompts: expected a whole number from 1 "),
        (
            {"rl__group_size": 1},
            "rl.group_size 1: answers to a prompt are compared with each other; take 2 or more",
        ),
        ({"rl__max_tokens": 0}, "rl.max_tokens: expected a whole number from 1 "),
        ({"rl__questions": 0}, "rl.questions: expected a whole number from 1 "),
        ({"rl__skills": "cooking"}, "rl.skills: the world has no skill cooking; it has identity, facts, "),
        ({"rl__temperature": 0}, "rl.temperature: expected a number above 0, at most 1,000"),
        ({"rl__clip_low": 0}, "rl.clip_low: expected a number above 0, at most 1"),
        ({"rl__clip_high": 0}, "rl.clip_high: expected a number above 0, at most 1,000"),
        ({"rl__kl_weight": -0.1}, "rl.kl_weight: expected a number from 0 to 10"),
    ],
)
def test_options_out_of_range_are_refused(grpo, tmp_path, refusal, changes, sentence):
    assert refusal(grpo(tmp_path / "run", **changes)).startswith(f"error: {sentence}")
    assert not (tmp_path / "run").exists()


def test_without_a_model_it_is_refused(grpo, tmp_path, refusal):
    argv = grpo(tmp_path / "run")
    del argv[argv.index("--from") : argv.index("--from") + 2]
    assert refusal(argv) == "error: grpo starts from a model: name its directory with --from"
