"""`minimind train reason`: thinking before an answer, and answers without."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.distributed.test_two_processes import (
    CHANGES,
    train_alone_and_as_two,
)
from tests.helpers import losses, make_trainer, thoughts, write_jsonl
from tests.invariant.test_accumulation import assert_close, in_float64, relative

from minimind.cli import main
from minimind.data.shards.prepare import prepare
from minimind.data.shards.thoughts import Thoughts
from minimind.stages.reason import format_ids
from minimind.tokenizer import Tokenizer

ALL = {"evaluation__holdout": 0, "reason__empty_thoughts": 0}


@pytest.fixture(scope="module")
def tokenizer(tokenizer_directory):
    return Tokenizer.load(tokenizer_directory)


def on(argv, file):
    argv[argv.index("--data") + 1] = str(file)
    return argv


def texts(data, tokenizer):
    return [tokenizer.decode(data.read(number)[0], skip_special=False) for number in range(len(data))]


# ---------------------------------------------------------------------------------------------------- format tokens


def test_the_loss_is_the_weighted_mean(reason, tokenizer, tmp_path):
    """Written out with torch's own cross-entropy: Σ w · nll / Σ w."""
    trainer = in_float64(make_trainer(reason(tmp_path / "run", reason__format_weight=7.5, **ALL)))
    batch, model = trainer.source.step(0), trainer.model
    weights = torch.ones(trainer.model.config.vocab_size, dtype=torch.float64)
    weights[[tokenizer.reserved["<think>"], tokenizer.reserved["</think>"]]] = 7.5
    logits = model.logits(model(batch.tokens, batch.positions, batch.documents))
    wanted = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), weights)  # divides by Σ w
    objective = trainer.objective
    assert relative(objective(model, batch).losses["loss"] / objective.units(batch)["loss"], wanted) <= 1e-12
    unweighted = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
    assert abs(wanted - unweighted) > 1e-3


def test_the_weight_says_how_much(reason, sft, thought_file, tmp_path):
    """With the weight 1 it is supervised fine-tuning, bit for bit."""
    assert main(reason(tmp_path / "one", budget__steps=3, reason__format_weight=1, **ALL)) == 0
    assert main(reason(tmp_path / "ten", budget__steps=3, **ALL)) == 0
    assert main(on(sft(tmp_path / "sft", budget__steps=3, evaluation__holdout=0), thought_file)) == 0
    assert losses(tmp_path / "one") == losses(tmp_path / "sft")
    assert losses(tmp_path / "one") != losses(tmp_path / "ten")


def test_a_tokenizer_that_spells_the_tags_has_their_parts(tokenizer):
    assert format_ids(tokenizer) == [tokenizer.reserved["<think>"], tokenizer.reserved["</think>"]]
    plain = Tokenizer(tokenizer.backend, tokenizer.config, None)
    plain.reserved = {}
    parts = {token for tag in ("<think>", "</think>") for token in tokenizer.encode(tag)}
    assert set(format_ids(plain)) == parts


# --------------------------------------------------------------------------------------------------- empty thoughts


def test_a_share_of_the_conversations_is_answered_at_once(thought_file, tokenizer):
    def prepared(**rules):
        return texts(prepare([thought_file], tokenizer, "chat", thoughts=Thoughts(**rules)), tokenizer)

    full, mixed, empty = prepared(), prepared(empty=0.4), prepared(empty=1.0)
    assert all("<think>\n\n</think>\n\n" in text for text in empty)
    assert all("<think>\n\n</think>" not in text for text in full)
    assert all(text in (whole, without) for text, whole, without in zip(mixed, full, empty))
    assert 40 < sum(text == without for text, without in zip(mixed, empty)) < 80
    assert mixed == prepared(empty=0.4)
    assert mixed != prepared(empty=0.4, seed=1)
    # The rest of the conversation is the same: the question before it and the answer after it.
    for whole, without in zip(full, empty):
        assert whole.split("<think>")[0] == without.split("<think>")[0]
        assert whole.split("</think>")[1] == without.split("</think>")[1]


def test_a_conversation_keeps_its_kind_when_others_come(tmp_path, tokenizer):
    rows = [{"conversations": chat} for chat in thoughts(60)]
    rules, found = Thoughts(empty=0.5), []
    for part in (rows[:30], rows[::-1]):
        data = prepare([write_jsonl(tmp_path / f"{len(part)}.jsonl", part)], tokenizer, "chat", thoughts=rules)
        found.append(texts(data, tokenizer))
    assert found[0] == found[1][::-1][:30]


def test_what_is_held_out_thinks_as_often_as_the_rest(reason, tokenizer, tmp_path):
    """The two choices do not hang together."""
    trainer = make_trainer(reason(tmp_path / "run", evaluation__holdout=0.5, reason__empty_thoughts=0.5))
    is_empty = np.array(["<think>\n\n</think>" in text for text in texts(trainer.setup.data, tokenizer)])
    for documents in (trainer.setup.held_out, trainer.setup.train_documents):
        assert 0.3 < is_empty[documents].mean() < 0.7


def test_an_answer_that_only_thinks_keeps_its_thought(tmp_path, tokenizer):
    chat = [
        {"role": "user", "content": "the cat"},
        {"role": "assistant", "content": "", "reasoning_content": "big"},
    ]
    other = [chat[0], {"role": "assistant", "content": "<think>\nbig\n</think>\n\nred"}]
    file = write_jsonl(tmp_path / "chats.jsonl", [{"conversations": chat}, {"conversations": other}])
    first, second = texts(prepare([file], tokenizer, "chat", thoughts=Thoughts(empty=1.0)), tokenizer)
    assert "<think>\nbig\n</think>" in first
    assert "<think>\n\n</think>\n\nred" in second


def test_the_share_reaches_the_training(reason, tokenizer, tmp_path):
    trainer = make_trainer(reason(tmp_path / "run", reason__empty_thoughts=1, evaluation__holdout=0))
    assert all("<think>\n\n</think>" in text for text in texts(trainer.setup.data, tokenizer))
    # The empty block is the prompt's, so there is no format token to learn.
    batch = trainer.source.step(0)
    assert trainer.objective.units(batch)["loss"] == batch.num_valid_tokens


# ---------------------------------------------------------------------------------------------------- long thoughts


def test_conversations_with_long_thoughts_are_left_out_and_counted(
    reason, thought_file, tokenizer, tmp_path, caplog
):
    whole = prepare([thought_file], tokenizer, "chat")
    trainer = make_trainer(reason(tmp_path / "run", reason__max_thought_tokens=8, **ALL))
    data = trainer.setup.data
    lengths = [len(tokenizer.encode(chat[1]["reasoning_content"])) for chat in thoughts(150)]
    assert len(data) == sum(length <= 8 for length in lengths) < len(whole) == 150
    left_out = sum(length > 8 for length in lengths)
    assert data.report["long_thoughts"] == left_out
    assert (
        f"{left_out} conversations with a longer thought than reason.max_thought_tokens were left out"
        in caplog.text
    )


def test_a_thought_that_fills_a_sequence_is_left_out_unasked(reason, tmp_path):
    chat = thoughts(30)
    chat[3][1]["reasoning_content"] = "the cat sees a tree " * 20
    file = write_jsonl(tmp_path / "chats.jsonl", [{"conversations": one} for one in chat])
    trainer = make_trainer(on(reason(tmp_path / "run", **ALL), file))
    assert trainer.setup.data.report["long_thoughts"] == 1
    assert len(trainer.setup.data) == 29


# ------------------------------------------------------------------------------------------------------- invariants


def test_micro_batches_do_not_change_the_training_of_an_adapter(reason, tmp_path):
    trained = []
    for sequences in (1, 8):
        changes = {"lora__rank": 4, "budget__steps": 6, "batch__micro_batch_tokens": 32 * sequences}
        trainer = in_float64(make_trainer(reason(tmp_path / f"{sequences}", **changes)))
        trainer.fit()
        parameters = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
        trained.append((losses(tmp_path / f"{sequences}"), parameters))
    assert_close(*trained, weight_tolerance=1e-9, loss_tolerance=1e-6)


@pytest.mark.parametrize("rank", [0, 4])
def test_two_processes_are_as_one(reason, tmp_path, rank):
    changes = CHANGES | {"optimizer__name": "sgd", "optimizer__grad_clip": 0, "lora__rank": rank}
    train_alone_and_as_two(reason, tmp_path, **changes)


@pytest.mark.parametrize("rank", [0, 4])
def test_stopped_and_resumed_as_if_nothing_had_happened(reason, stopped_and_whole, rank):
    stopped_and_whole(reason, 5, evaluation__every=3, evaluation__samples=1, lora__rank=rank)


@pytest.mark.slow
def test_compiled_equals_eager(reason, tmp_path):
    trainers = [make_trainer(reason(tmp_path / name, evaluation__holdout=0)) for name in ("eager", "compiled")]
    assert trainers[1].model.compile_blocks(print)
    batch, results = trainers[0].source.step(0), []
    for trainer in trainers:
        loss = trainer.objective(trainer.model, batch).losses["loss"]
        loss.backward()
        results.append((loss.detach(), {name: p.grad for name, p in trainer.model.named_parameters()}))
    assert relative(results[1][0], results[0][0]) <= 1e-5
    for name, gradient in results[0][1].items():
        assert relative(results[1][1][name], gradient) <= 1e-4, name


def test_other_options_do_not_continue_a_run(reason, tmp_path, refusal):
    assert main(reason(tmp_path / "run", budget__steps=1)) == 0
    said = refusal(reason(tmp_path / "run", budget__steps=1, reason__empty_thoughts=0.5))
    assert "is a run with another recipe (reason.empty_thoughts was 0.3, now 0.5)" in said


@pytest.mark.parametrize(
    "changes", [{"reason__format_weight": 0}, {"reason__empty_thoughts": 1.5}, {"reason__max_thought_tokens": 0}]
)
def test_options_that_make_no_sense_are_refused(reason, tmp_path, refusal, changes):
    assert "number" in refusal(reason(tmp_path / "run", **changes))
