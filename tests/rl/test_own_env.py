"""Environments of the user's own."""

from pathlib import Path

import pytest

from minimind.errors import UserError
from minimind.rl.envs.own import OwnEnv
from minimind.world.sample import assistant

GAME = f"{Path(__file__).parents[2] / 'examples' / 'guess_number.py'}:GuessNumber"


def play(env, *guesses):
    """The hints, and the parts of all steps."""
    hints, parts = [], 0.0
    for guess in guesses:
        result = env.step(assistant(guess), guess, "stop")
        hints += [message["content"] for message in result.messages]
        parts += result.parts["guess"]
        if result.done:
            break
    return hints, parts


def halve(number):
    low, high, guesses = 1, 7, []
    while not guesses or guesses[-1] != number:
        guesses.append((low + high) // 2)
        low, high = (guesses[-1] + 1, high) if guesses[-1] < number else (low, guesses[-1] - 1)
    return [str(guess) for guess in guesses]


def test_the_example_is_won_by_who_halves():
    for prompt in OwnEnv(GAME).training(0, 0, 20):
        guesses = halve(int(prompt.gt[0]))
        hints, parts = play(prompt.env(prompt), *guesses)
        assert len(hints) == len(guesses) - 1 < 3
        assert parts == pytest.approx(len(guesses) / 3)
        assert prompt.grade(guesses[-1]) == 1
    assert play(prompt.env(prompt), "I do not know") == ([], 0)


def test_prompts_are_functions_of_seed_and_iteration():
    env = OwnEnv(GAME)
    numbers = lambda prompts: [prompt.gt for prompt in prompts]  # noqa: E731
    assert numbers(env.training(0, 3, 30)) == numbers(OwnEnv(GAME).training(0, 3, 30))
    different = [env.training(0, 3, 30), env.training(0, 4, 30), env.training(1, 3, 30), env.held_out(30)]
    assert len({str(numbers(prompts)) for prompts in different}) == 4
    assert {prompt.env(prompt).prompt.source for prompt in env.held_out(3)} == {"GuessNumber"}


def test_every_episode_of_a_prompt_is_the_same(tmp_path):
    (prompt,) = OwnEnv(GAME).training(0, 0, 1)
    first, again = prompt.env(prompt), prompt.env(prompt)
    assert play(first, "1", "7") == play(again, "1", "7")
    assert first.prompt.gt == again.prompt.gt == prompt.gt


MADE = "from minimind.rl.types import Prompt, StepResult\n"
WRONG = {
    "": "has no Game",
    "1 / 0": "cannot be run: ZeroDivisionError",
    "class Gome: pass": "did you mean Gome",
    "class Game:\n    def __init__(self): pass": "cannot be made: TypeError",
    "class Game:\n    def __init__(self, rng): self.prompt = 'Hello'": "is no minimind.rl.types.Prompt",
}
STEPS = {
    "return None": "gave no minimind.rl.types.StepResult, but None",
    "return StepResult(done=False)": "goes on",
    "raise KeyError('x')": "failed: KeyError: 'x'",
}


@pytest.mark.parametrize(("code", "why"), WRONG.items())
def test_what_is_wrong_is_said_in_a_sentence(code, why, tmp_path):
    (tmp_path / "game.py").write_text(MADE + code)
    with pytest.raises(UserError, match=r"^rl\.env: .*" + why):
        OwnEnv(f"{tmp_path / 'game.py'}:Game").training(0, 0, 1)


@pytest.mark.parametrize(("code", "why"), STEPS.items())
def test_a_wrong_step_too(code, why, tmp_path):
    made = "class Game:\n    def __init__(self, rng): self.prompt = Prompt([], [], float)\n"
    (tmp_path / "game.py").write_text(f"{MADE}{made}    def step(self, answer, text, stop_reason): {code}\n")
    (prompt,) = OwnEnv(f"{tmp_path / 'game.py'}:Game").training(0, 0, 1)
    with pytest.raises(UserError, match=r"^rl\.env: step of .*" + why):
        prompt.env(prompt).step(assistant("a"), "a", "stop")


@pytest.mark.parametrize("spec", ["game.py:Game", "Game", "game:Game"])
def test_a_file_that_is_not_there(spec):
    with pytest.raises(UserError, match=r"names nothing; give FILE\.py:NAME"):
        OwnEnv(spec)
