"""What counts as a right tool call, and the command."""

from __future__ import annotations

import json
from itertools import islice
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
from minimind.world.chats import conversations
from minimind.world.skills import new_tools, tools

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
    marks = grade(Case([], [], wanted), parse_assistant(said), ended)
    assert [measure for measure, is_right in marks.items() if is_right] == right
    assert set(marks) == ({"called", "valid", "name", "arguments"} if wanted else {"silent"})


@pytest.mark.parametrize(
    ("said", "ended", "right"),
    [
        ("The price of tea is 1,250 today.", True, ["silent", "result"]),
        ("「TEA」的价格是 1,250。", True, ["silent", "result"]),
        ("The price of tea is 1,25.", True, ["silent"]),
        ("The price of tea is 11,250.", True, ["silent"]),
        ("1,250", True, ["silent"]),
        ("The price of tea is 1,250", False, ["silent"]),
        ("The price of tea is 1,250" + spell(F), True, []),
    ],
)
def test_an_answer_states_what_came_back(said: str, ended: bool, right: list[str]) -> None:
    marks = grade(Case([], [], [], stated=("1,250", "tea")), parse_assistant(said), ended)
    assert [measure for measure, is_right in marks.items() if is_right] == right
    assert set(marks) == {"silent", "result"}


@pytest.mark.parametrize(
    ("results", "answer", "stated"),
    [
        (['{"price": 7.5, "unit": "kg", "ok": true}'], "It costs 7.5 per kilo.", {"7.5"}),
        (
            ['{"a": [{"b": "Blue Whale"}, 3]}', '{"c": null, "d": "x"}'],
            "3 blue whales: a Blue Whale.",
            {"blue whale", "3"},
        ),
        (["42"], "It is 42.", {"42"}),
        (["sunny"], "北京天气sunny。", {"sunny"}),
        (['{"error": "no such city"}'], "I could not find it.", set()),
        (['{"weather": "晴", "degrees": 12}'], "天气晴，12 度。", {"晴", "12"}),
        (['{"n": 12}'], "There are 120 of them.", set()),
    ],
)
def test_what_an_answer_must_state(results: list[str], answer: str, stated: set[str]) -> None:
    """The values of the results that the answer in the data states."""
    before = [*TALK[:3], *({"role": "tool", "content": result} for result in results)]
    last = cases_of([*before, {"role": "assistant", "content": answer}])[-1]
    assert set(last.stated) == stated


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


@pytest.mark.parametrize("new", [False, True])
def test_the_worlds_questions_are_of_three_kinds(new: bool) -> None:
    cases = world_cases(seed=1, count=30, new=new)
    calls = [case for case in cases if case.calls]
    answers = [case for case in cases if case.stated]
    assert len(calls) == len(answers) == 30
    assert len(cases) == 90
    assert len({case.messages[-1]["content"] for case in calls}) == 30
    for case in calls:
        assert case.calls[0]["name"] in [tool["function"]["name"] for tool in case.tools]
    assert all(case.messages[-1]["role"] == "tool" for case in answers)
    assert cases == world_cases(seed=1, count=30, new=new) != world_cases(seed=2, count=30, new=new)


def test_new_tools_are_in_no_training_of_the_world() -> None:
    trained = {name for one in islice(conversations(0), 3000) for name in offered(one["conversations"])}
    assert trained == {tool.name for tool in tools.TOOLS}
    new = {tool.name for tool in new_tools.NEW_TOOLS}
    assert not new & trained
    asked = [case for case in world_cases(seed=0, count=40, new=True) if case.calls]
    assert {case.calls[0]["name"] for case in asked} == new


def offered(messages: list[dict[str, Any]]) -> list[str]:
    system = messages[0].get("tools", "[]")
    return [tool["function"]["name"] for tool in json.loads(system)]


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


def test_the_command_on_the_world(
    tmp_path: Path, tokenizer_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = Tokenizer.load(tokenizer_directory)
    save_model(
        random_model(vocab_size=tokenizer.vocab_size, max_position_embeddings=1024), tmp_path / "m", tokenizer
    )
    command = ["eval", "toolcall", str(tmp_path / "m"), "--device", "cpu", "--max-tokens", "2", "--questions", "2"]
    assert main([*command, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    for suite in (report, report["new_tools"]):
        totals = {measure: score["total"] for measure, score in suite["scores"].items()}
        assert totals == {"called": 2, "valid": 2, "name": 2, "arguments": 2, "silent": 4, "result": 2}
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "with tools that no training of the world offers:" in said
    assert said.count("the result in its answer") == 2
