"""Prompts from files, the curriculum that chooses among them, and warnings."""

import json
from collections import Counter
from functools import partial

import numpy as np
import pytest
from tests.helpers import evaluations, make_trainer, metrics

from minimind.cli import main
from minimind.rl import warnings
from minimind.rl.prompts.curriculum import LEAST, Curriculum, kind
from minimind.rl.types import Prompt, Rollout


def lines(count=60, **more):
    """Sums, as RL data with ground truth."""
    for a in range(count):
        said = [{"role": "user", "content": f"{a} + {a} = ?"}, {"role": "assistant", "content": ""}]
        yield {"conversations": said, "gt": [str(2 * a)], **more}


def write(path, records):
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    return path


@pytest.fixture
def sums(tmp_path):
    return write(tmp_path / "sums.jsonl", lines())


def of_files(grpo, out, files, **changes):
    settings = {"evaluation__holdout": 0.4, "budget__steps": 2} | changes
    return [*grpo(out, **settings), "--data", *map(str, files)]


def asked(trainer, step):
    return [prompt.messages[-1]["content"] for prompt in trainer.source.prompts.training(step)]


def test_the_prompts_of_a_file_are_asked_once_in_an_epoch(grpo, sums, tmp_path):
    trainer = make_trainer(of_files(grpo, tmp_path / "run", [sums]))
    said = [prompt.messages[-1]["content"] for prompt in trainer.setup.data.prompts]
    rest = {said[at] for at in trainer.setup.train_documents}
    held_out = {said[at] for at in trainer.setup.held_out}
    assert rest | held_out == {record["conversations"][0]["content"] for record in lines()}
    assert len(trainer.evaluation.prompts) == 4  # rl.questions
    assert {prompt.messages[-1]["content"] for prompt in trainer.evaluation.prompts} <= held_out
    steps = len(rest) // 4
    trained = [one for step in range(steps) for one in asked(trainer, step)]
    assert len(set(trained)) == len(trained)
    assert set(trained) <= rest
    assert not set(trained) & held_out
    assert asked(trainer, 3) == asked(make_trainer(of_files(grpo, tmp_path / "other", [sums])), 3)
    assert asked(trainer, 0) != asked(trainer, steps)
    others = [prompt.messages for prompt in trainer.source.prompts.training(0, 1)]
    assert others == [prompt.messages for prompt in trainer.source.prompts.training(0, 1)]


def test_prompts_without_room_for_an_answer_are_left_out(grpo, tmp_path, capsys):
    long = {"messages": [{"role": "user", "content": "why " * 200}], "gt": ["x"]}
    file = write(tmp_path / "data.jsonl", [*lines(30), long])
    trainer = make_trainer(of_files(grpo, tmp_path / "run", [file]))
    assert "1 prompts and rl.max_tokens do not fit batch.seq_len: left out" in capsys.readouterr().err
    assert len(trainer.setup.train_documents) + len(trainer.setup.held_out) == 30


def test_what_is_known_of_a_prompt(grpo, tmp_path):
    tools = json.dumps([{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}])
    records = [
        *lines(4, source="sums"),
        {"messages": [{"role": "user", "content": "Say dog"}], "gt": "dog", "check": "exact"},
        {
            "conversations": [{"role": "user", "content": "Add"}, {"role": "assistant", "content": "an answer"}],
            "gt": [1, 2],
            "tools": tools,
        },
        {
            "conversations": [{"role": "user", "content": "Name a color"}],
            "gt": ["red", "blue"],
            "check": "list",
            "count": 1,
        },
    ]
    trainer = make_trainer(of_files(grpo, tmp_path / "run", [write(tmp_path / "data.jsonl", records)]))
    prompts = {one.messages[-1]["content"]: one for one in trainer.setup.data.prompts}
    assert prompts["3 + 3 = ?"].source == "sums"
    assert prompts["3 + 3 = ?"].grade("That is 6.") == 1
    assert prompts["Say dog"].source == "data"
    assert [prompts["Say dog"].grade(text) for text in ("dog", "a dog")] == [1, 0]
    assert prompts["Add"].gt == ["1", "2"]
    assert prompts["Add"].tools[0]["function"]["name"] == "add"
    assert [prompts["Add"].grade(text) for text in ("1 and 2", "2")] == [1, 0.5]
    assert [prompts["Name a color"].grade(text) for text in ("blue", "green")] == [1, 0]


def test_data_of_the_public_minimind_without_ground_truth(grpo, tmp_path):
    """The score is the mean reward then."""
    said = lambda n: [{"role": "user", "content": f"Tell me {n}"}, {"role": "assistant", "content": ""}]  # noqa: E731
    file = write(tmp_path / "rlaif.jsonl", ({"conversations": said(n)} for n in range(40)))
    run = tmp_path / "run"
    assert main(of_files(grpo, run, [file], rl__rewards=["length=1,target=12", "ended=0"])) == 0
    for line in metrics(run):
        if "eval" not in line:
            assert line["reward"] == pytest.approx(line["reward_length"])
    assert 0 < evaluations(run)[-1]["eval"]["score"] <= 1


def test_a_run_on_a_file_is_resumed_exactly(grpo, sums, stopped_and_whole):
    training = partial(of_files, grpo, files=[sums])
    stopped_and_whole(training, 2, rl__curriculum=True, budget__steps=4)


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"conversations": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}, 'no "gt"'),
        ({"conversations": [{"role": "assistant", "content": "Ho"}], "gt": ["Ho"]}, ""),
        ({"text": "once"}, "another kind of data: this is pretrain"),
        ({"messages": [{"role": "user", "content": "Hi"}], "gt": ["x"], "check": "number"}, "gt 'x' is no number"),
        ({"messages": [{"role": "user", "content": "Hi"}], "gt": ["x"], "check": "sum"}, "there is no check sum"),
        ({"messages": [{"role": "user", "content": "Hi"}], "gt": ["x"], "count": "many"}, "count is no number"),
    ],
)
def test_bad_lines_are_named(grpo, tmp_path, capsys, record, why):
    file = write(tmp_path / "data.jsonl", [*lines(3), record])
    assert main(of_files(grpo, tmp_path / "run", [file])) == 2
    said = capsys.readouterr().err
    assert f"{file}:4: " in said
    assert why in said


def test_changed_ground_truth_is_changed_data(grpo, sums, tmp_path, capsys):
    assert main(of_files(grpo, tmp_path / "run", [sums], budget__steps=1)) == 0
    write(sums, ({**record, "gt": ["7"]} for record in lines()))
    assert main(of_files(grpo, tmp_path / "run", [sums], budget__steps=2)) == 2
    assert "has changed since it began" in capsys.readouterr().err


def test_nothing_held_out_is_refused(grpo, sums, tmp_path, capsys):
    assert main(of_files(grpo, tmp_path / "run", [sums], evaluation__holdout=0)) == 2
    assert "of 60 prompts none is held out" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------- the curriculum


def prompt(source, gt="12"):
    return Prompt([{"role": "user", "content": source}], [gt], lambda text: float(text == gt), source=source)


def answer(asked, right):
    return Rollout(asked, [], [], [], [], asked.gt[0] if right else "", "stop")


def test_the_success_rate_of_each_kind():
    curriculum = Curriculum()
    curriculum.update([answer(prompt("a"), True), answer(prompt("a"), False), answer(prompt("b"), True)])
    assert curriculum.rates == {"a 2": 0.5, "b 2": 1}
    curriculum.update([answer(prompt("a"), True)])
    assert curriculum.rates["a 2"] == pytest.approx(0.9 * 0.5 + 0.1)
    assert curriculum.weight(prompt("b")) == LEAST
    assert curriculum.weight(prompt("never asked")) == LEAST + 0.25
    other = Curriculum()
    other.load_state_dict(curriculum.state_dict())
    assert other.rates == curriculum.rates
    assert kind(prompt("a", "1,234")) == "a 4"
    assert kind(prompt("a", "word")) == kind(prompt("a", "seven")) == "a 3"


def test_what_is_answered_half_the_time_is_asked_most():
    curriculum = Curriculum()
    curriculum.rates = {"easy 2": 1.0, "half 2": 0.5, "hard 2": 0.0, "fair 2": 0.9}
    candidates = [prompt(source) for source in ("easy", "half", "hard", "fair") for _ in range(10)]
    rng = np.random.default_rng(0)
    counts = Counter(one.source for _ in range(2000) for one in curriculum.choose(candidates, 1, rng))
    wanted = {"easy": 0.02, "half": 0.27, "hard": 0.02, "fair": 0.11}
    for source, weight in wanted.items():
        assert counts[source] / 2000 == pytest.approx(weight / 0.42, abs=0.03)
    assert len({id(one) for one in curriculum.choose(candidates, 40, rng)}) == 40


# ----------------------------------------------------------------------------------------------- warnings


def test_warnings_about_groups_and_variance():
    same, apart = {"reward_std": 0.0, "informative": 0.0}, {"reward_std": 0.4, "informative": 0.05}
    assert warnings.no_variance([same] * 9) is None
    assert "earned the same" in warnings.no_variance([same] * 10)
    assert warnings.no_variance([same] * 9 + [apart]) is None
    assert warnings.degenerate_groups([same] * 10) is None  # which the other one says
    assert "in 95% of the groups" in warnings.degenerate_groups([apart] * 10)
    assert warnings.degenerate_groups([apart] * 9 + [apart | {"informative": 0.6}]) is None


def test_a_reward_that_rises_while_the_score_falls():
    history = [{"score": 0.5, "length": 0.2}, {"score": 0.6, "length": 0.3}, {"score": 0.5, "length": 0.9}]
    assert "fell from 60.0% to 50.0% while the reward length rose from 0.3 to 0.9" in warnings.hacked(
        history, {"length": 0.4}
    )
    assert warnings.hacked(history[:2], {"length": 0.4}) is None
    assert warnings.hacked(history, {"length": 4.0}) is None  # within the noise
    assert warnings.hacked([], {}) is None


def test_a_run_in_which_all_answers_earn_the_same_says_so_once(grpo, tmp_path, capsys):
    trainer = make_trainer(grpo(tmp_path / "run", rl__rewards=["length=0,target=5"]))
    said = []
    trainer.setup.console.say = said.append
    for k in range(12):
        trainer.source.step(k)
    assert [text for text in said if "earned the same" in text] == said
    assert len(said) == 1


def test_code_is_run_only_when_it_is_allowed(grpo, tmp_path, refusal):
    """Neither what a data file brings nor what a model writes."""
    tests = lines(check="unit_tests")
    file = write(tmp_path / "code.jsonl", tests)
    argv = of_files(grpo, tmp_path / "run", [file], budget__steps=1)
    allow = "read what the sandbox holds off (docs/en/rewards.md), then allow it with --rl.run_code true"
    assert refusal(argv) == f"error: {file}:1: the check unit_tests runs code; {allow}"
    rewarded = [*grpo(tmp_path / "other"), "--rl.rewards", "unit_tests=1"]
    assert refusal(rewarded) == f"error: rl.rewards unit_tests runs code that the model writes; {allow}"
    assert not (tmp_path / "run").exists()
    allowed = of_files(
        grpo, tmp_path / "run", [file], budget__steps=1, rl__prompts=1, rl__group_size=2, rl__questions=1
    )
    assert main([*allowed, "--rl.run_code", "true"]) == 0
