"""What counts as a right tool call, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.helpers import write_jsonl
from tests.random_models import random_model

from minimind.cli import main
from minimind.errors import UserError
from minimind.eval.skills import Score
from minimind.eval.toolcall import Case, cases_of, evaluate, grade, read_cases, world_cases
from minimind.infer.request import Completion
from minimind.model import save_model
from minimind.tokenizer import Tokenizer, parse_assistant

TOOLS = '[{"type": "function", "function": {"name": "f", "parameters": {}}}]'
F = {"name": "f", "arguments": {"x": 1, "y": "a"}}
G = {"name": "g", "arguments": {}}


def spell(*calls: dict[str, Any]) -> str:
    return "\n".join(f"<tool_call>\n{json.dumps(call)}\n</tool_call>" for call in calls)


@pytest.mark.parametrize(
    ("wanted", "said", "ended", "right"),
    [
        ([F], spell(F), True, ["called", "valid", "name", "arguments"]),
        (
            [F],
            spell({"arguments": {"y": "a", "x": 1.0}, "name": "f"}),
            True,
            ["called", "valid", "name", "arguments"],
        ),
        ([F], "Well: " + spell(F), True, ["called", "valid", "name", "arguments"]),
        ([F, G], spell(G, F), True, ["called", "valid", "name", "arguments"]),
        ([F], spell({**F, "arguments": {"x": 2, "y": "a"}}), True, ["called", "valid", "name"]),
        ([F, F], spell(F, {**F, "arguments": {}}), True, ["called", "valid", "name"]),
        ([F], spell(G), True, ["called", "valid"]),
        ([F], spell(F, F), True, ["called", "valid"]),
        ([F, G], spell(F), True, ["called", "valid"]),
        ([F], '<tool_call>\n{"name": "f", "arguments": {\n</tool_call>', True, ["called"]),
        ([F], spell(F) + "\n<tool_call>\n{", True, ["called"]),
        ([F], spell(F), False, []),
        ([F], "f(x=1)", True, []),
        ([], "Hello.", True, ["silent"]),
        ([], spell(F), True, []),
        ([], "<tool_call>{", True, []),
    ],
)
def test_grades(wanted: list[dict[str, Any]], said: str, ended: bool, right: list[str]) -> None:
    marks = grade(wanted, parse_assistant(said), ended)
    assert [measure for measure, is_right in marks.items() if is_right] == right
    assert set(marks) == ({"called", "valid", "name", "arguments"} if wanted else {"silent"})


TALK = [
    {"role": "system", "content": "", "tools": TOOLS},
    {"role": "user", "content": "the cat"},
    {"role": "assistant", "content": "", "tool_calls": json.dumps([F])},
    {"role": "tool", "content": "blue"},
    {"role": "assistant", "content": "red"},
]


def test_every_turn_of_the_assistant_is_a_question() -> None:
    first, second = cases_of(TALK)
    assert (first.calls, [message["role"] for message in first.messages]) == ([F], ["system", "user"])
    assert (second.calls, len(second.messages)) == ([], 4)
    assert first.tools == second.tools == json.loads(TOOLS)
    assert cases_of(TALK[1:]) == []


def test_files(tmp_path: Path) -> None:
    plain = {"conversations": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    file = write_jsonl(tmp_path / "tools.jsonl", [{"conversations": TALK}, plain])
    assert len(read_cases([file])) == 2
    with pytest.raises(UserError, match=r"plain.jsonl has no conversation with tools"):
        read_cases([write_jsonl(tmp_path / "plain.jsonl", [plain])])
    broken = [*TALK[:2], {**TALK[2], "tool_calls": '[{"name": "f", "arguments": "{"}]'}]
    with pytest.raises(UserError, match=r"broken.jsonl:2: message 3: the arguments of a tool call are not JSON"):
        read_cases([write_jsonl(tmp_path / "broken.jsonl", [{"conversations": TALK}, {"conversations": broken}])])
    (tmp_path / "bad.jsonl").write_text("{\n")
    with pytest.raises(UserError, match=r"bad.jsonl:1: not JSON"):
        read_cases([tmp_path / "bad.jsonl"])


def test_the_worlds_questions_want_one_call_each() -> None:
    cases = world_cases(seed=1, count=30)
    assert len({case.messages[-1]["content"] for case in cases}) == 30
    for case in cases:
        assert case.calls[0]["name"] in [tool["function"]["name"] for tool in case.tools]
    assert cases == world_cases(seed=1, count=30) != world_cases(seed=2, count=30)


class Answers:
    """An engine that gives the prepared answers."""

    context = 600

    def __init__(self, tokenizer: Tokenizer, *texts: str) -> None:
        self.ids = [tokenizer.backend.encode(text, add_special_tokens=False).ids for text in texts]

    def generate(self, prompts: list[list[int]], params: Any) -> list[Completion]:
        assert params.temperature == 0
        assert len(prompts) == len(self.ids)
        return [Completion(ids, "stop", [0.0] * len(ids)) for ids in self.ids]


def test_the_report(tokenizer_directory: Path) -> None:
    tokenizer = Tokenizer.load(tokenizer_directory)
    long = Case([{"role": "user", "content": "x" * 1000}], json.loads(TOOLS), [F])
    cases = [*cases_of(TALK), long, *cases_of(TALK[:3])]
    report = evaluate(Answers(tokenizer, spell(F), "red", spell(G)), tokenizer, cases)
    assert report.too_long == 1
    assert report.scores == {
        "called": Score(2, 2),
        "valid": Score(2, 2),
        "name": Score(1, 2),
        "arguments": Score(1, 2),
        "silent": Score(1, 1),
    }
    assert report.answers[0]["answer"] == spell(F)
    assert report.rows()[3] == ("the right tools", "50.0%", "9.5% to 90.5%", "2")
    with pytest.raises(UserError, match="no conversation fits into the model's context of 600 tokens"):
        evaluate(Answers(tokenizer), tokenizer, [long])


def test_the_command(tmp_path: Path, tokenizer_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = Tokenizer.load(tokenizer_directory)
    save_model(
        random_model(vocab_size=tokenizer.vocab_size, max_position_embeddings=1024), tmp_path / "m", tokenizer
    )
    file = write_jsonl(tmp_path / "tools.jsonl", [{"conversations": TALK}])
    command = ["eval", "toolcall", str(tmp_path / "m"), "--device", "cpu", "--max-tokens", "8", "--data", str(file)]
    assert main([*command, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["scores"]["called"]["total"] == report["scores"]["silent"]["total"] == 1
    assert main([*command, "--questions", "1"]) == 0
    assert "with the right arguments" in capsys.readouterr().out
    assert main([*command, "--questions", "0"]) == 2
