"""What reinforcement learning could gain, skill by skill: how often one of eight sampled answers is right.

    python -m benchmarks.headroom runs/quickstart/chat

A skill whose best of eight answers is hardly better than the greedy one has little to give. The last column is the
share of the questions that are answered both rightly and wrongly: only there is something to compare.
"""

from __future__ import annotations

import argparse

import numpy as np

from minimind.commands.output import print_columns
from minimind.infer.engine import Engine
from minimind.infer.sampler import SamplingParams
from minimind.model import load_model
from minimind.model.hf.weights import model_directory
from minimind.rl.envs.single_turn import SingleTurn
from minimind.rl.prompts.world import held_out_questions, to_prompt
from minimind.rl.rollout import episode_seeds, run_episodes
from minimind.tokenizer import Tokenizer
from minimind.world.skills import SKILLS

ATTEMPTS, MAX_TOKENS = 8, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--questions", type=int, default=100, help="held-out, of each skill")
    options = parser.parse_args()
    directory = model_directory(options.model)
    engine, tokenizer = Engine(load_model(directory), max_batch=128), Tokenizer.load(directory)

    def rights(skill: str, temperature: float, attempts: int) -> np.ndarray:
        """(questions, attempts): whether the answer is right and complete."""
        prompts = [to_prompt(question) for question in held_out_questions(0, options.questions, [skill])]
        params = SamplingParams(temperature, top_p=1.0, max_tokens=MAX_TOKENS, stop_ids=tokenizer.stop_ids)
        envs = [SingleTurn(prompt) for prompt in prompts for _ in range(attempts)]
        seeds = [seed for number in range(len(prompts)) for seed in episode_seeds(0, 0, number, attempts)]
        played = run_episodes(engine, tokenizer, envs, params, seeds, engine.context)
        right = [one.stop_reason == "stop" and one.prompt.grade(one.text) == 1 for one in played]
        return np.array(right, float).reshape(-1, attempts)

    table = [("skill", "greedy", "sampled", f"best of {ATTEMPTS}", "right and wrong")]
    for skill in SKILLS:
        greedy, sampled = rights(skill, 0.0, 1), rights(skill, 1.0, ATTEMPTS)
        share = sampled.mean(1)
        shares = greedy.mean(), share.mean(), sampled.max(1).mean(), ((share > 0) & (share < 1)).mean()
        table.append((skill, *(f"{one:.0%}" for one in shares)))
    print_columns(table, right_from=1)


if __name__ == "__main__":
    main()
