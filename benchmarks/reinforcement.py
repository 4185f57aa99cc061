"""What reinforcement learning adds to a chat model, by algorithm: the embedded world, several seeds.

    minimind quickstart
    python -m benchmarks.reinforcement runs/quickstart --out runs/rl --page docs/results/reinforcement.md

All start from one chat model that a short SFT left weak at the skill, and see equally many sampled answers. Every
training is a command as one would type it; what is done is passed over.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from benchmarks.results import command, machine, table, write_page
from benchmarks.teaching import change, share
from benchmarks.trainings import Kept

from minimind.eval.skills import grade, greedy_answers
from minimind.infer.engine import Engine
from minimind.model import load_model
from minimind.model.hf.weights import model_directory
from minimind.stages.rl import ALGORITHMS
from minimind.tokenizer import Tokenizer
from minimind.world.questions import questions

START = "start (short sft)"
SFT = "sft --recipe quickstart-sft --from {base} --data {world}/sft.jsonl --budget.tokens {tokens}"
RL = (
    "{name} --from {start} --rl.skills {skill} --rl.max_tokens 32 --budget.steps {steps} --evaluation.every {every}"
)


def train(words: str, out: Path, seed: int) -> None:
    if not (out / "model").exists():
        argv = [sys.executable, "-m", "minimind", "train", *words.split(), "--seed", str(seed), "--out", str(out)]
        subprocess.run(argv, check=True)


def measure(run: Path, per_skill: int) -> dict[str, Any]:
    """Which held-out questions a model answers rightly, by skill, and the course of its training."""
    directory = model_directory(run)
    model, tokenizer = load_model(directory), Tokenizer.load(directory)
    engine, asked = Engine(model, max_batch=128), questions(1, per_skill)
    answers = greedy_answers(engine, tokenizer, [one.prompt for one in asked], 160)
    right: dict[str, list[bool]] = {}
    for question, (text, done) in zip(asked, answers):
        right.setdefault(question.skill, []).append(done.stop_reason == "stop" and grade(question, text))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [line for line in lines if "eval" not in line]
    return {
        "right": right,
        "curve": [[line["step"], line["eval"]["score"]] for line in lines if "score" in line.get("eval", {})],
        "rewards": [line["reward"] for line in steps if "reward" in line],
        "seconds": sum(line.get("seconds_rollout", 0) + line.get("seconds_update", 0) for line in steps),
        "memory_gb": max(line.get("memory_gb", 0.0) for line in lines),
    }


def row(name: str, seed: int, one: dict[str, Any], start: dict[str, Any], skill: str) -> list[str]:
    """Of the skill, and of all others together."""
    others = [right for other, rights in one["right"].items() if other != skill for right in rights]
    before = [right for other, rights in start["right"].items() if other != skill for right in rights]
    if name == START:
        return [name, "", share(one["right"][skill]), share(others), "", "", ""]
    course = " ".join(f"{100 * score:.0f}" for _, score in one["curve"])
    learned = f"{share(one['right'][skill])}; {change(start['right'][skill], one['right'][skill])}"
    kept = f"{share(others)}; {change(before, others)}"
    return [name, str(seed), learned, kept, course, f"{one['seconds']:.0f} s", f"{one['memory_gb']:.2f} GB"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quickstart", type=Path, help="the directory that `minimind quickstart` made")
    parser.add_argument("--out", type=Path, required=True, help="directory of the trainings and of results.json")
    parser.add_argument(
        "--only", nargs="+", default=list(ALGORITHMS), choices=list(ALGORITHMS), help="some of them"
    )
    parser.add_argument("--skill", default="strings")
    parser.add_argument("--sft-tokens", default="0.8e6", help="of the short sft before")
    parser.add_argument("--steps", type=int, default=400, help="rollouts, of as many answers each")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--per-skill", type=int, default=260, help="held-out questions of each skill")
    parser.add_argument("--page", type=Path, help="Markdown page to write")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    kept, begin = Kept(options.out / "results.json"), options.out / "start"
    base, world = options.quickstart / "base", options.quickstart / "world"
    sft = SFT.format(base=base, world=world, tokens=options.sft_tokens)
    train(sft, begin, 0)
    start = kept.get(START, measure, begin, options.per_skill)
    rows, commands = [row(START, 0, start, start, options.skill)], [sft]
    for name in options.only:
        updates = ALGORITHMS[name].get("minibatches", 1) * ALGORITHMS[name].get("epochs", 1)
        steps = options.steps * updates
        words = RL.format(name=name, start=begin, skill=options.skill, steps=steps, every=steps // 8)
        commands.append(words)
        for seed in range(options.seeds):
            run = options.out / f"{name}-{seed}"
            train(words, run, seed)
            one = kept.get(f"{name}, seed {seed}", measure, run, options.per_skill)
            rows.append(row(name, seed, one, start, options.skill))
    header = ["", "seed", f"{options.skill}; change in points", "the other skills together; change"]
    header += ["held-out score on the way, %", "sampling and updates", "memory"]
    write_page(
        options.page,
        "Reinforcement learning, on the embedded world",
        machine(torch.device("cpu")),
        f"`{command()}`: {options.per_skill} held-out questions of each skill, shares with their 95% intervals, "
        "changes paired question by question.",
        table(header, rows),
        "The trainings:",
        "```bash\n" + "\n".join(f"minimind train {words} --seed S --out RUN" for words in commands) + "\n```",
    )


if __name__ == "__main__":
    main()
