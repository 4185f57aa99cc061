"""Two models on the same documents and questions."""

import math

import numpy as np
import pytest
import torch
from tests.helpers import texts, write_jsonl

from minimind.data.batches.loader import sequential_batches
from minimind.data.shards.prepare import prepare
from minimind.eval.forgetting import compare_answers
from minimind.eval.paired import bits_changed, bits_per_byte, document_nats, share_changed
from minimind.eval.perplexity import evaluate_nll
from minimind.model import load_model
from minimind.tokenizer import Tokenizer


@pytest.mark.parametrize("file", ["corpus", "chat_file"])
def test_nats_by_document_sum_to_those_of_all(file, base_model, request):
    data = prepare([request.getfixturevalue(file)], Tokenizer.load(base_model))
    model, chosen = load_model(base_model), np.arange(3, 60)
    nats = document_nats(model, data, chosen, 32)
    whole = evaluate_nll(model, sequential_batches(data, chosen, 32, 4), torch.device("cpu"))
    assert nats.sum() == pytest.approx(whole.nats, rel=1e-5)
    alone = [document_nats(model, data, np.array([number]), 32)[0] for number in chosen[:5]]
    np.testing.assert_allclose(nats[:5], alone, rtol=1e-5)


def test_bits_by_hand():
    assert bits_per_byte([math.log(2), 3 * math.log(2)], [1, 3]) == pytest.approx(1)
    change = bits_changed([math.log(2)] * 50, [2 * math.log(2)] * 50, [2] * 50)
    assert change == pytest.approx((0.5, 0.5, 0.5))  # documents that agree leave nothing open


def test_the_interval_of_a_bootstrap_is_that_of_the_mean():
    draw = np.random.default_rng(1)
    differences = draw.normal(0.3, 1, 400)
    change = bits_changed(np.zeros(400), differences * math.log(2), np.ones(400, int))
    half = 1.96 * differences.std() / 20
    assert change.low == pytest.approx(differences.mean() - half, abs=0.02)
    assert change.high == pytest.approx(differences.mean() + half, abs=0.02)


def test_shares_are_compared_question_by_question():
    before, after = [True] * 60 + [False] * 40, [True] * 50 + [False] * 50
    change = share_changed(before, after)
    half = 1.96 * math.sqrt(0.1 - 0.01) / 10  # 10 of 100 questions changed, all to the worse
    assert change == pytest.approx((-0.1, -0.1 - half, -0.1 + half))


def test_answers_as_in_the_faq():
    asked = {"question": [], "expected": "Eight legs.", "held_out": False}
    before = [{**asked, "answer": "Six"}, {**asked, "answer": "eight legs"}]
    after = [{**asked, "answer": "Eight legs."}] * 2
    found = compare_answers(before, after)["trained"]
    assert (found["exact"]["before"], found["exact"]["after"], found["alike"]["after"]) == (0.5, 1.0, 1.0)
    assert found["samples"][0]["answer_before"] == "Six"


def test_a_sample_is_cut_at_its_tokens(tmp_path, base_model, monkeypatch):
    from minimind.eval import forgetting

    file = write_jsonl(tmp_path / "a.jsonl", ({"text": text} for text in texts(20)))
    data = prepare([file], Tokenizer.load(base_model))
    monkeypatch.setattr(forgetting, "MAX_TOKENS", int(data.lengths[:7].sum()))
    assert list(forgetting.Sample(data, np.arange(20), True).first()) == list(range(7))
