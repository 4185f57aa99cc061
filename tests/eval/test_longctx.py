"""Perplexity against the length of the context: what is predicted from what, and the command as typed."""

import itertools
import json
import random
import xml.etree.ElementTree as ET

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers import WORDS, write_jsonl
from tests.random_models import random_ids, random_model

from minimind.cli import main
from minimind.errors import UserError
from minimind.eval.longctx import (
    Windows,
    at_other_positions,
    cut_windows,
    evaluate,
    read_long_texts,
    rope_configs,
)
from minimind.model import Transformer, load_model
from minimind.model.config import RopeScaling
from minimind.model.rope import scale_rope
from minimind.tokenizer import Tokenizer

TRAINED = 16
LENGTHS = (8, 16, 64)
MODEL = random_model(rope_theta=1e4, original_max_position_embeddings=TRAINED)


def long_text(words: int, seed: int = 0) -> str:
    """With characters that take several tokens."""
    draw = random.Random(seed)
    return " ".join(draw.choices([*WORDS, "龘", "🙂", "é"], k=words))


@pytest.fixture(scope="module")
def tokenizer(tokenizer_directory):
    return Tokenizer.load(tokenizer_directory)


# ------------------------------------------------------------------------------------------------ the text


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    words=st.lists(st.integers(0, 400), min_size=1, max_size=4),
    lengths=st.lists(st.integers(2, 150), min_size=1, max_size=3, unique=True).map(sorted),
    most=st.integers(1, 2000),
)
def test_windows_are_pieces_of_the_texts(tokenizer, words, lengths, most):
    texts = [long_text(count, seed) for seed, count in enumerate(words)]
    ids = [[tokenizer.bos_id, *tokenizer.encode(text)] for text in texts]
    targets = min(64, lengths[0] // 2)
    if max(map(len, ids)) < lengths[-1] + targets:
        with pytest.raises(UserError, match="no text is long enough"):
            cut_windows(texts, tokenizer, lengths, most)
        return
    windows = cut_windows(texts, tokenizer, lengths, most)
    count = len(windows.tokens_NT)
    assert windows.targets == targets
    assert 1 <= count <= max(1, most // targets)
    size, place = 0, (0, -1)
    for window in windows.tokens_NT.tolist():
        assert len(window) == lengths[-1] + 1
        places = [
            (n, at)
            for n, text in enumerate(ids)
            for at in range(len(text) - len(window) + 1)
            if text[at : at + len(window)] == window
        ]
        place = min(one for one in places if one > place)  # in order, each at a place of its own
        size += len(tokenizer.decode(window[-targets:]).encode())
    assert windows.bytes == size


def test_targets_are_whole_characters_and_all_of_a_text(tokenizer):
    """But for what comes before the longest context."""
    windows = cut_windows([text := long_text(3000)], tokenizer, (64, 128), most=10**6)
    said = [tokenizer.decode(window[-32:].tolist()) for window in windows.tokens_NT]
    assert not any("\ufffd" in part for part in said)
    assert len([part for part in said if "龘" in part]) > 10
    assert all(part in text for part in said)
    assert len(said) == (len(tokenizer.encode(text)) + 1 - 128) // 32


def test_few_windows_are_spread_evenly(tokenizer):
    ids = tokenizer.encode(text := long_text(1000))
    windows = cut_windows([text], tokenizer, LENGTHS, most=4 * 4)
    starts = [
        next(i for i in range(len(ids)) if ids[i : i + len(window) - 1] == window[1:])
        for window in windows.tokens_NT.tolist()
    ]
    assert len(starts) == 4
    assert starts[0] < 10
    assert starts[-1] > len(ids) - LENGTHS[-1] - 10
    gaps = [b - a for a, b in itertools.pairwise(starts)]
    assert max(gaps) - min(gaps) < 10


def test_a_txt_file_is_one_text_and_a_line_of_jsonl_is_one(tmp_path):
    novel = tmp_path / "novel.txt"
    novel.write_text("One.\n\nTwo,\nthree.\n\n\n四。\n", encoding="utf-8")
    lines = write_jsonl(tmp_path / "lines.jsonl", [{"text": "a\n\nb"}, {"conversations": []}, {"text": "c"}])
    assert list(read_long_texts([novel, lines])) == ["One.\n\nTwo,\nthree.\n\n四。", "a\n\nb", "c"]


# ----------------------------------------------------------------------------------------------- the model


@pytest.mark.parametrize("rope", ["none", "linear", "dynamic", "yarn"])
def test_the_nll_is_that_of_one_window_at_a_time(rope, monkeypatch):
    """Each from a model made for these positions, by the obvious way, in fp64."""
    monkeypatch.setattr("minimind.eval.longctx.BATCH_TOKENS", 200)  # several batches
    config = rope_configs(MODEL.config, [rope], LENGTHS[-1])[rope]
    windows = Windows(random_ids(11, LENGTHS[-1] + 1), targets=4, bytes=123)
    found = evaluate(at_other_positions(MODEL, config), windows, LENGTHS)
    reference = Transformer(config, seed=None)
    reference.load_state_dict(MODEL.state_dict())
    reference.cast(torch.float64)
    for length, nll in zip(LENGTHS, found, strict=True):
        nats = 0.0
        for window in windows.tokens_NT:
            with torch.no_grad():
                logits = reference.logits(reference(window[None, -length - 1 : -1]))[0]
            nats -= float(logits.log_softmax(-1)[range(-4, 0), window[-4:]].sum())
        assert nll.nats == pytest.approx(nats, rel=1e-5)
        assert (nll.tokens, nll.bytes) == (44, 123)


def test_a_context_is_as_long_as_it_is_said_to_be():
    tokens = random_ids(1, LENGTHS[-1] + 1)
    before = evaluate(MODEL, Windows(tokens, 4, 1), LENGTHS)
    for n, length in enumerate(LENGTHS):
        changed = tokens.clone()
        changed[0, -length - 1] = (changed[0, -length - 1] + 1) % 97
        after = evaluate(MODEL, Windows(changed, 4, 1), LENGTHS)
        differs = [abs(a.nats - b.nats) > 1e-6 for a, b in zip(after, before)]
        assert differs == [i >= n for i in range(len(LENGTHS))]


def test_progress_counts_every_token_read():
    read: list[int] = []
    evaluate(MODEL, Windows(random_ids(11, LENGTHS[-1] + 1), 4, 1), LENGTHS, read.append)
    assert sum(read) == 11 * sum(LENGTHS)


def test_other_positions_share_the_weights_and_leave_the_model_as_it_is():
    frequencies = MODEL.frequencies.clone()
    other = at_other_positions(MODEL, scale_rope(MODEL.config, 4))
    assert other.output_weight.data_ptr() == MODEL.output_weight.data_ptr()
    assert not torch.equal(other.frequencies, frequencies)
    assert torch.equal(MODEL.frequencies, frequencies)
    assert MODEL.config.rope_scaling is None


def test_factors():
    configs = rope_configs(MODEL.config, ["yarn", "none", "yarn"], longest=64)
    assert list(configs) == ["none", "yarn"]
    assert configs["none"] == MODEL.config
    assert configs["yarn"] == scale_rope(MODEL.config, 4)
    stretched = scale_rope(MODEL.config, 8)
    assert stretched.rope_scaling == RopeScaling("yarn", 8.0, TRAINED)
    assert rope_configs(stretched, ["yarn"], 64)["yarn"] == stretched, "its own factor"
    assert rope_configs(stretched, ["none"], 64)["none"].rope_scaling is None
    assert rope_configs(stretched, ["linear"], 64, factor=2)["linear"] == scale_rope(MODEL.config, 2, "linear")
    assert rope_configs(MODEL.config, ["yarn"], 64, trained=32)["yarn"] == scale_rope(MODEL.config, 2, trained=32)


# --------------------------------------------------------------------------------------------- the command


@pytest.fixture
def novel(tmp_path):
    file = tmp_path / "novel.txt"
    file.write_text(long_text(600).replace("cat", "cat\n\n"), encoding="utf-8")
    return file


def command(model, novel, *more):
    out = ["--out", str(novel.with_name("plot.svg"))]
    return ["eval", "longctx", str(model), "--data", str(novel), "--lengths", "16", "32", "64", *out, *more]


def test_a_trained_model_needs_no_more_than_a_text(pretrain, tmp_path, novel, capsys):
    run = tmp_path / "run"
    assert main(pretrain(run, budget__steps=2)) == 0
    capsys.readouterr()
    assert main(command(run, novel, "--json")) == 0
    report = json.loads(capsys.readouterr().out)
    assert [curve["rope"] for curve in report["curves"]] == ["none", "linear", "dynamic", "yarn"]
    for curve in report["curves"]:
        assert [point["length"] for point in curve["points"]] == [16, 32, 64]
        assert len({(point["tokens"], point["bytes"]) for point in curve["points"]}) == 1, "the same targets"
    assert report["curves"][-1]["config"] == {
        "max_position_embeddings": 64,
        "original_max_position_embeddings": 32,
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 2.0,
            "original_max_position_embeddings": 32,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
        },
    }
    nats = {curve["rope"]: [point["nats"] for point in curve["points"]] for curve in report["curves"]}
    assert nats["dynamic"][:2] == nats["none"][:2], "nothing changes up to the trained length"
    assert nats["dynamic"][2] != nats["none"][2]
    plot = ET.fromstring((tmp_path / "plot.svg").read_text())
    assert len([line for line in plot.iter() if line.tag.endswith("polyline")]) == 4


def test_what_it_says_to_keep_can_be_kept(talker, tmp_path, novel, capsys):
    model = load_model(talker / "model")
    assert main(command(talker, novel, "--trained", "32", "--rope", "yarn", "--factor", "3")) == 0
    said = capsys.readouterr().out
    assert "best after 64 tokens: yarn" in said
    kept = json.loads(said[said.index("{") :])
    directory = tmp_path / "kept"
    directory.mkdir()
    for file in (talker / "model").iterdir():
        (directory / file.name).write_bytes(file.read_bytes())
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, **kept}))
    assert load_model(directory).config == scale_rope(model.config, 3, trained=32)
    assert main(command(directory, novel, "--rope", "yarn")) == 0
    again = capsys.readouterr().out
    assert "to keep it" not in again, "it is kept"
    assert again.splitlines()[:-1] == said.splitlines()[: len(again.splitlines()) - 1], "the same figures"


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--lengths", "64", "32"], "--lengths 64 32: give lengths of at least 2 tokens, each longer than the one"),
        (["--lengths", "1", "32"], "argument --lengths: expected a whole number from 2"),
        (["--lengths", "16", "5000"], "no text is long enough: a context of 5000 tokens takes one of 5008; name a"),
        (["--rope", "yarn", "ntk"], "--rope ntk: there are none, linear, dynamic, yarn"),
        (
            ["--trained", "64"],
            "a factor of 1 stretches nothing: the model was trained at 64 tokens, the longest of",
        ),
        (["--factor", "nan"], "argument --factor: expected a number from 1"),
        (["--factor", "inf"], "argument --factor: expected a number from 1"),
        (["--out", "plot.png"], "cannot draw plot.png: end its name in .svg"),
        (["--data", "chats"], "has no text; the first line: "),
        (["--data", "/no/such.txt"], "/no/such.txt does not exist"),
    ],
)
def test_mistakes(talker, novel, chat_file, capsys, more, sentence):
    argv = [word if word != "chats" else str(chat_file) for word in more]
    trained = [] if "--trained" in more else ["--trained", "16"]
    assert main(command(talker, novel, *trained, *argv)) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert sentence in captured.err
    assert not captured.out


def test_an_unknown_trained_length(talker, novel, capsys):
    assert main(command(talker, novel)) == 2
    said = capsys.readouterr().err
    assert "config.json does not record the length that the model was trained at; give --trained" in said
    assert main(command(talker, novel, "--rope", "none")) == 0, "where it is not needed"
