"""What reinforcement learning adds to a chat model, by algorithm: the embedded world, several seeds.

    minimind quickstart
    minimind data world --out world
    python -m benchmarks.reinforcement runs/quickstart --world world --out runs/rl --page reinforcement.md

All start from one model that was taught to think by a short training, too short for problems of two steps, and see
equally many sampled answers. Every training is a command as one would type it; what is done is passed over.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from benchmarks.results import command, machine, table, write_page
from benchmarks.teaching import change, share, train
from benchmarks.trainings import Kept

from minimind.eval.skills import grade, greedy_answers
from minimind.infer.engine import Engine
from minimind.model import load_model
from minimind.model.hf.weights import model_directory
from minimind.stages.rl import ALGORITHMS
from minimind.tokenizer import Tokenizer
from minimind.world.questions import questions
from minimind.world.skills import SKILLS, reasoning

START = "start (short reason)"
REASON = "reason --recipe world-reason --from {chat} --data {world}/reason.jsonl --budget.tokens {tokens}"
RL = (
    "{name} --from {start} --rl.skills {skill} --rl.think true --rl.max_tokens 200 --batch.seq_len 320 "
    "--rl.questions 100 --optimizer.learning_rate 0.00015 --budget.steps {steps} --evaluation.every {every}"
)
COMPARED = [name for name in ALGORITHMS if name != "agent"]


def measure(run: Path, per_skill: int) -> dict[str, Any]:
    """Which held-out questions a model answers rightly, by skill, and the course of its training."""
    directory = model_directory(run)
    model, tokenizer = load_model(directory), Tokenizer.load(directory)
    engine = Engine(model, max_batch=128, tokenizer=tokenizer)
    right: dict[str, list[bool]] = {}
    for skills, think in ((SKILLS, False), (reasoning.SKILLS, True)):
        asked = questions(1, per_skill, skills)
        answers = greedy_answers(engine, tokenizer, [one.prompt for one in asked], 200, think)
        for question, (text, done) in zip(asked, answers):
            is_right = done.stop_reason == "stop" and grade(question, text, think)
            right.setdefault(question.skill, []).append(is_right)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [line for line in lines if "eval" not in line]
    return {
        "right": right,
        "curve": [[line["step"], line["eval"]["score"]] for line in lines if "score" in line.get("eval", {})],
        "rewards": [line["reward"] for line in steps if "reward" in line],
        "seconds": sum(line.get("seconds_rollout", 0) + line.get("seconds_update", 0) for line in steps),
        "memory_gb": max(line.get("memory_gb", 0.0) for line in lines),
    }


def row(name: str, seed: str, one: dict[str, Any], start: dict[str, Any], skill: str) -> list[str]:
    """Of the skill, of the other that needs thinking, and of the eight that need none, together."""
    cells = []
    for kinds in ([skill], [other for other in reasoning.SKILLS if other != skill], list(SKILLS)):
        before, after = ([right for kind in kinds for right in run["right"][kind]] for run in (start, one))
        cells.append(share(after) + (f"; {change(before, after)}" if seed else ""))
    if not seed:
        return [name, seed, *cells, "", "", ""]
    course = " ".join(f"{100 * score:.0f}" for _, score in one["curve"])
    return [name, seed, *cells, course, f"{one['seconds']:.0f} s", f"{one['memory_gb']:.2f} GB"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quickstart", type=Path, help="the directory that `minimind quickstart` made")
    parser.add_argument("--world", type=Path, required=True, help="what `minimind data world` wrote")
    parser.add_argument("--out", type=Path, required=True, help="directory of the trainings and of results.json")
    parser.add_argument("--only", nargs="+", default=COMPARED, choices=COMPARED, help="some of them")
    parser.add_argument("--skill", default="two_steps", choices=list(reasoning.SKILLS))
    parser.add_argument("--tokens", default="0.5e6", help="of the short training before")
    parser.add_argument("--steps", type=int, default=150, help="rollouts, of as many answers each")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--per-skill", type=int, default=260, help="held-out questions of each skill")
    parser.add_argument("--page", type=Path, help="Markdown page to write")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    kept, begin = Kept(options.out / "results.json"), options.out / "start"
    taught = REASON.format(chat=options.quickstart / "chat", world=options.world, tokens=options.tokens)
    train(taught, begin, 0)
    start = kept.get(START, measure, begin, options.per_skill)
    rows, commands = [row(START, "", start, start, options.skill)], [taught]
    for name in options.only:
        updates = ALGORITHMS[name].get("minibatches", 1) * ALGORITHMS[name].get("epochs", 1)
        steps = options.steps * updates
        words = RL.format(name=name, start=begin, skill=options.skill, steps=steps, every=steps // 5)
        commands.append(words)
        for seed in range(options.seeds):
            run = options.out / f"{name}-{seed}"
            train(words, run, seed)
            one = kept.get(f"{name}, seed {seed}", measure, run, options.per_skill)
            rows.append(row(name, str(seed), one, start, options.skill))
    header = ["", "seed", f"{options.skill}, thinking; change in points", "the other that needs thinking; change"]
    header += ["eight skills at once; change", "held-out score on the way, %", "sampling and updates", "memory"]
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
