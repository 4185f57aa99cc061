"""Environments of the user's own."""

import json
import os
import sys
from pathlib import Path

import pytest
from tests.helpers import metrics

from minimind.cli import main
from minimind.errors import UserError
from minimind.rl.envs.own import OwnEnv
from minimind.util.user_code import load_name
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


GOES_ON = """
class Game:
    def __init__(self, rng):
        self.rng = rng
        self.prompt = Prompt([{"role": "user", "content": WORDS}], [], float)
    def step(self, answer, text, stop_reason):
        return StepResult(parts={"won": 1.0} if self.rng.random() < 0.3 else {})
"""


def test_a_part_that_few_episodes_earn(grpo, tmp_path):
    (tmp_path / "game.py").write_text(MADE + GOES_ON.replace("WORDS", "'cat'"))
    argv = grpo(tmp_path / "run", rl__env=f"{tmp_path / 'game.py'}:Game", budget__steps=3)
    assert main([*argv, "--rl.rewards", "won=1"]) == 0
    steps = [line for line in metrics(tmp_path / "run") if "eval" not in line]
    assert all(line["reward"] == pytest.approx(line["reward_won"]) for line in steps)
    assert 0 < sum(line["reward_won"] for line in steps) / 3 < 1


def test_a_prompt_without_room_for_an_answer(grpo, tmp_path, capsys):
    """The held-out ones have room, and so have most of the others."""
    words = "'cat ' * (400 if rng.random() < 0.02 else 1)"
    (tmp_path / "game.py").write_text(MADE + GOES_ON.replace("WORDS", words))
    argv = grpo(tmp_path / "run", rl__env=f"{tmp_path / 'game.py'}:Game", rl__prompts=40, budget__steps=3)
    assert main(argv) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "error: a prompt of rl.env leaves no room for an answer in batch.seq_len 128; raise that"


def test_a_file_is_run_once_and_hides_no_module(tmp_path):
    """Also where it is named as one that others import, and again when it has changed."""
    path = tmp_path / "json.py"
    path.write_text("made = []\ndef first(): return made\ndef second(): return made\n")
    assert load_name(f"{path}:first", "rl.rewards")() is load_name(f"{path}:second", "rl.rewards")()
    assert sys.modules["json"] is json
    path.write_text("def first(): return 1\n")
    os.utime(path, ns=(0, 0))
    assert load_name(f"{path}:first", "rl.rewards")() == 1


@pytest.mark.parametrize("spec", ["game.py:Game", "Game", "game:Game"])
def test_a_file_that_is_not_there(spec):
    with pytest.raises(UserError, match=r"names nothing; give FILE\.py:NAME"):
        OwnEnv(spec)
