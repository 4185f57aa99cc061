"""`from minimind import Model`, as a person would use it."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import minimind
from minimind import Model
from minimind.api import find_newest_model
from minimind.errors import UserError
from minimind.model import load_model
from minimind.tokenizer import Tokenizer

MESSAGES = [{"role": "user", "content": "the cat"}]


@pytest.fixture(scope="module")
def model(talker: Path) -> Model:
    return Model.load(talker, device="cpu")


def test_importing_the_package_is_light() -> None:
    code = "import sys, minimind; minimind.__version__; print({'torch', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
    with pytest.raises(AttributeError, match="no attribute 'Modell'"):
        _ = minimind.Modell


def test_predict_and_stream_of_a_text(model: Model) -> None:
    text = model.predict("the cat", max_tokens=12, seed=1)
    assert text
    assert "".join(model.stream("the cat", max_tokens=12, seed=1)) == text


def test_greedy_prediction_follows_the_logits(model: Model) -> None:
    ids = [model.tokenizer.bos_id, *model.tokenizer.encode("the cat")]
    likeliest = int(model.logits(ids)[-1].argmax())
    assert model.predict("the cat", temperature=0, max_tokens=1) == model.tokenizer.decode([likeliest])


def test_chat_and_stream_of_messages(model: Model) -> None:
    message = model.chat(MESSAGES, max_tokens=12, seed=1)
    assert message["role"] == "assistant"
    assert message["content"]
    assert "".join(model.stream(MESSAGES, max_tokens=12, seed=1)) == message["content"]


def test_thinking_is_kept_apart(model: Model) -> None:
    """This model never closes its thinking, so all of it is thinking."""
    message = model.chat(MESSAGES, open_thinking=True, max_tokens=12, seed=1)
    assert message["content"] == ""
    assert message["reasoning_content"]
    assert list(model.stream(MESSAGES, open_thinking=True, max_tokens=12, seed=1)) == []


def test_score_is_the_loss_of_the_text_and_its_end(model: Model) -> None:
    text = "the cat 水"
    ids = torch.tensor([model.tokenizer.bos_id, *model.tokenizer.encode(text), model.tokenizer.eos_id])
    nats = float(F.cross_entropy(model.logits(ids[:-1]), ids[1:], reduction="sum"))
    score = model.score(text)
    assert score["nats"] == pytest.approx(nats, rel=1e-5)
    assert score["tokens"] == len(ids) - 1
    assert score["bytes"] == 11
    assert score["bits_per_byte"] == pytest.approx(nats / math.log(2) / 11, rel=1e-5)


def test_a_long_text_is_scored_in_pieces(model: Model) -> None:
    text = "the cat sees a tree " * 120
    ids = torch.tensor([model.tokenizer.bos_id, *model.tokenizer.encode(text), model.tokenizer.eos_id])
    context = model.engine.context
    assert len(ids) > 2 * context
    wanted = 0.0
    for start in range(0, len(ids) - 1, context):
        piece = ids[start : start + context + 1]
        wanted += float(F.cross_entropy(model.logits(piece[:-1]), piece[1:], reduction="sum"))
    score = model.score(text)
    assert score["nats"] == pytest.approx(wanted, rel=1e-5)
    assert score["tokens"] == len(ids) - 1


def test_logits_keep_the_shape_of_the_ids(model: Model, talker: Path) -> None:
    ids = torch.arange(12).reshape(2, 2, 3)
    logits = model.logits(ids)
    assert logits.shape == (2, 2, 3, model.tokenizer.vocab_size)
    network = load_model(talker / "model")
    torch.testing.assert_close(logits[1], network.logits(network(ids[1])))
    torch.testing.assert_close(model.logits([0, 1, 2]), logits[0, 0])


def test_a_wrong_sampling_parameter_is_named(model: Model) -> None:
    with pytest.raises(UserError, match=r"temprature is no sampling parameter; there are .*temperature"):
        model.predict("the", temprature=1)


def test_without_a_path_the_newest_model_is_taken(
    talker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer_directory: Path
) -> None:
    from tests.random_models import random_model

    from minimind.model import save_model

    monkeypatch.setenv("MINIMIND_RUNS", str(talker.parent))
    assert find_newest_model() == talker / "model"
    assert Model(device="cpu").directory == talker / "model"
    monkeypatch.delenv("MINIMIND_RUNS")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no finished model in runs/; train one with `minimind quickstart`"):
        Model()
    tokenizer = Tokenizer.load(tokenizer_directory)
    for age, name in enumerate(("new", "group/old", "older")):
        save_model(random_model(vocab_size=tokenizer.vocab_size), Path("runs") / name / "model", tokenizer)
        config = Path("runs") / name / "model" / "config.json"
        os.utime(config, (1e9 - age, 1e9 - age))
    assert find_newest_model() == Path("runs/new/model")
    os.utime("runs/group/old/model/config.json", (2e9, 2e9))
    assert Model(device="cpu").directory == Path("runs/group/old/model")
