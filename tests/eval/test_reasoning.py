"""The same questions with thinking and without: what counts, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.helpers import write_jsonl
from tests.random_models import random_model

from minimind.cli import main
from minimind.errors import UserError
from minimind.eval.reasoning import compare, read_questions
from minimind.eval.skills import Score, grade
from minimind.infer.request import Completion
from minimind.model import save_model
from minimind.tokenizer import Tokenizer
from minimind.world.sample import Question, assistant, user

SUM = Question("sums", "en", [user("What is 345 + 278?"), assistant("")], ["623"])


@pytest.fixture(scope="module")
def tokenizer(tokenizer_directory: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_directory)


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("5 + 8 = 13\n</think>\n\n345 + 278 = 623", True),
        ("</think>\n\n623", True),
        ("So it is 623.", False),  # the thought has no end
        ("So it is 623.\n</think>\n\n", False),
        ("So it is 623.\n</think>\n\n622", False),
        ("622\n</think>\n\n623\n</think>\n\n624", False),
    ],
)
def test_only_the_answer_after_the_thought_counts(said: str, right: bool) -> None:
    assert grade(SUM, said, open_thinking=True) == right


class Answers:
    """An engine that gives the prepared answers, in two rounds."""

    context = 600

    def __init__(self, tokenizer: Tokenizer, *rounds: list[tuple[str, str]]) -> None:
        self.tokenizer, self.rounds, self.asked = tokenizer, list(rounds), []  # type: ignore[var-annotated]

    def generate(self, prompts: list[list[int]], params: Any) -> list[Completion]:
        self.asked.append((self.tokenizer.decode(prompts[0], skip_special=False), params.thinking_budget))
        answers = [(self.tokenizer.backend.encode(text).ids, reason) for text, reason in self.rounds.pop(0)]
        return [Completion(ids, reason, [0.0] * len(ids)) for ids, reason in answers]  # type: ignore[arg-type]


def test_the_report(tokenizer: Tokenizer) -> None:
    at_once = [("622", "stop"), ("623", "length"), ("623", "stop")]
    thought = [("the cat\n</think>\n\n623", "stop"), ("</think>\n\n623", "stop"), ("red red red", "length")]
    engine = Answers(tokenizer, at_once, thought)
    report = compare(engine, tokenizer, [SUM] * 3, max_tokens=9, budget=7)  # type: ignore[arg-type]
    assert report.off.scores == {"sums": Score(1, 3)}
    assert report.on.scores == {"sums": Score(2, 3)}
    assert report.off.thought_tokens == 0
    lengths = [len(tokenizer.encode(text)) for text in ("the cat", "", "red red red")]
    assert report.on.thought_tokens == pytest.approx(sum(lengths) / 3)
    assert [budget for _, budget in engine.asked] == [None, 7]
    assert engine.asked[0][0].endswith("<think>\n\n</think>\n\n")
    assert engine.asked[1][0].endswith("<|im_start|>assistant\n<think>\n")
    assert report.rows()[1][:2] == ("sums", "33.3%")
    assert report.rows()[1][3:] == ("66.7%", "20.8% to 93.9%", "3")


def test_files(tmp_path: Path) -> None:
    rows = [
        {"conversations": [user("1 + 1?"), assistant("")], "gt": ["2"], "source": "sums"},
        {"conversations": [user("1 + 2?"), assistant("It is 3.")], "gt": ["3"]},
        {"conversations": [user("1 + 3?"), assistant("")], "gt": ["4"]},
    ]
    file = write_jsonl(tmp_path / "math.jsonl", rows)
    first, second = read_questions([file], most=2)
    assert (first.skill, first.prompt, first.gt) == ("math", [user("1 + 1?")], ["2"])
    assert (second.prompt, second.gt) == ([user("1 + 2?")], ["3"])
    plain = write_jsonl(tmp_path / "plain.jsonl", [{"conversations": [user("a"), assistant("b")]}])
    with pytest.raises(UserError, match=r'plain.jsonl has no question with a "gt"'):
        read_questions([plain], most=2)
    (tmp_path / "bad.jsonl").write_text("{\n")
    with pytest.raises(UserError, match=r"bad.jsonl:1: not JSON"):
        read_questions([tmp_path / "bad.jsonl"], most=2)


def test_the_command(tmp_path: Path, tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(random_model(vocab_size=tokenizer.vocab_size), tmp_path / "m", tokenizer)
    common = ["eval", "reasoning", str(tmp_path / "m"), "--device", "cpu", "--max-tokens", "12", "--per-skill", "4"]
    assert main([*common, "--thinking-budget", "3", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report["off"]["skills"]) == set(report["on"]["skills"]) == {"three_digits", "two_steps"}
    assert report["on"]["skills"]["two_steps"]["total"] == 4
    assert report["on"]["thought_tokens"] > 0
    assert main(common) == 0
    assert "tokens of thinking before an answer" in capsys.readouterr().out
