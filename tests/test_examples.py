"""Every example runs, as its reader would run it."""

from __future__ import annotations

import io
import re
import runpy
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from tests.helpers import texts
from tests.serve.conftest import serve

from minimind import Model

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run(monkeypatch, capsys):
    """`run(name, *arguments, said="")`: what an example prints."""

    def call(name, *arguments, said=""):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(said))
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return call


def test_the_tutor_answers_every_question(run, talker):
    said = run("tutor.py", talker, "--role", "kind", said="the cat?\n\nand the dog?\nand the bird?\n")
    assert re.findall(r"^\S.*", said, re.MULTILINE) == ["the cat?", "and the dog?", "and the bird?"]


def test_attention_is_shown_for_every_word_and_head(run, talker):
    said = run("look_at_attention.py", talker, "the cat sleeps", "--layer", "0")
    model = Model.load(talker)
    heads, words = model.model.config.num_attention_heads, len(model.tokenizer.encode("the cat sleeps"))
    assert said.count("looks at") == heads * words


def test_the_next_word_at_every_temperature(run, talker):
    lines = run("next_word.py", talker, "the cat", "--temperatures", "0.1", "1", "9").splitlines()
    assert len(lines) == 10
    chances = [[float(share) for share in re.findall(r"([\d.]+)%", line)] for line in lines[1:-1]]
    assert all(one >= other for row, after in pairwise(chances) for one, other in zip(row, after))
    cold, _, hot = chances[0]
    assert cold > hot


def test_a_model_from_nothing_learns(run, tmp_path):
    (tmp_path / "text.txt").write_text("\n".join(texts(60)), encoding="utf-8")
    said = run("train_from_scratch.py", tmp_path / "text.txt", "--steps", "60")
    first, *_, last = (float(loss) for loss in re.findall(r"loss ([\d.]+)", said))
    assert last < 0.7 * first


def test_the_bot_talks_to_a_server(run, talker):
    with serve(Model(talker, device="cpu")) as server:
        said = run("faq_bot.py", "the cat?", "the dog?", "--url", f"{server.url}/v1")
    assert re.findall(r"^\S.*", said, re.MULTILINE)[:2] == ["the cat?", "the dog?"]
    assert len(said) > len("the cat?the dog?") + 20


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
def test_every_example_is_listed(name):
    listed = set(re.findall(r"\]\((\w+\.py)\)", (EXAMPLES / name).read_text(encoding="utf-8")))
    assert listed == {path.name for path in EXAMPLES.glob("*.py")}
