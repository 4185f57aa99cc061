"""`minimind train distill`: a student learns from a teacher's distributions."""

import numpy as np
import pytest
import torch
from tests.distributed.test_two_processes import CHANGES, assert_like_one_process, start_two, wait_for
from tests.helpers import (
    SETTINGS,
    assert_same_run,
    evaluations,
    last_checkpoint,
    losses,
    make_trainer,
    metrics,
    mounted,
    weights,
    weights_file,
)
from tests.invariant.test_accumulation import assert_close, in_float64
from tests.random_models import random_model

from minimind.cli import main
from minimind.data.batches.batch import IGNORE
from minimind.model import load_model, save_model
from minimind.stages import teacher_cache
from minimind.tokenizer import Tokenizer

FROM_SCRATCH = {name.replace(".", "__"): value for name, value in SETTINGS.items() if name.startswith("model.")}
CACHED = {"distill__top_k": 5, "distill__cache": "true"}
WAYS = {
    "all logits": {"distill__temperature": 2.0},
    "cached": CACHED | {"distill__divergence": "js"},
    "on policy": {"distill__on_policy": 0.5, "distill__max_tokens": 9, "distill__divergence": "reverse_kl"},
    "an adapter": {"lora__rank": 4},
}
every_way = pytest.mark.parametrize("changes", WAYS.values(), ids=WAYS)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Of this test alone."""
    monkeypatch.setenv("MINIMIND_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/teachers"


def on(argv, file):
    """The command on another data file."""
    argv[argv.index("--data") + 1] = str(file)
    return argv


def from_scratch(argv):
    del argv[argv.index("--from") : argv.index("--from") + 2]
    return argv


def all_in_float64(trainer):
    if trainer.objective.teacher:
        trainer.objective.teacher.model.cast(torch.float64)
    return in_float64(trainer)


# -------------------------------------------------------------------------------------------------- what is learned


def test_what_a_run_writes_down(distill, base_model, tmp_path):
    run = tmp_path / "run"
    options = {"distill__temperature": 2.0, "distill__alpha": 0.25}
    assert main(distill(run, evaluation__every=4, **options)) == 0
    lines = [line for line in metrics(run) if "eval" not in line]
    for line in lines:
        assert line["loss"] == pytest.approx(0.25 * line["ce"] + 0.75 * 4 * line["kl"], rel=1e-5)
        assert 0 <= line["agreement"] <= 1
    assert lines[-1]["kl"] < lines[0]["kl"]
    for line in evaluations(run):
        assert list(line["eval"]) == ["bits_per_byte", "loss", "held_out_tokens", "kl", "agreement"]
    assert evaluations(run)[-1]["eval"]["kl"] < evaluations(run)[0]["eval"]["kl"]
    for directory in (run / "model", last_checkpoint(run)):
        assert weights(directory).keys() == weights(base_model).keys()  # the teacher is no part of it


@pytest.mark.parametrize(
    "options", [{}, {"distill__top_k": 7}, {"distill__temperature": 3.0, "distill__alpha": 0.0}]
)
def test_the_loss_by_whole_softmaxes(distill, base_model, teacher, tmp_path, options):
    trainer = make_trainer(distill(tmp_path / "run", **options))
    batch, alpha = trainer.source.step(0), options.get("distill__alpha", 0.1)
    temperature, k = options.get("distill__temperature", 1.0), options.get("distill__top_k")
    valid = batch.targets != IGNORE
    logits = []
    for directory in (base_model, teacher):
        model = load_model(directory)
        with torch.no_grad():
            logits.append(model.logits(model(batch.tokens, batch.positions, batch.documents))[valid].double())
    q, p = ((one / temperature).softmax(-1) for one in logits)
    if k:
        likeliest = p.topk(k).indices
        q, p = (
            torch.cat([one.gather(1, likeliest), 1 - one.gather(1, likeliest).sum(1, True)], 1) for one in (q, p)
        )
    kl = (p * (p / q).log()).sum()
    ce = torch.nn.functional.cross_entropy(logits[0], batch.targets[valid], reduction="sum")
    terms = trainer.objective(trainer.model, batch)
    tolerance = 1e-3 if k else 1e-5  # which are kept in fp16
    assert float(terms.metrics["kl"][0]) == pytest.approx(float(kl), rel=tolerance)
    assert float(terms.metrics["ce"][0]) == pytest.approx(float(ce), rel=1e-5)
    wanted = alpha * ce + (1 - alpha) * temperature**2 * kl
    assert terms.losses["loss"].detach().item() == pytest.approx(float(wanted), rel=tolerance)
    agreement = (logits[0].argmax(-1) == logits[1].argmax(-1)).double().mean()
    total, count = terms.metrics["agreement"]
    assert float(total / count) == pytest.approx(float(agreement))


def test_a_student_from_scratch_has_the_teachers_tokenizer(distill, corpus, teacher, tmp_path):
    """From texts, too."""
    run = tmp_path / "run"
    assert main(from_scratch(on(distill(run, **FROM_SCRATCH), corpus))) == 0
    tokenizers = [Tokenizer.load(directory).fingerprint for directory in (run / "model", teacher)]
    assert tokenizers[0] == tokenizers[1]
    first = evaluations(run)[0]["eval"]["loss"]
    assert first == pytest.approx(np.log(load_model(teacher).config.vocab_size), rel=0.02)
    assert losses(run, "kl")[-1] < losses(run, "kl")[0]


def test_a_teacher_with_experts_and_an_adapted_one(distill, sft, base_model, tmp_path):
    tokenizer = Tokenizer.load(base_model)
    experts = {"model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    save_model(random_model(vocab_size=tokenizer.vocab_size + 3, **experts), tmp_path / "experts", tokenizer)
    assert main(sft(tmp_path / "adapter", lora__rank=2, budget__steps=2)) == 0
    for name in ("experts", "adapter"):
        assert main(distill(tmp_path / f"of-{name}", distill__teacher=tmp_path / name, budget__steps=2)) == 0
        assert losses(tmp_path / f"of-{name}", "kl")[0] > 0


# ------------------------------------------------------------------------------------------------------- the cache


def test_cached_is_as_on_the_fly(distill, corpus, chat_file, tmp_path):
    """Of texts that are split over sequences, and of conversations, in which only the answers are kept."""
    for file in (corpus, chat_file):
        name = file.stem
        fresh = make_trainer(on(distill(tmp_path / f"{name}-fresh", distill__top_k=5), file))
        cached = make_trainer(on(distill(tmp_path / f"{name}-cached", **CACHED), file))
        assert cached.objective.teacher is None
        data = cached.setup.data
        assert len(data.columns["teacher_ids"]) == sum(data.read(i)[1].sum() for i in range(len(data)))
        assert fresh.source.stats.long_documents > 10
        batches = [(fresh.source.step(k), cached.source.step(k)) for k in range(4)]
        batches += zip(*(trainer.evaluation.batches(2) for trainer in (fresh, cached)))
        assert any((batch.table["start"] > 0).any() for batch, _ in batches)
        for one, other in batches:
            assert "teacher_ids" in other.columns
            terms = [trainer.objective(fresh.model, batch) for trainer, batch in ((fresh, one), (cached, other))]
            ours, theirs = (one.losses["loss"].detach().item() for one in terms)
            assert ours == pytest.approx(theirs, rel=1e-5)
            for metric in ("ce", "kl", "agreement"):
                assert float(terms[1].metrics[metric][0]) == pytest.approx(
                    float(terms[0].metrics[metric][0]), rel=1e-5
                )


def test_the_cache_is_made_once(distill, tmp_path, cache, monkeypatch, capsys):
    calls = []
    load = teacher_cache.load_teacher
    monkeypatch.setattr(teacher_cache, "load_teacher", lambda setup: calls.append(1) or load(setup))
    assert main(distill(tmp_path / "one", **CACHED)) == 0
    assert "the teacher's 5 likeliest tokens at " in capsys.readouterr().err
    (directory,) = cache.iterdir()
    assert main(distill(tmp_path / "two", **CACHED)) == 0
    assert_same_run(tmp_path / "one", tmp_path / "two")
    assert len(calls) == 1
    file = directory / "teacher_logprobs.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"\x40")
    assert main(distill(tmp_path / "three", **CACHED)) == 0  # a flipped bit is noticed
    assert_same_run(tmp_path / "one", tmp_path / "three")
    assert len(calls) == 2
    for changes in ({"batch__seq_len": 64}, {"distill__temperature": 2}, {"distill__top_k": 4}):
        make_trainer(distill(tmp_path / "other", **CACHED | changes))
    assert len(list(cache.iterdir())) == 4


# -------------------------------------------------------------------------------------------------------- on policy


def test_sampled_answers_are_the_students_own(distill, tmp_path):
    """To the prompts of the data; nothing in them counts as data."""
    trainer = make_trainer(distill(tmp_path / "run", distill__on_policy=1.0, distill__max_tokens=9))
    batch, given = trainer.source.step(0), trainer.source.loader.step(0)
    assert not trainer.source.prefetch
    prompts = set()
    for number in range(given.num_documents):
        here = given.documents == number
        ids, before = given.tokens[here].tolist(), int((given.targets[here] != IGNORE).int().argmax())
        prompts.add(tuple(ids[: before + 1]) if before else tuple(ids[:16]))
    model = trainer.model
    for number in range(batch.num_documents):
        here = batch.documents == number
        valid = batch.targets[here] != IGNORE
        prompt = batch.tokens[here][: int(valid.int().argmax()) + 1]
        assert tuple(prompt.tolist()) in prompts
        assert 1 <= int(valid.sum()) <= 9
        assert valid[int(valid.int().argmax()) :].all()
    again = trainer.source.step(0)
    assert torch.equal(batch.tokens, again.tokens)
    terms = trainer.objective(model, batch)
    assert terms.metrics["ce"][1] == 0
    wanted = 1.0 * float(terms.metrics["kl"][0])  # alpha 0: there are no data
    assert terms.losses["loss"].detach().item() == pytest.approx(wanted, rel=1e-5)
    with torch.no_grad():
        model.model.norm.weight.mul_(3)
    assert not torch.equal(trainer.source.step(0).targets[:, :20], batch.targets[:, :20])


def test_a_share_of_the_steps_is_sampled(distill, tmp_path):
    trainer = make_trainer(distill(tmp_path / "run", distill__on_policy=0.3))
    assert sum(trainer.source.is_sampled(k) for k in range(1000)) == pytest.approx(300, abs=50)


# ------------------------------------------------------------------------------------------------------- invariants


@every_way
def test_micro_batches_do_not_change_a_training(distill, tmp_path, changes):
    """Six steps in fp64; the losses in metrics.jsonl were summed in fp32."""
    trained = []
    for sequences in (1, 8):
        more = {"batch__micro_batch_tokens": 32 * sequences, "budget__steps": 6, "optimizer__grad_clip": 0}
        trainer = all_in_float64(make_trainer(distill(tmp_path / f"{sequences}", **changes | more)))
        trainer.fit()
        learned = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
        trained.append((losses(tmp_path / f"{sequences}"), learned))
    assert_close(*trained, weight_tolerance=1e-9, loss_tolerance=1e-6)


@pytest.mark.parametrize("way", ["cached", "on policy"])
def test_two_processes_are_as_one(distill, tmp_path, monkeypatch, way):
    """Each reads its share of the data with the teacher, and samples its share of the answers."""
    one, two = tmp_path / "one", tmp_path / "two"
    changes = CHANGES | WAYS[way] | {"optimizer__name": "sgd", "optimizer__grad_clip": 0}
    assert main(distill(one, **changes)) == 0
    monkeypatch.setenv("MINIMIND_CACHE", str(tmp_path / "other-cache"))
    processes = start_two(distill(two, **changes), tmp_path)
    assert wait_for(processes) == [0, 0], (tmp_path / "log-0").read_text()
    assert_like_one_process(two, one)
    assert losses(two, "kl") == pytest.approx(losses(one, "kl"), rel=1e-5)


@every_way
def test_stopped_and_resumed_as_if_nothing_had_happened(distill, stopped_and_whole, changes):
    stopped_and_whole(distill, 5, evaluation__every=3, evaluation__samples=1, **changes)


def test_an_adapter_learns_from_a_teacher(distill, tmp_path):
    assert main(distill(tmp_path / "run", lora__rank=4, budget__steps=2)) == 0
    assert weights_file(tmp_path / "run/model").name == "adapter_model.safetensors"


@pytest.mark.slow
def test_compiled_is_as_eager(distill, tmp_path):
    for name, choice in (("eager", "false"), ("compiled", "true")):
        assert main(distill(tmp_path / name, compile=choice, budget__steps=4)) == 0
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "eager"), rel=1e-4)


# -------------------------------------------------------------------------------------------------------- bad input


def test_without_a_teacher_it_is_refused(distill, tmp_path, refusal):
    argv = distill(tmp_path / "run", distill__teacher=None)
    sentence = "error: distill learns from another model: name its directory with --distill.teacher"
    assert refusal(argv) == refusal(from_scratch(argv)) == sentence
    said = refusal(distill(tmp_path / "run", distill__teacher=tmp_path / "nowhere"))
    assert said == f"error: {tmp_path}/nowhere is no directory; give a model directory or a run directory"
    assert not (tmp_path / "run").exists()


def test_a_teacher_with_another_vocabulary_is_refused(distill, base_model, corpus, tmp_path, refusal):
    argv = ["tokenizer", "train", "--data", str(corpus), "--out", str(tmp_path / "tok"), "--vocab-size", "310"]
    assert main(argv) == 0
    save_model(load_model(base_model), tmp_path / "other", Tokenizer.load(tmp_path / "tok"))
    said = refusal(distill(tmp_path / "run", distill__teacher=tmp_path / "other"))
    assert said.startswith(f"error: the teacher {tmp_path}/other has another vocabulary than the student's, ")


def test_a_teacher_that_changed_does_not_continue_a_run(distill, base_model, teacher, tmp_path, refusal):
    argv = distill(tmp_path / "run", budget__steps=2, distill__teacher=tmp_path / "teacher")
    save_model(load_model(teacher), tmp_path / "teacher", Tokenizer.load(teacher))
    assert main(argv) == 0
    save_model(load_model(base_model), tmp_path / "teacher", Tokenizer.load(teacher))
    assert refusal(argv).startswith(f"error: the teacher {tmp_path}/teacher has changed since {tmp_path}/run began")


def test_a_teacher_with_fewer_tokens_than_the_student_is_refused(distill, base_model, teacher, tmp_path, refusal):
    tokenizer = Tokenizer.load(base_model)
    count = tokenizer.vocab_size
    save_model(random_model(vocab_size=count + 8), tmp_path / "student", tokenizer)
    argv = distill(tmp_path / "run")
    argv[argv.index("--from") + 1] = str(tmp_path / "student")
    assert refusal(argv) == f"error: the teacher {teacher} has {count} tokens, the student {count + 8}"


def test_a_full_disk_is_said_before_the_work(distill, tmp_path, monkeypatch, refusal):
    with mounted(tmp_path / "disk", "size=1m") as place:
        monkeypatch.setenv("MINIMIND_CACHE", str(place))
        said = refusal([*distill(tmp_path / "run", **CACHED | {"distill__top_k": 300}), "--quiet"])
        assert not list((place / "teachers").iterdir())
    assert said.startswith("error: the teacher's tokens take ")
    assert f"the disk of {place}/teachers/" in said


def test_preferences_are_refused(distill, pair_file, tmp_path, refusal):
    said = refusal(on(distill(tmp_path / "run"), pair_file))
    assert said == "error: distill learns from texts or conversations, and these files hold preferences"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"distill__cache": "true"}, "distill.cache keeps the teacher's likeliest tokens"),
        ({"distill__beta": 1}, "distill.beta: expected a number above 0, to below 1"),
        ({"distill__temperature": 0}, "distill.temperature: expected a number above 0"),
        ({"distill__divergence": "kl"}, "distill.divergence: "),
    ],
)
def test_options_that_make_no_sense_are_refused(distill, tmp_path, refusal, changes, sentence):
    assert refusal(distill(tmp_path / "run", **changes)).startswith(f"error: {sentence}")
