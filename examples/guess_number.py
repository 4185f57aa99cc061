"""An environment of one's own for reinforcement learning: a model learns to guess a number.

    minimind train agent --from runs/quickstart/chat --out runs/guess --rl.env examples/guess_number.py:GuessNumber

Nobody shows it how: it is told `higher` or `lower`, and earns 1 where its last guess is right. Who halves what is
left finds each of the seven numbers in three guesses; who guesses at random finds three of seven.
"""

from minimind.rl.types import Prompt, StepResult


class GuessNumber:
    """One game. `rng` decides the number; all answers of a group play the same game."""

    def __init__(self, rng):
        self.number, self.guesses = rng.randint(1, 7), 3
        question = {"role": "user", "content": "Guess my number, from 1 to 7."}
        self.prompt = Prompt([question], gt=[str(self.number)], grade=self.grade)

    def grade(self, text):
        """How right the last answer is: the part `correct` of the reward."""
        return float(text == str(self.number))

    def step(self, answer, text, stop_reason):
        """What an answer leads to: a hint, or the end of the game."""
        self.guesses -= 1
        is_guess = text in list("1234567")
        parts = {"guess": is_guess / 3}  # a part of its own, which `rl.rewards` may give a weight
        if not is_guess or not self.guesses or self.grade(text):
            return StepResult(done=True, parts=parts)
        hint = "higher" if int(text) < self.number else "lower"
        return StepResult([{"role": "user", "content": hint}], done=False, parts=parts)
