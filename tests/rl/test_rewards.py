"""What answers earn: each built-in reward, their sum, and functions of a user's own."""

import math
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers import make_trainer, metrics

from minimind.cli import main
from minimind.errors import UserError
from minimind.rl.envs.tools import PARTS
from minimind.rl.rewards import Rewards
from minimind.rl.rewards.checks import make_grade
from minimind.rl.rewards.compose import BUILT_IN, make_part
from minimind.rl.rewards.form import is_well_formed, repeated
from minimind.rl.rewards.guard import Guard
from minimind.rl.rewards.verify import longest_common_part, resemblance
from minimind.rl.types import Prompt, Rollout

GUARD = Guard("stop", 5.0)
GIVEN = {"think": False, "max_tokens": 40, "tokenizer": None, "device": None}


def rollout(text, gt=("83",), stop_reason="stop", question="What is 36 + 47?", length=1, group=0, check=""):
    prompt = Prompt([{"role": "user", "content": question}], gt, make_grade(gt, check))
    messages = [*prompt.messages, {"role": "assistant", "content": text}]
    ids = list(range(length))
    return Rollout(prompt, ids, [1] * length, [0.0] * length, messages, text, stop_reason, group=group)


def earned(spec, *rollouts, **given):
    return list(make_part(spec, GIVEN | given, GUARD).reward(rollouts))


def rewards(*specs, guard=GUARD):
    return Rewards([make_part(spec, GIVEN, guard) for spec in specs])


# ----------------------------------------------------------------------------------------------- one by one


@pytest.mark.parametrize(
    ("text", "stop_reason", "correct", "ended"),
    [
        ("36 + 47 = 83", "stop", 1, 1),
        ("36 + 47 = 84", "stop", 0, 1),
        ("36 + 47 = 83", "length", 0, 0),
        ("83 83 83 83", "loop", 0, 0),
        ("", "stop", 0, 1),
    ],
)
def test_right_and_ended(text, stop_reason, correct, ended):
    one = rollout(text, stop_reason=stop_reason)
    assert earned("correct", one) == [correct]
    assert earned("ended", one) == [ended]


@pytest.mark.parametrize(
    ("text", "gt", "wanted"),
    [
        ("36 + 47 = 83", "83", 1),
        ("36 + 47 = 93", "83", 1 / 2),  # the ones are right
        ("36 + 47 = 84", "83", 1 / 2),  # the tens are
        ("36 + 47 = 94", "83", 0),
        ("It is 1083.", "83", 2 / 4),
        ("It is 3.", "83", 1 / 2),
        ("So 1,234", "1334", 3 / 4),
        ("I do not know.", "83", 0),
        ("It is -83", "83", 2 / 3),
        ("72 / 8 = 9 of 10, so \\boxed{83}. 4", "83", 1),
        ("dig", "dog", 1 / 3),
        ("The word is dog", "dogs", 3 / 7),
        ("黄色", "金黄色", 2 / 3),
    ],
)
def test_partial_credit(text, gt, wanted):
    assert resemblance(text, gt) == pytest.approx(wanted)


def test_a_right_answer_has_all_credit_and_an_unended_one_none():
    assert earned("partial", rollout("36 + 47 = 83"), rollout("83", stop_reason="length")) == [1, 0]
    assert earned("partial", rollout("It is 93"), rollout("red", gt=())) == [0.5, 0]


@given(st.text("ab ", max_size=12), st.text("ab ", max_size=12))
def test_the_longest_common_part(a, b):
    parts = {a[i:j] for i in range(len(a) + 1) for j in range(i, len(a) + 1)}
    assert longest_common_part(a, b) == max(len(part) for part in parts if part in b)


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9))
def test_only_the_right_number_resembles_it_fully(answer, right):
    near = resemblance(f"It is {answer}.", str(right))
    assert 0 <= near <= 1
    assert (near == 1) == (answer == right)


CALL = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'


@pytest.mark.parametrize(
    ("text", "think", "good"),
    [
        ("It is 4.", False, True),
        ("", False, False),
        ("2 and 2</think>It is 4.", True, True),
        ("It is 4.", True, False),  # never closed
        ("2</think>and</think>4", True, False),
        ("<think>2</think>4", True, False),  # opened twice
        ("2 and 2</think>", True, False),  # no answer
        ("<think>2 and 2</think>It is 4.", False, True),
        ("<think>2 and 2", False, False),
        ("It is </think> 4", False, False),
        (CALL, False, True),
        (f"I add.\n{CALL}\n{CALL}", False, True),
        (f"thought</think>{CALL}<|im_end|>\n", True, True),
        ("<tool_call>add 1</tool_call>", False, False),
        ('<tool_call>{"name": "add", "arguments": {}}', False, False),
        (f"{CALL}</tool_call>", False, False),
    ],
)
def test_format(text, think, good):
    assert is_well_formed(text, think) == good


def test_the_format_of_every_turn_counts(base_model):
    from minimind.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(base_model)
    said = [tokenizer.encode(text) for text in ("2 + 2?", "It is 4.", "really?", "add")]
    said[3].insert(0, tokenizer.reserved["<tool_call>"])
    ids = [one for part in said for one in part]
    mask = [int(place % 2) for place, part in enumerate(said) for _ in part]
    prompt = Prompt([{"role": "user", "content": "2 + 2?"}], (), float)
    one = Rollout(prompt, ids, mask, [], [], "<tool_call>add", "stop")
    assert earned("format", one, tokenizer=tokenizer) == [0.5]


def test_length():
    assert earned("length,target=10", *(rollout("x", length=n) for n in (10, 5, 15, 20, 40))) == [1, 0.5, 0.5, 0, 0]
    assert earned("length,target=10,tolerance=0.5", rollout("x", length=12)) == pytest.approx([0.6])


def test_length_by_half_a_cosine():
    right, wrong = "83", "84"
    texts = [(right, 20), (right, 40), (wrong, 20), (wrong, 40)]
    found = earned("cosine", *(rollout(text, length=n) for text, n in texts))
    assert found == pytest.approx([1.5, 1, -5, 0])
    assert earned("cosine,right_short=1,right_long=0", rollout("83", length=10)) == pytest.approx(
        [0.5 + 0.5 * math.sqrt(0.5)]
    )
    assert earned("cosine", rollout("83", stop_reason="length")) == [-10]


def test_overlong():
    lengths = (1, 80, 85, 100, 120)
    found = earned("overlong,margin=20", *(rollout("x", length=n) for n in lengths), max_tokens=100)
    assert found == pytest.approx([0, 0, -0.25, -1, -1])


def test_repetition():
    assert repeated([1, 2, 3, 1, 2, 3, 1], 3) == pytest.approx(2 / 5)  # 123 231 312 123 231
    assert repeated([1, 1, 1, 1], 1) == 3 / 4
    assert repeated([1, 2], 3) == 0
    prompt = rollout("x").prompt
    one = Rollout(prompt, [7, 7, 7, 7, 1, 2, 1, 2, 1], [0] * 4 + [1] * 5, [], [], "", "stop")
    assert earned("repetition,ngram=2", one) == [-0.5]


@pytest.mark.parametrize(
    ("question", "answer", "wanted"),
    [
        ("What is it?", "A dog", 1),
        ("What is it?", "狗狗 dog", 1 / 3),
        ("这是什么？", "dog", 0),
        ("这是什么 thing？", "狗", 1),
        ("What is 1 + 1?", "2", 1),
        ("これは何ですか", "犬", 1),
        ("12 + 3", "abc", 1),
    ],
)
def test_language(question, answer, wanted):
    assert earned("language", rollout(answer, question=question)) == [wanted]


# ----------------------------------------------------------------------------------------------- together


def test_a_reward_is_the_weighted_sum_of_its_parts():
    (one,) = rewards("correct=2", "ended=0.5", "length=0,target=1")([rollout("36 + 47 = 83")])
    assert one.parts == {"correct": 1, "ended": 1, "length": 1}
    assert one.reward == 2.5


def test_what_an_environment_gives_is_kept_and_may_have_a_weight():
    one = replace(rollout("84"), parts={"guess": 3.0})
    parts = [make_part(text, GIVEN, GUARD, own_env=True) for text in ("ended=1", "guess=0.5")]
    (found,) = Rewards(parts)([one])
    assert (found.parts, found.reward) == ({"ended": 1, "guess": 3}, 2.5)
    (found,) = rewards("ended=1")([one])
    assert (found.parts, found.reward) == ({"ended": 1, "guess": 3}, 1)
    assert make_part("calls=0.3", GIVEN, GUARD).reward is None  # of the tools' environment


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("corect=1", "there is no reward corect; did you mean correct?"),
        ("xyz=1", f"there is no reward xyz; there are {', '.join([*BUILT_IN, *PARTS])}, and your own: "),
        ("correct=much", "much is no number"),
        ("correct=1,target=3", "there is no option target; it has none"),
        ("length=1", "target is missing; add ,target="),
        ("length=1,target=many", "target must be a whole number from 1 to 1,000,000,000, not many"),
        ("length=1,targt=3", "there is no option targt; did you mean target?"),
        ("none.py:f", "none.py:f names nothing"),
    ],
)
def test_mistakes_in_the_recipe(spec, why):
    with pytest.raises(UserError) as error:
        make_part(spec, GIVEN, GUARD)
    assert why in str(error.value)


def test_a_run_says_what_is_wrong_with_its_rewards(grpo, tmp_path, capsys):
    assert main(grpo(tmp_path / "run", rl__rewards=["ended=1", "ended=2"])) == 2
    assert "rl.rewards names ended twice" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------- a user's own function

OWN = """
import time
from minimind.rl.types import Rollout

def politeness(rollouts, word: str = "please", times: int = 1):
    return [float(one.text.count(word) >= times) for one in rollouts]

def raises(rollouts):
    return [1 / (one.text != "bad") for one in rollouts]

def hangs(rollouts):
    while any(one.text == "bad" for one in rollouts):
        pass
    return [1.0] * len(rollouts)

def nothing(rollouts):
    return [float("nan") if one.text == "bad" else 1 for one in rollouts]

def too_few(rollouts):
    return [1.0]

def as_text(rollouts):
    return ["good"] * len(rollouts)
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "my_rewards.py"
    path.write_text(OWN)
    return path


def test_ones_own_function(own):
    (one,) = rewards(f"{own}:politeness=0.5")([rollout("yes please")])
    assert (one.parts, one.reward) == ({"politeness": 1}, 0.5)
    (one,) = rewards(f"{own}:politeness=0.5,word=yes,times=2")([rollout("yes please")])
    assert one.parts == {"politeness": 0}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("raises", "raised ZeroDivisionError: "),
        ("hangs", "took longer than 0.3 seconds (rl.reward_seconds)"),
        ("nothing", "gave nan"),
    ],
)
def test_one_that_fails_stops_with_its_name_and_the_answer_or_is_skipped(own, name, why):
    answers = [rollout("good"), rollout("bad"), rollout("good", group=1), rollout("bad", group=2)]
    with pytest.raises(UserError) as error:
        rewards(f"{own}:{name}", guard=Guard("stop", 0.3))(answers)
    assert str(error.value).startswith(f"the reward {name} {why}")
    assert str(error.value).endswith("for the answer 'bad' to 'What is 36 + 47?'")
    scored = rewards(f"{own}:{name}", "ended", guard=Guard("skip", 0.3))(answers)
    assert [one.parts for one in scored] == [
        {name: 1, "ended": 1, "skipped": 0},
        {name: 1, "ended": 1, "skipped": 1},  # as the other answer of its group
        {name: 1, "ended": 1, "skipped": 0},
        {name: 0, "ended": 1, "skipped": 1},  # it has none
    ]


def test_a_loop_that_hangs_does_not_go_on_in_the_background(own):
    import threading

    before = threading.active_count()
    with pytest.raises(UserError):
        rewards(f"{own}:hangs", guard=Guard("stop", 0.2))([rollout("bad")])
    end = time.monotonic() + 30
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.01)
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("too_few", "gave 1 values for 2 answers"),
        ("as_text", "raised ValueError: could not convert string to float"),
    ],
)
def test_one_that_gives_something_else(own, name, why):
    with pytest.raises(UserError) as error:
        rewards(f"{own}:{name}")([rollout("good"), rollout("good")])
    assert why in str(error.value)


def test_files_that_cannot_be_used(own, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_that_name")
    with pytest.raises(UserError, match=r"broken.py cannot be run: ModuleNotFoundError"):
        rewards(f"{broken}:f")
    with pytest.raises(UserError, match=r"has no politness; did you mean politeness\?"):
        rewards(f"{own}:politness")


def test_a_run_with_ones_own_reward(grpo, own, tmp_path):
    run = tmp_path / "run"
    parts = ["ended=1", f"{own}:politeness=0.5,word=e", "length=0,target=5"]
    assert main(grpo(run, rl__rewards=parts, budget__steps=2)) == 0
    for line in (line for line in metrics(run) if "eval" not in line):
        assert line["reward"] == pytest.approx(line["reward_ended"] + 0.5 * line["reward_politeness"], abs=1e-6)
        assert 0 < line["reward_length"] <= 1


def test_a_run_stops_at_a_reward_that_fails_and_is_resumed_when_it_is_mended(grpo, tmp_path, capsys):
    own, run = tmp_path / "own.py", tmp_path / "run"
    own.write_text("def f(rollouts):\n    return [1 / 0 for one in rollouts]\n")
    assert main(grpo(run, rl__rewards=f"{own}:f", budget__steps=2)) == 2
    assert "the reward f raised ZeroDivisionError: division by zero for the answer " in capsys.readouterr().err
    own.write_text("def f(rollouts):\n    return [1.0 for one in rollouts]\n")
    assert main(grpo(run, rl__rewards=f"{own}:f", budget__steps=2)) == 0
    assert [line["reward_f"] for line in metrics(run) if "eval" not in line] == [1, 1]


def test_a_run_skips_a_reward_that_fails_and_counts(grpo, tmp_path):
    own = tmp_path / "own.py"
    own.write_text("def f(rollouts):\n    return [1 / 0 for one in rollouts]\n")
    parts = ["ended=1", f"{own}:f"]
    trainer = make_trainer(grpo(tmp_path / "run", rl__rewards=parts, rl__on_reward_error="skip"))
    table = trainer.source.step(0).table
    assert table["reward_skipped"].tolist() == [1.0] * 24
    assert table["reward_f"].tolist() == [0.0] * 24
