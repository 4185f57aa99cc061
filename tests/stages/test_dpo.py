"""`minimind train dpo`: pairs of answers, of which the chosen one becomes the likelier."""

import math
import shutil

import numpy as np
import pytest
import torch
from tests.distributed.test_two_processes import (
    CHANGES,
    assert_like_one_process,
    start_two,
    train_alone_and_as_two,
    wait_for,
)
from tests.helpers import (
    assert_same_run,
    evaluations,
    losses,
    make_trainer,
    metrics,
    pairs,
    weights,
    write_jsonl,
)
from tests.invariant.test_accumulation import assert_close, in_float64

from minimind.cli import main
from minimind.model import load_model
from minimind.train import reference


def on(argv, file):
    """The command on another data file."""
    argv[argv.index("--data") + 1] = str(file)
    return argv


def say(text):
    return {"role": "assistant", "content": text}


# -------------------------------------------------------------------------------------------------- what is learned


def test_the_first_loss_is_that_of_a_coin(dpo, tmp_path):
    """The model is its own reference then: no pair has a margin."""
    assert main(dpo(tmp_path / "run", budget__steps=2, evaluation__every=1)) == 0
    lines = [line for line in metrics(tmp_path / "run") if "eval" not in line]
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert lines[0]["margin"] == pytest.approx(0, abs=1e-5)
    assert lines[0]["grad_norm"] > 0
    assert abs(lines[1]["margin"]) > 1e-4
    columns = {"loss", "accuracy", "margin", "reward_chosen", "reward_rejected", "reference_kl"}
    columns |= {"logps_chosen", "logps_rejected"}
    for line in lines:
        assert columns < line.keys()
        assert 0 <= line["accuracy"] <= 1
        assert line["margin"] == pytest.approx(line["reward_chosen"] - line["reward_rejected"], abs=1e-6)
    for line in evaluations(tmp_path / "run"):
        assert line["eval"].keys() == columns
        assert next(iter(line["eval"])) == "loss"  # which `best` watches


def test_a_clear_preference_is_learned(dpo, tmp_path):
    """Cats are preferred to dogs; held-out pairs tell."""
    rows = pairs(200, seed=3)
    for row, other in zip(rows, pairs(200, seed=4)):
        row["chosen"][1] = say("cat " + row["chosen"][1]["content"].replace("dog", "cat"))
        row["rejected"][1] = say("dog " + other["rejected"][1]["content"].replace("cat", "dog"))
    argv = on(
        dpo(tmp_path / "run", budget__steps=20, evaluation__every=5), write_jsonl(tmp_path / "pairs.jsonl", rows)
    )
    assert main(argv) == 0
    first, last = (evaluations(tmp_path / "run")[place]["eval"] for place in (0, -1))
    assert losses(tmp_path / "run", "accuracy")[0] < 0.9
    assert last["accuracy"] == 1.0
    assert last["loss"] < 0.5 < first["loss"]
    assert last["margin"] > 0.5
    assert losses(tmp_path / "run", "accuracy")[-1] == 1.0


@pytest.mark.parametrize("changes", [{"dpo__beta": 0.5}, {"dpo__label_smoothing": 0.2}])
def test_options_reach_the_loss(dpo, tmp_path, changes):
    """The first gradient is beta (1 − 2 label_smoothing) times that of a margin's."""
    norms = []
    for name, more in (("one", {}), ("other", changes)):
        assert main(dpo(tmp_path / name, budget__steps=1, **more)) == 0
        norms.append(losses(tmp_path / name, "grad_norm")[0])
    assert norms[1] / norms[0] == pytest.approx({"dpo__beta": 5, "dpo__label_smoothing": 0.6}[next(iter(changes))])


# ---------------------------------------------------------------------------------------------------- the reference


def test_the_reference_is_the_start_model(dpo, base_model, tmp_path):
    """Against each answer alone, by the whole softmax."""
    trainer = make_trainer(dpo(tmp_path / "run"))
    data, model = trainer.setup.data, load_model(base_model)
    assert trainer.setup.data.group == 2
    found = np.load(tmp_path / "run/reference.npz")["reference"]
    assert found.dtype == np.float32
    assert len(found) == len(data) == 240
    for document in range(0, len(data), 7):
        ids, mask = (torch.tensor(values.astype(np.int64)) for values in data.read(document))
        with torch.no_grad():
            logprobs = model.logits(model(ids[None, :-1]))[0].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
        assert found[document] == pytest.approx(float(logprobs[mask[1:] == 1].sum()), rel=1e-5)
    assert (found < -1).all()


def test_another_run_finds_the_reference(dpo, base_model, tmp_path, monkeypatch):
    """On the same data from the same weights, whatever is learned from it; not from other weights."""
    assert main(dpo(tmp_path / "one", budget__steps=1)) == 0
    monkeypatch.setattr(reference, "_compute", None)
    assert main(dpo(tmp_path / "two", budget__steps=1, dpo__loss="ipo", lora__rank=0)) == 0
    one, two = (tmp_path / name / "reference.npz" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    argv = dpo(tmp_path / "three", budget__steps=1)
    argv[argv.index("--from") + 1] = str(tmp_path / "one")
    with pytest.raises(TypeError):
        make_trainer(argv)


def test_the_reference_is_computed_once(dpo, base_model, tmp_path, stop_after):
    """A run goes on from the file, whatever has become of the model that it began from."""
    whole, run, base = tmp_path / "whole", tmp_path / "run", tmp_path / "base"
    assert main(dpo(whole)) == 0
    shutil.copytree(base_model, base)
    argv = dpo(run)
    argv[argv.index("--from") + 1] = str(base)
    stop_after(argv, 5)
    written = (run / "reference.npz").stat().st_mtime_ns
    shutil.copy(whole / "model/model.safetensors", base / "model.safetensors")
    assert main(argv) == 0
    assert_same_run(run, whole)
    assert (run / "reference.npz").stat().st_mtime_ns == written


def test_a_lost_reference_is_computed_again(dpo, tmp_path, stop_after):
    """From the start model, not from the trained one."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert main(dpo(whole)) == 0
    stop_after(dpo(run), 5)
    (run / "reference.npz").unlink()
    assert main(dpo(run)) == 0
    assert_same_run(run, whole)
    assert (run / "reference.npz").read_bytes() == (whole / "reference.npz").read_bytes()


# ------------------------------------------------------------------------------------------------------- invariants


@pytest.mark.parametrize(("optimizer", "rate"), [("muon", 0.02), ("sgd", 0.05)])
def test_micro_batches_do_not_change_a_training(dpo, tmp_path, optimizer, rate):
    """Six steps in fp64, whose micro-batches differ in their numbers of pairs; metrics.jsonl is of fp32 sums."""
    trained = []
    for sequences in (1, 8):
        changes = {"optimizer__name": optimizer, "optimizer__learning_rate": rate, "budget__steps": 6}
        changes |= {"optimizer__grad_clip": 0, "batch__micro_batch_tokens": 128 * sequences}
        trainer = in_float64(make_trainer(dpo(tmp_path / f"{sequences}", **changes)))
        trainer.fit()
        assert trainer.step.micro_batch_size == sequences
        trained.append((losses(tmp_path / f"{sequences}"), dict(trainer.model.named_parameters())))
    assert_close(*trained, weight_tolerance=1e-9, loss_tolerance=1e-6)
    for column in ("accuracy", "margin"):
        first, second = (losses(tmp_path / name, column) for name in ("1", "8"))
        assert first == pytest.approx(second, rel=1e-5)
    counts = [
        int((sequence >= 0).any() and len(sequence.unique())) for sequence in trainer.source.step(0).documents
    ]
    assert max(counts) > min(counts)


def test_two_processes_are_as_one(dpo, tmp_path):
    """With the reference's work shared, too."""
    changes = CHANGES | {"optimizer__name": "sgd", "optimizer__grad_clip": 0, "evaluation__holdout": 0.3}
    one, two = train_alone_and_as_two(dpo, tmp_path, **changes)
    assert losses(two, "accuracy") == losses(one, "accuracy")
    assert losses(two, "margin") == pytest.approx(losses(one, "margin"), rel=1e-4, abs=1e-6)
    references = [np.load(run / "reference.npz")["reference"] for run in (two, one)]
    assert references[0] == pytest.approx(references[1], rel=1e-5)


def test_stopped_and_resumed_as_if_nothing_had_happened(dpo, stopped_and_whole):
    run, whole = stopped_and_whole(dpo, 5, evaluation__every=3, evaluation__samples=1)
    for column in ("accuracy", "margin"):
        assert losses(run, column) == losses(whole, column)


# ---------------------------------------------------------------------------------------------------------- its kin

KIN = ["ipo", "kto", "simpo", "orpo"]


@pytest.mark.parametrize("loss", KIN)
def test_its_kin_learn_a_clear_preference(dpo, tmp_path, loss):
    """By the metrics that all share; those without a reference compute none."""
    rows = pairs(120, seed=3)
    for row in rows:
        row["chosen"][1], row["rejected"][1] = say("cat cat"), say("dog dog dog")
    changes = {"dpo__loss": loss, "budget__steps": 16, "evaluation__every": 8, "batch__seq_len": 128}
    run = tmp_path / "run"
    assert main(on(dpo(run, **changes), write_jsonl(tmp_path / "pairs.jsonl", rows))) == 0
    lines = [line for line in metrics(run) if "eval" not in line]
    assert {"accuracy", "margin", "reward_chosen", "reward_rejected", "logps_chosen"} < lines[0].keys()
    assert lines[-1]["accuracy"] == 1
    assert lines[-1]["margin"] > lines[0]["margin"]
    first, last = (evaluations(run)[place]["eval"] for place in (0, -1))
    assert next(iter(first)) == ("total" if loss == "orpo" else "loss")
    assert next(iter(last.values())) < next(iter(first.values()))
    assert (run / "reference.npz").exists() == (loss in ("ipo", "kto"))
    if loss == "orpo":
        assert first["total"] == pytest.approx(first["loss"] + first["nll"], rel=1e-6)
        assert lines[-1]["nll"] < lines[0]["nll"]
    if loss == "kto":
        assert lines[0]["loss"] == pytest.approx(0.5, abs=1e-6)
        assert lines[0]["reference_kl"] >= 0


@pytest.mark.parametrize("loss", KIN)
def test_micro_batches_do_not_change_its_kin(dpo, tmp_path, loss):
    trained = []
    for sequences in (1, 8):
        changes = {"dpo__loss": loss, "optimizer__learning_rate": 0.02, "budget__steps": 5, "dpo__beta": 0.5}
        changes |= {"optimizer__grad_clip": 0, "batch__micro_batch_tokens": 128 * sequences}
        trainer = in_float64(make_trainer(dpo(tmp_path / f"{sequences}", **changes)))
        trainer.fit()
        trained.append((losses(tmp_path / f"{sequences}"), dict(trainer.model.named_parameters())))
    assert_close(*trained, weight_tolerance=1e-9, loss_tolerance=1e-6)
    if loss == "kto":
        assert max(losses(tmp_path / "8", "reference_kl")) > 0


@pytest.mark.parametrize(("loss", "rank"), [("kto", 0), ("orpo", 0), ("ipo", 4)])
def test_its_kin_resume_and_are_shared(dpo, tmp_path, stopped_and_whole, loss, rank):
    """What they keep beside the weights and divide by other units; and an adapter."""
    changes = CHANGES | {
        "dpo__loss": loss,
        "lora__rank": rank,
        "optimizer__name": "sgd",
        "optimizer__grad_clip": 0,
        "dpo__beta": 0.5,
    }
    _, whole = stopped_and_whole(dpo, 4, **changes)
    two = tmp_path / "two"
    assert wait_for(start_two(dpo(two, **changes), tmp_path)) == [0, 0], (tmp_path / "log-0").read_text()
    assert_like_one_process(two, whole)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"dpo__loss": "orpo"}, {"dpo__loss": "kto", "lora__rank": 4}])
def test_compiled_is_as_eager(dpo, tmp_path, changes):
    for name, choice in (("eager", "false"), ("compiled", "true")):
        assert main(dpo(tmp_path / name, compile=choice, budget__steps=4, **changes)) == 0
    for column in ("loss", "margin"):
        found, wanted = (losses(tmp_path / name, column) for name in ("compiled", "eager"))
        assert found == pytest.approx(wanted, rel=1e-3, abs=1e-5)


def test_kto_without_pairs(dpo, tmp_path):
    """Answers with labels, as trl has them, as chats or in parts; each beside its prompt with another's answer."""
    rows = []
    for pair in pairs(40, seed=3):
        asked, good, bad = (pair["chosen"][0]["content"], *(pair[side][1]["content"] for side in pair))
        rows.append({"prompt": asked, "completion": f"cat {good}", "label": True})
        rows.append({"conversations": [pair["chosen"][0], say(f"dog {bad}")], "label": False})
    file = write_jsonl(tmp_path / "answers.jsonl", rows)
    trainer = make_trainer(on(dpo(tmp_path / "run", dpo__loss="kto", budget__steps=16), file))
    data, tokenizer = trainer.setup.data, trainer.setup.tokenizer
    assert data.group == 2
    assert data.document_columns["label"][:6].tolist() == [True, True, False, False, True, True]
    assert data.provenance(3) == (str(file), 2)
    asked = tokenizer.encode_chat([{"role": "user", "content": rows[0]["prompt"]}], add_generation_prompt=True)[0]
    answer = rows[1]["conversations"][1]["content"]
    ids, mask = data.read(1)
    assert ids[: len(asked)].tolist() == asked
    assert tokenizer.decode(ids[mask == 1].tolist()).strip() == answer
    assert np.array_equal(data.read(1, 3, 9)[0], ids[3:9])
    trainer.fit()
    assert losses(tmp_path / "run", "accuracy")[-1] > 0.9
    assert losses(tmp_path / "run", "reward_chosen")[-1] > 0 > losses(tmp_path / "run", "reward_rejected")[-1]


def test_pairs_with_a_prompt(dpo, tmp_path):
    """As trl has them: what follows the prompt, as messages or as text; or the whole conversations once more."""
    (pair,) = pairs(1)
    asked, chosen, rejected = pair["chosen"][0], pair["chosen"][1], pair["rejected"][1]
    forms = [
        pair,
        {"prompt": [asked], "chosen": [chosen], "rejected": [rejected]},
        {"prompt": asked["content"], "chosen": chosen["content"], "rejected": rejected["content"]},
        {"prompt": [asked], **pair},
        {"prompt": "x", "chosen": "same", "rejected": "same"},
        {"prompt": "x", "chosen": "", "rejected": "y"},
        {"chosen": "x", "rejected": "y"},
    ]
    file = write_jsonl(tmp_path / "pairs.jsonl", forms)
    data = make_trainer(on(dpo(tmp_path / "run", evaluation__holdout=0), file)).setup.data
    assert len(data) == 8
    assert len(set(data.hashes.tolist())) == 1
    why = [bad["why"] for bad in data.report["first_bad"]]
    assert [bad["line"] for bad in data.report["first_bad"]] == [5, 6, 7]
    assert why[0] == "chosen and rejected are the same"
    assert why[1] == "message 2: the assistant says nothing"
    assert why[2] == "not a list of messages: text"


def test_only_the_answers_that_differ_count(dpo, tmp_path):
    """Earlier answers of a conversation stand on both sides and say nothing of which is better."""
    (pair,) = pairs(1)
    earlier = [{"role": "user", "content": "the cat"}, say("a dog")]
    rows = [pair, {side: [*earlier, *pair[side]] for side in pair}]
    file = write_jsonl(tmp_path / "pairs.jsonl", rows)
    data = make_trainer(on(dpo(tmp_path / "run", evaluation__holdout=0), file)).setup.data
    assert data.lengths[2] > data.lengths[0]
    assert data.read(2)[1].sum() == data.read(0)[1].sum()


def test_what_only_others_have_is_refused(dpo, tmp_path, refusal):
    assert "dpo.gamma is simpo's" in refusal(dpo(tmp_path / "run", dpo__gamma=1))
    said = refusal(dpo(tmp_path / "run", dpo__loss="ipo", dpo__label_smoothing=0.1))
    assert said.startswith("error: dpo.label_smoothing: ipo has none")


# -------------------------------------------------------------------------------------------------- pairs too long


def test_pairs_that_are_the_same_once_cut_are_left_out_and_named(dpo, tmp_path, capsys):
    rows, long = pairs(30), "the small cat sees a big tree " * 20
    rows[4]["chosen"][1], rows[4]["rejected"][1] = say(f"{long} cat"), say(f"{long} dog")
    file = write_jsonl(tmp_path / "pairs.jsonl", rows)
    trainer = make_trainer(on(dpo(tmp_path / "run", evaluation__holdout=0), file))
    assert trainer.source.dropped.tolist() == [8, 9]
    assert f"to tell them apart: left out ({file}:5)\n" in capsys.readouterr().err


def test_long_pairs_are_cut_to_fit(dpo, tmp_path):
    """What is too much is taken from the longer answer; both keep their beginning, and stay side by side."""
    rows = pairs(30)
    rows[0]["rejected"][1] = say("the small cat sees a big tree " * 20)
    file = write_jsonl(tmp_path / "pairs.jsonl", rows)
    trainer = make_trainer(on(dpo(tmp_path / "run", evaluation__holdout=0), file))
    data, source = trainer.setup.data, trainer.source
    assert data.lengths[1] > 128 > 2 * data.lengths[0]
    assert source.stats.long_documents == 1
    assert source.stats.dropped_segments == 0
    batch = next(batch for batch in map(source.step, range(99)) if (batch.table["source"] == 1).any())
    row = int((batch.table["source"] == 1).nonzero()[0, 0])
    assert batch.table["source"][row - 1] == 0
    kept = [int((batch.documents == number).sum()) for number in (row - 1, row)]
    assert kept == [data.lengths[0] - 1, 128 - (data.lengths[0] - 1)]
    assert torch.equal(
        batch.tokens[batch.documents == row], torch.tensor(data.read(1)[0][: kept[1]].astype(np.int64))
    )
    trainer.fit()
    assert all(math.isfinite(loss) for loss in losses(tmp_path / "run"))


def test_pairs_whose_answers_do_not_fit_are_left_out_and_counted(dpo, tmp_path, capsys):
    """The question alone fills the sequence; such a pair is in no figure, either."""
    rows = pairs(60)
    for row in rows[::2]:
        row["chosen"][0] = row["rejected"][0] = {"role": "user", "content": "the small cat sees " * 40}
    file = write_jsonl(tmp_path / "pairs.jsonl", rows)
    argv = on(dpo(tmp_path / "run", evaluation__holdout=0.3, budget__steps=3, evaluation__every=1), file)
    assert main(argv) == 0
    said = capsys.readouterr().err
    argv[argv.index("--out") + 1] = str(tmp_path / "other")
    trainer = make_trainer(argv)
    held_out = set((trainer.setup.held_out // 2).tolist())
    dropped = [pair for pair in range(0, 60, 2) if pair not in held_out]
    assert trainer.source.stats.dropped_segments == 2 * len(dropped) > 0
    why = "have nothing to train on or to tell them apart: left out"
    assert f"{2 * len(dropped)} segments of batch.seq_len 128 {why} ({file}:{dropped[0] + 1}, " in said
    kept = [pair for pair in held_out if pair % 2]
    assert 0 < len(kept) < len(held_out)
    batches = list(trainer.evaluation.batches(4))
    assert sum(trainer.objective.units(batch)["loss"] for batch in batches) == len(kept)
    assert {int(source) // 2 for batch in batches for source in batch.table["source"]} == set(kept)


def test_no_pair_fits(dpo, tmp_path, refusal):
    rows = pairs(10)
    for row in rows:
        row["chosen"][0] = row["rejected"][0] = {"role": "user", "content": "the small cat sees " * 40}
    said = refusal(on(dpo(tmp_path / "run", evaluation__holdout=0), write_jsonl(tmp_path / "pairs.jsonl", rows)))
    assert said == "error: none of the 20 training documents has a token to train on; add data"


# -------------------------------------------------------------------------------------------------------- bad input


def test_other_data_are_refused(dpo, chat_file, corpus, tmp_path, refusal):
    for file in (chat_file, corpus):
        said = refusal(on(dpo(tmp_path / "run"), file))
        assert said.startswith(f"error: no document is left of {file}; the first: {file}:1: ")
        assert "preference" in said


def test_pairs_are_refused_by_chats(sft, pair_file, tmp_path, refusal):
    said = refusal(on(sft(tmp_path / "run"), pair_file))
    assert said.startswith(f"error: no document is left of {pair_file}; the first: {pair_file}:1: ")


def test_pairs_that_prefer_nothing_are_left_out_and_counted(dpo, tmp_path, caplog):
    rows = pairs(30)
    rows[2]["chosen"] = rows[2]["rejected"]
    rows[5]["chosen"] = [{"role": "user", "content": "the river"}, say("a tree")]
    rows[7]["rejected"] = rows[7]["rejected"][:1]
    file = write_jsonl(tmp_path / "pairs.jsonl", rows)
    trainer = make_trainer(on(dpo(tmp_path / "run", evaluation__holdout=0), file))
    assert len(trainer.setup.data) == 54
    reasons = trainer.setup.data.report["reasons"]
    assert reasons["chosen and rejected are the same"] == 1
    assert (
        reasons["chosen and rejected answer different conversations; all but the last message must be equal"] == 1
    )
    assert "3 bad lines were left out" in caplog.text
    assert f"{file}:3: chosen and rejected are the same" in caplog.text


def test_nothing_but_such_pairs_is_refused(dpo, tmp_path, refusal):
    row, other = pairs(2)
    for side, why in (
        ({"rejected": row["chosen"]}, "are the same"),
        ({"rejected": other["chosen"]}, "answer different"),
    ):
        file = write_jsonl(tmp_path / "pairs.jsonl", [row | side])
        said = refusal(on(dpo(tmp_path / "run"), file))
        assert said.startswith(
            f"error: no document is left of {file}; the first: {file}:1: chosen and rejected {why}"
        )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"dpo__beta": 0}, "dpo.beta: expected a number above 0"),
        ({"dpo__beta": -0.1}, "dpo.beta: expected a number above 0"),
        ({"dpo__label_smoothing": 0.5}, "dpo.label_smoothing: expected a number from 0 to below 0.5"),
        ({"dpo__label_smoothing": -0.1}, "dpo.label_smoothing: expected a number from 0 to below 0.5"),
    ],
)
def test_options_out_of_range_are_refused(dpo, tmp_path, refusal, changes, sentence):
    assert refusal(dpo(tmp_path / "run", **changes)).startswith(f"error: {sentence}")
    assert not (tmp_path / "run").exists()


def test_without_a_model_it_is_refused(dpo, tmp_path, refusal):
    argv = dpo(tmp_path / "run")
    del argv[argv.index("--from") : argv.index("--from") + 2]
    assert refusal(argv) == "error: dpo starts from a model: name its directory with --from"


def test_all_weights_learn(dpo, base_model, tmp_path):
    assert main(dpo(tmp_path / "run", budget__steps=2)) == 0
    before, after = weights(base_model), weights(tmp_path / "run/model")
    assert all(not torch.equal(before[name], after[name]) for name in before)
