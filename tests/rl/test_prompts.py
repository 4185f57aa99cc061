"""Prompts of the embedded world."""

from minimind.rl.prompts.world import held_out_questions, training_prompts
from minimind.world.questions import assert_disjoint
from minimind.world.sample import assistant


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
