"""`minimind train reward`: a score head learns which of two answers people prefer."""

import json
import math

import numpy as np
import pytest
import torch
from tests.distributed.test_two_processes import (
    CHANGES,
    train_alone_and_as_two,
)
from tests.helpers import evaluations, losses, make_trainer, metrics, pairs, weights, write_jsonl
from tests.invariant.test_accumulation import assert_close, in_float64, relative

from minimind import Model
from minimind.cli import main
from minimind.data.batches.documents import MemoryDocuments, WholeDocuments
from minimind.data.batches.loader import pack_once, sequential_batches
from minimind.errors import UserError
from minimind.losses.scores import document_scores, score_conversations
from minimind.model import ModelConfig, Transformer, load_model, save_model
from minimind.model.config import FAMILIES

SHAPE = {"vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
SHAPE |= {"num_attention_heads": 2, "max_position_embeddings": 256, "num_labels": 1}


def scorer(**changes):
    """A reward model with random weights in every matrix."""
    model = Transformer(ModelConfig(**SHAPE | changes))
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


def conversations():
    generator = np.random.default_rng(0)
    return [generator.integers(3, 60, length).tolist() for length in (7, 1, 23, 40, 12)]


# ----------------------------------------------------------------------------------------------------- what it says


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("model_type", [name for name, family in FAMILIES.items() if family.classifier])
def test_transformers_gives_the_same_scores(tmp_path, model_type, tied):
    """Its class reads the last token that is no padding, on either side."""
    transformers = pytest.importorskip("transformers")
    experts = {"num_experts": 4, "moe_intermediate_size": 16} if FAMILIES[model_type].experts else {}
    model = scorer(model_type=model_type, tie_word_embeddings=tied, **experts)
    save_model(model, tmp_path / "model")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    assert type(theirs).__name__ == FAMILIES[model_type].classifier == model.config.architecture
    ids = conversations()
    padded = torch.zeros(len(ids), 40, dtype=torch.long)
    for row, one in zip(padded, ids):
        row[: len(one)] = torch.tensor(one)
    with torch.no_grad():
        wanted = theirs(padded, attention_mask=(padded != 0).long()).logits[:, 0]
    found = score_conversations(model, ids)
    assert torch.tensor(found) == pytest.approx(wanted, rel=1e-4, abs=1e-5)
    assert len({round(score, 3) for score in found}) == 5
    assert score_conversations(load_model(tmp_path / "model"), ids) == found
    theirs.save_pretrained(tmp_path / "theirs")
    assert score_conversations(load_model(tmp_path / "theirs"), ids) == found


def test_a_score_is_read_at_the_last_token_alone():
    """Packed or by itself; what stands behind it is not seen."""
    model, ids = scorer(), conversations()
    for one, score in zip(ids, score_conversations(model, ids)):
        with torch.no_grad():
            hidden = model(torch.tensor([one]))[0, -1]
        wanted = float(hidden @ model.score.weight[0].detach())
        assert score == pytest.approx(wanted, rel=1e-4, abs=1e-6)
    data = MemoryDocuments([np.array(one) for one in ids], [np.ones(len(one)) for one in ids])
    batches = [pack_once(WholeDocuments(data, end), 40) for end in (0, 9)]
    assert torch.equal(*(document_scores(model, batch) for batch in batches))


def test_models_that_are_none_are_refused(tmp_path, base_model):
    with pytest.raises(UserError, match=r"no reward model of model_type glm4_moe; it has of qwen3, llama"):
        ModelConfig(**SHAPE, model_type="glm4_moe")
    save_model(scorer(), tmp_path / "model")
    path = tmp_path / "model/config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "id2label": {"0": "good", "1": "bad"}}))
    with pytest.raises(UserError, match="a classifier of 2 labels is not supported; a reward model has 1"):
        load_model(tmp_path / "model")
    with pytest.raises(UserError, match="is no reward model"):
        Model.load(base_model).reward([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
    path.write_text(json.dumps({**config, "architectures": ["Qwen3ForCausalLM"]}))
    with pytest.raises(UserError, match=r"tensor score.weight is not part of the model"):
        load_model(tmp_path / "model")


# -------------------------------------------------------------------------------------------------- what is learned


def preferring_cats(count):
    rows = pairs(count, seed=3)
    for row, other in zip(rows, pairs(count, seed=4)):
        row["chosen"][1]["content"] = "cat " + row["chosen"][1]["content"].replace("dog", "cat")
        row["rejected"][1]["content"] = "dog " + other["rejected"][1]["content"].replace("cat", "dog")
    return rows


def test_a_clear_preference_is_learned(reward, tmp_path, refusal, capsys):
    file = write_jsonl(tmp_path / "pairs.jsonl", preferring_cats(200))
    run = tmp_path / "run"
    changes = {"budget__steps": 20, "evaluation__every": 10, "optimizer__learning_rate": 0.02}
    argv = reward(run, evaluation__samples=2, **changes)
    argv[argv.index("--data") + 1] = str(file)
    assert main(argv) == 0
    assert f"measure it: minimind eval reward {run} --data FILE" in capsys.readouterr().err
    lines = [line for line in metrics(run) if "eval" not in line]
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert {"accuracy", "margin", "reward_chosen", "reward_rejected"} < lines[0].keys()
    last = evaluations(run)[-1]["eval"]
    assert next(iter(last)) == "loss"
    assert last["accuracy"] == 1.0
    assert last["loss"] < 0.3
    assert not (run / "samples.jsonl").read_text()
    model = Model.load(run)
    good, bad = (model.reward(preferring_cats(9)[7][side]) for side in ("chosen", "rejected"))
    assert good > bad
    for use in (lambda: model.predict("a"), lambda: model.logits([1, 2]), lambda: model.score("a")):
        with pytest.raises(UserError, match="this is a reward model, which says nothing"):
            use()

    assert main(["eval", "reward", str(run), "--data", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["results"][0]["reward"]["accuracy"] > 0.98
    assert found["results"][0]["reward"]["total"] == 200
    assert refusal(["eval", "skills", str(run)]).startswith("error: this is a reward model")
    said = refusal(["export", "gguf", str(run), "--out", str(tmp_path / "m.gguf")])
    assert said.startswith("error: GGUF: a reward model has no output layer")
    said = refusal(["train", "dpo", "--from", str(run), "--data", str(file), "--out", str(tmp_path / "next")])
    assert "is a reward model, which only the stage reward trains on" in said


def test_the_loss_is_over_whole_conversations(reward, tmp_path):
    """The score of the rendered conversation, its last token included."""
    trainer = make_trainer(reward(tmp_path / "run"))
    model, data, tokenizer = trainer.model, trainer.setup.data, trainer.setup.tokenizer
    model.score.weight.data.normal_()
    (batch,) = sequential_batches(data, np.arange(6), 256, 1)
    whole = [data.data.read(index)[0].tolist() for index in range(6)]
    rendered = tokenizer.encode_chat(pairs(120)[0]["chosen"])[0]
    assert whole[0] == rendered
    places = batch.table["source"]
    wanted = [score_conversations(model, [whole[int(place)]])[0] for place in places]
    assert document_scores(model, batch).tolist() == pytest.approx(wanted, rel=1e-4, abs=1e-6)


# ------------------------------------------------------------------------------------------------------- invariants


def test_micro_batches_do_not_change_a_training(reward, tmp_path):
    trained = []
    for sequences in (1, 8):
        changes = {"optimizer__learning_rate": 0.02, "budget__steps": 6, "optimizer__grad_clip": 0}
        changes |= {"batch__micro_batch_tokens": 128 * sequences}
        trainer = in_float64(make_trainer(reward(tmp_path / f"{sequences}", **changes)))
        trainer.fit()
        assert trainer.step.micro_batch_size == sequences
        trained.append((losses(tmp_path / f"{sequences}"), dict(trainer.model.named_parameters())))
    assert_close(*trained, weight_tolerance=1e-9, loss_tolerance=1e-6)
    assert abs(trained[0][0][-1] - math.log(2)) > 1e-3


@pytest.mark.slow
def test_compiled_is_as_eager(reward, tmp_path):
    for name, choice in (("eager", "false"), ("compiled", "true")):
        assert main(reward(tmp_path / name, compile=choice, budget__steps=4)) == 0
    for column in ("loss", "margin"):
        found, wanted = (losses(tmp_path / name, column) for name in ("compiled", "eager"))
        assert found == pytest.approx(wanted, rel=1e-3, abs=1e-5)


def test_two_processes_are_as_one(reward, tmp_path):
    changes = CHANGES | {"optimizer__name": "sgd", "optimizer__grad_clip": 0, "evaluation__holdout": 0.3}
    train_alone_and_as_two(reward, tmp_path, **changes)


def test_stopped_and_resumed_as_if_nothing_had_happened(reward, stopped_and_whole):
    run, _ = stopped_and_whole(reward, 5, evaluation__every=3)
    assert weights(run / "model")["score.weight"].abs().max() > 0


# -------------------------------------------------------------------------------------------------- as an adapter


def test_an_adapter_and_the_head_are_trained(reward, base_model, tmp_path, refusal, capsys):
    """And saved, measured and exported as a whole reward model is; on a language model, or on a reward model, whose
    head it begins with."""
    file = write_jsonl(tmp_path / "pairs.jsonl", preferring_cats(200))
    run, whole = tmp_path / "run", tmp_path / "whole"

    def command(out, steps, start=base_model):
        argv = reward(out, lora__rank=4, optimizer__learning_rate=0.05, budget__steps=steps)
        argv[argv.index("--data") + 1], argv[argv.index("--from") + 1] = str(file), str(start)
        return argv

    assert main(command(run, 20)) == 0
    trained = weights(run / "model")
    assert trained["base_model.model.score.weight"].abs().max() > 0
    assert all(".lora_" in name or name.endswith("score.weight") for name in trained)
    assert evaluations(run)[-1]["eval"]["accuracy"] == 1.0
    capsys.readouterr()
    assert main(["eval", "reward", str(run), "--data", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"][0]["reward"]["accuracy"] > 0.98
    assert main(["export", "hf", str(run), "--out", str(whole)]) == 0
    answers = [preferring_cats(9)[7][side] for side in ("chosen", "rejected")]
    scores = [[Model.load(path).reward(answer) for answer in answers] for path in (run, whole)]
    assert scores[0] == scores[1]
    assert scores[0][0] > scores[0][1]
    for start, named in ((base_model, run), (whole, run)):
        with pytest.raises(UserError, match="a reward model's adapter is not chosen by name"):
            Model(start, adapters={"judge": named})

    assert main(command(tmp_path / "further", 1, start=whole)) == 0
    further = weights(tmp_path / "further/model")["base_model.model.score.weight"]
    assert relative(further, load_model(whole).score.weight) < 0.2
    assert "is an adapter; merge it first" in refusal(command(tmp_path / "second", 1, start=run))


def test_a_reward_model_begins_with_an_adapted_language_model(reward, sft, tmp_path):
    assert main(sft(tmp_path / "adapter", lora__rank=2, budget__steps=2)) == 0
    argv = reward(tmp_path / "run", budget__steps=1)
    argv[argv.index("--from") + 1] = str(tmp_path / "adapter")
    assert main(argv) == 0
    assert losses(tmp_path / "run")[0] == pytest.approx(math.log(2), abs=1e-6)


def test_an_adapter_in_two_processes_is_as_in_one(reward, tmp_path):
    changes = CHANGES | {"optimizer__name": "sgd", "optimizer__grad_clip": 0, "lora__rank": 4}
    train_alone_and_as_two(reward, tmp_path, **changes)
