"""`minimind eval reward` on a language model: which of two answers it finds likelier."""

import json

import pytest
import torch
from tests.helpers import pairs, write_jsonl

from minimind.cli import main
from minimind.model import load_model
from minimind.tokenizer import Tokenizer


def logprobs(model, tokenizer, messages):
    """Of the tokens of the last answer, by the whole softmax."""
    ids, mask = (torch.tensor(part) for part in tokenizer.encode_chat(messages, train_on="last"))
    with torch.no_grad():
        scores = model.logits(model(ids[None, :-1]))[0].log_softmax(-1)
    return scores.gather(1, ids[1:, None])[:, 0][mask[1:] == 1]


def test_a_language_model_prefers_what_is_likelier(base_model, tmp_path, capsys):
    rows = pairs(40)
    rows[3] = {side: [*rows[1]["chosen"], *rows[3][side]] for side in rows[3]}  # an earlier answer does not count
    file = write_jsonl(tmp_path / "pairs.jsonl", rows)
    assert main(["eval", "reward", str(base_model), "--data", str(file), "--json", "--device", "cpu"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["results"]
    model, tokenizer = load_model(base_model), Tokenizer.load(base_model)
    each = [[logprobs(model, tokenizer, row[side]) for side in ("chosen", "rejected")] for row in rows]
    for name, value in (("likelihood", torch.sum), ("likelihood_per_token", torch.mean)):
        margins = torch.stack([value(chosen) - value(rejected) for chosen, rejected in each])
        assert found[name]["total"] == 40
        assert found[name]["right"] == int((margins > 0).sum())
        assert found[name]["low"] < found[name]["accuracy"] < found[name]["high"]
        assert found[name]["margin"] == pytest.approx(margins.mean().item(), rel=1e-4)
    assert found["left_out"] == 0

    command = ["eval", "reward", str(base_model), "--data", str(file), "--device", "cpu"]
    assert main([*command, "--holdout", "0.3", "--json"]) == 0
    (held_out,) = json.loads(capsys.readouterr().out)["results"]
    assert 0 < held_out["likelihood"]["total"] < 40
    for more, why in ((("--holdout", "0.0001"), "is held out"), (("--seq-len", "4"), "has room for its answers")):
        assert main([*command, *more]) == 2
        assert f"error: {file}: no pair {why}" in capsys.readouterr().err
