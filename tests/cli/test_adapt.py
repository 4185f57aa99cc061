"""`minimind adapt`: from a folder and a FAQ to an expert, on a tiny model."""

import json
import os
import signal

import pytest
from tests.helpers import chats, texts, write_jsonl

from minimind import Model, adapt
from minimind.cli import main
from minimind.plan import adaptation
from minimind.train.trainer import Trainer

ANSWER = "the old cat sleeps"


@pytest.fixture
def given(tmp_path, base_model, monkeypatch):
    """The command's arguments but for --out: 30 pages, 20 questions, general data of both kinds."""
    monkeypatch.setattr(adaptation, "FEWEST_TOKENS", 500)
    monkeypatch.setattr(adapt, "GENERAL_HELD_OUT", 0.2)
    folder = tmp_path / "notes"
    folder.mkdir()
    for number, text in enumerate(texts(30, seed=5)):
        (folder / f"{number:02}.md").write_text(f"# {number}\n\n{text}", encoding="utf-8")
    (folder / "photo.jpg").write_bytes(b"\xff\xd8")
    faq = tmp_path / "faq.md"
    faq.write_text(
        "".join(f"Q: who sees {text}\nA: {{{{name}}}} {ANSWER}\n" for text in texts(20, 6, 6)), encoding="utf-8"
    )
    general = [
        write_jsonl(tmp_path / "general.jsonl", ({"text": text} for text in texts(60, seed=7))),
        write_jsonl(tmp_path / "chats.jsonl", ({"conversations": chat} for chat in chats(60, seed=8))),
    ]
    small = [
        f"--{step}.{flag}"
        for step in ("texts", "faq")
        for flag in ("compile=false", "device=cpu", "precision=fp32")
    ]
    small = [word for flag in small for word in flag.split("=")]
    sources = ["--texts", folder, "--faq", faq, "--fill", "name=Mia", "--replay", *general, "--questions", "1"]
    return ["adapt", "--from", base_model, *sources, "--passes", "2", *small]


def run(given, out, *more):
    return main([*map(str, given), "--out", str(out), *more])


def weights(out):
    return [next((out / name / "model").glob("*.safetensors")).read_bytes() for name in ("texts", "faq")]


def test_the_whole_way_and_again(given, tmp_path, capsys):
    out = tmp_path / "expert"
    assert run(given, out, "--holdout", "0.2") == 0
    said = capsys.readouterr()
    for sentence in (
        "texts: 30 documents of 30 files, 1 left out",
        "continued pretraining:",
        "2 passes, as asked",
        "% replay:",
    ):
        assert sentence in said.err, sentence
    for word in (
        "domain texts",
        "general faq",
        "held out",
        f"minimind chat {out / 'faq'}",
        f"minimind serve {out / 'faq'}",
    ):
        assert word in said.out, word
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert set(results["bits_per_byte"]) == {f"{a} {b}" for a in ("domain", "general") for b in ("texts", "faq")}
    for one in results["bits_per_byte"].values():
        assert one["held_out"]
        assert one["low"] <= one["difference"] <= one["high"]
        assert one["difference"] == pytest.approx(one["after"] - one["before"])
    assert results["bits_per_byte"]["domain faq"]["high"] < 0  # all answers are the same: they are learned
    assert results["skills"] == {}  # a random model has none to forget
    assert set(results["answers"]) == {"trained", "held_out"}
    assert [training["passes"] for training in results["trainings"]] == [2, 2]
    page = (out / "report.html").read_text(encoding="utf-8")
    for word in ("photo.jpg", "学到的与忘掉的", "<svg", "Mia"):
        assert word in page, word
    assert Model.load(out / "faq", device="cpu").chat([{"role": "user", "content": "who?"}], max_tokens=4)[
        "content"
    ]

    before = weights(out)
    assert run(given, out, "--holdout", "0.2", "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert again["bits_per_byte"] == results["bits_per_byte"]
    assert weights(out) == before
    assert run(given, out, "--holdout", "0.3") == 2
    assert "was begun with another holdout; choose another --out" in capsys.readouterr().err


def test_what_is_held_out_is_not_trained_on(given, tmp_path):
    out = tmp_path / "expert"
    assert run(given, out, "--holdout", "0.2") == 0
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    trained = {tuple(m["content"] for m in row["question"]) for row in results["answers"]["trained"]["samples"]}
    held_out = {tuple(m["content"] for m in row["question"]) for row in results["answers"]["held_out"]["samples"]}
    assert len(held_out) == results["bits_per_byte"]["domain faq"]["documents"]
    assert not trained & held_out
    for step in ("texts", "faq"):
        recipe = (out / step / "recipe.yaml").read_text(encoding="utf-8")
        assert "holdout: 0.2" in recipe
        general = results["trainings"][("texts", "faq").index(step)]["parts"][1]
        assert 0 < general["documents"] < 60


def test_stopped_and_continued_it_ends_with_the_same_bits(given, tmp_path, monkeypatch, capsys):
    assert run(given, tmp_path / "whole") == 0
    step = Trainer.train_step

    def step_and_interrupt(self, batch):
        step(self, batch)
        if self.progress.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Trainer, "train_step", step_and_interrupt)
    for _ in ("texts", "faq"):
        capsys.readouterr()
        assert run(given, tmp_path / "halves") == 130
        assert "the same command again goes on" in capsys.readouterr().err
    monkeypatch.setattr(Trainer, "train_step", step)
    assert run(given, tmp_path / "halves") == 0
    assert weights(tmp_path / "halves") == weights(tmp_path / "whole")


def test_a_dry_run_says_what_and_leaves_nothing(given, tmp_path, capsys):
    assert run(given, tmp_path / "expert", "--dry-run", "--pretrain", "no") == 0
    said = capsys.readouterr().out
    assert "no continued pretraining, as asked" in said
    assert "set by you: --compile false --device cpu --precision fp32" in said
    assert "\nfaq: sft" in said
    assert "\ntexts: pretrain" not in said
    for word in ("all weights: 160 tokens", "about", "in the timed step"):
        assert word in said, word
    assert not (tmp_path / "expert").exists()


def test_all_that_is_given_may_be_in_another_encoding(given, tmp_path, capsys):
    mixtures = []
    for encoding in ("utf-8", "gb18030"):
        for file in (*tmp_path.glob("*.jsonl"), *tmp_path.rglob("*.md")):
            file.write_bytes(file.read_text(encoding="utf-8").encode(encoding))
        assert run(given, tmp_path / "expert", "--dry-run", "--pretrain", "no", "--encoding", encoding) == 0
        mixtures.append([line for line in capsys.readouterr().out.splitlines() if line.startswith("  data ")])
    assert mixtures[0] == mixtures[1]
    assert mixtures[0][0].count("documents") == 2


def test_it_is_no_work_for_several_processes(given, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run(given, tmp_path / "expert") == 2
    assert capsys.readouterr().err.endswith("start it without torchrun\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give texts to learn (--texts FOLDER), questions and answers (--faq FILE), or both"),
        (["--texts", "NONE"], "NONE does not exist"),
        (["--faq", "FAQ", "--frobnicate", "1"], "unknown option --frobnicate"),
        (["--faq", "FAQ", "--other.batch.seq_len", "1"], "unknown option --other.batch.seq_len"),
        (["--faq", "FAQ", "--faq.batch.seqlen", "1"], "batch.seqlen"),
        (["--faq", "FAQ", "--fill", "Mia"], "expected NAME=TEXT"),
        (["--texts", "SHORT"], "nothing is left to train on"),
    ],
)
def test_mistakes_are_one_sentence(base_model, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "faq.jsonl", [{"question": "the cat", "answer": "sleeps"}])
    (tmp_path / "short.md").write_text("the cat")
    names = {"FAQ": "faq.jsonl", "SHORT": "short.md"}
    words = [
        "adapt",
        "--from",
        str(base_model),
        "--out",
        "out",
        "--questions",
        "0",
        *(names.get(w, w) for w in arguments),
    ]
    assert main(words) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
