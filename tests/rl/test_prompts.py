"""Prompts of the embedded world, and what their answers earn."""

import pytest

from minimind.rl.prompts import held_out_questions, to_prompt, training_prompts
from minimind.rl.rewards import score
from minimind.rl.types import Rollout
from minimind.world.questions import assert_disjoint
from minimind.world.sample import Question, assistant, user

SUM = to_prompt(Question("arithmetic", "en", [user("What is 36 + 47?"), assistant("")], ["83"]))


def test_a_steps_prompts_depend_on_seed_and_step_alone():
    asked = lambda *key: [prompt.messages for prompt in training_prompts(*key, 20)]  # noqa: E731
    assert asked(1, 5) == asked(1, 5)
    assert asked(1, 5) != asked(1, 6)
    assert asked(1, 5) != asked(2, 5)


def test_training_never_asks_a_held_out_question():
    held_out = held_out_questions(0, 200)
    assert len(held_out) == 200
    assert {question.skill for question in held_out} == {"arithmetic"}
    assert {question.lang for question in held_out} == {"en", "zh"}
    asked = [prompt for step in range(60) for prompt in training_prompts(0, step, 64)]
    assert_disjoint(held_out, conversations=([*prompt.messages, assistant("")] for prompt in asked))


def test_prompts_end_with_the_user_and_know_the_right_answer():
    for prompt in training_prompts(0, 1, 50, skills=("arithmetic", "strings", "facts")):
        assert prompt.messages[-1]["role"] == "user"
        assert prompt.grade(prompt.gt[0])
        assert not prompt.grade("I do not know.")


@pytest.mark.parametrize(
    ("text", "stop_reason", "parts"),
    [
        ("36 + 47 = 83", "stop", {"correct": 1, "ended": 1}),
        ("36 + 47 = 84", "stop", {"correct": 0, "ended": 1}),
        ("36 + 47 = 83", "length", {"correct": 0, "ended": 0}),
        ("83 83 83 83", "loop", {"correct": 0, "ended": 0}),
        ("It is 83. Or 84.", "stop", {"correct": 0, "ended": 1}),
        ("", "stop", {"correct": 0, "ended": 1}),
    ],
)
def test_rewards(text, stop_reason, parts):
    assert scored(text, stop_reason).parts == parts


def test_a_reward_is_the_weighted_sum_of_its_parts():
    assert scored("36 + 47 = 83").reward == pytest.approx(1.1)
    assert scored("36 + 47 = 84").reward == pytest.approx(0.1)
    assert scored("36 + 47 = 83", weights={"correct": 2.0}).reward == 2
    assert scored("36 + 47 = 84", parts={"called": 3.0}, weights={"called": 0.5}).reward == 1.5


def scored(text, stop_reason="stop", parts=None, **settings):
    (found,) = score([Rollout(SUM, [], [], [], [], text, stop_reason, parts or {})], **settings)
    return found
