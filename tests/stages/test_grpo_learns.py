"""Reinforcement learning improves a model: held-out questions that it could not answer, it answers afterwards.

`fixtures/hesitant` was made by `python -m benchmarks.hesitant`: it can calculate, but its likeliest answer is that
it does not know.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from minimind.cli import main
from minimind.eval.skills import evaluate
from minimind.infer.engine import Engine
from minimind.model import load_model
from minimind.rl.prompts.world import held_out_questions
from minimind.tokenizer import Tokenizer

HESITANT = Path(__file__).parents[1] / "fixtures" / "hesitant"


def score(directory: Path):
    """Of 200 questions that no training asks, answered greedily."""
    engine, tokenizer = Engine(load_model(directory)), Tokenizer.load(directory)
    return evaluate(engine, tokenizer, held_out_questions(1, 200), max_tokens=24).scores["arithmetic"]


@pytest.mark.slow
def test_the_held_out_score_rises(tmp_path):
    """In half a minute, by the run's own evaluations, and by other questions asked of what it wrote."""
    run = tmp_path / "run"
    settings = "--batch.seq_len 128 --budget.steps 16 --evaluation.every 8 --rl.questions 50 --rl.max_tokens 24"
    command = ["train", "grpo", "--from", str(HESITANT), "--out", str(run), "--quiet", *settings.split()]
    assert main([*command, "--compile", "false", "--precision", "fp32", "--device", "cpu"]) == 0
    before, after = score(HESITANT), score(run / "model")
    assert before.interval[1] < 0.4
    assert after.interval[0] > 0.8
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rewards = [line["reward_correct"] for line in lines if "eval" not in line]
    assert sum(rewards[-4:]) > 1.2 * sum(rewards[:4])  # of the sampled answers, too
    scores = [line["eval"]["score"] for line in lines if "eval" in line]
    assert scores[0] < 0.4
    assert scores[-1] > 0.8
