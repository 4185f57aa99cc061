"""What each way of teaching adds to one chat model, and what it takes away: the embedded world, several seeds.

    minimind quickstart
    minimind data world --out world
    python -m benchmarks.teaching runs/quickstart --world world --out runs/teaching --page docs/results/teaching.md

Every training is a command as one would type it, in a directory of its own; what is done is passed over. All models
are asked the same held-out questions, so a change is paired, question by question.
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
from benchmarks.trainings import Kept

from minimind.eval.paired import share_changed
from minimind.eval.skills import Score, grade, greedy_answers, span
from minimind.infer.engine import Engine
from minimind.model import load_model
from minimind.model.hf.weights import model_directory
from minimind.tokenizer import Tokenizer
from minimind.world.questions import questions
from minimind.world.sample import Question
from minimind.world.skills import SKILLS, reasoning

LONGEST = 400  # tokens of an answer, its thinking included

# Name -> stage and settings; {chat}, {world} and {old} stand for the quickstart's model, the new and its own data.
REASON = "reason --recipe world-reason --from {chat} --data {world}/reason.jsonl"
DPO = "dpo --recipe world-dpo --from {chat} --data {world}/preference.jsonl"
DISTILL = "distill --recipe world-distill --distill.teacher {chat} --data {old}/sft.jsonl"
TAUGHT = {
    "reason, all weights": REASON,
    "reason, LoRA of rank 4": f"{REASON} --lora.rank 4",
    "dpo": DPO,
    "dpo, LoRA of rank 4": f"{DPO} --lora.rank 4 --optimizer.learning_rate 0.002",
    "small, alone": f"{DISTILL} --distill.alpha 1",
    "small, distilled": DISTILL,
}
START = "chat (sft)"
FROM_SCRATCH = ("small, alone", "small, distilled")


def train(words: str, out: Path, seed: int) -> None:
    if not (out / "model").exists():
        argv = [sys.executable, "-m", "minimind", "train", *words.split(), "--seed", str(seed), "--out", str(out)]
        subprocess.run(argv, check=True)


def measure(run: Path, preferences: Path, per_skill: int) -> dict[str, Any]:
    """Which questions a model answers rightly, by kind, and what its training took."""
    directory = model_directory(run)
    model, tokenizer = load_model(directory), Tokenizer.load(directory)
    engine = Engine(model, max_batch=128, tokenizer=tokenizer)
    suites: dict[str, tuple[list[Question], bool]] = {
        "skills": (questions(0, per_skill), False),
        "at once": (questions(0, per_skill, reasoning.SKILLS), False),
        "thinking": (questions(0, per_skill, reasoning.SKILLS), True),
    }
    right = {}
    for name, (asked, think) in suites.items():
        answers = greedy_answers(engine, tokenizer, [one.prompt for one in asked], LONGEST, think)
        right[name] = [
            done.stop_reason == "stop" and grade(one, text, think) for one, (text, done) in zip(asked, answers)
        ]
    argv = [sys.executable, "-m", "minimind", "eval", "reward", str(run), "--data", str(preferences), "--json"]
    found = subprocess.run([*argv, "--holdout", "0.1"], check=True, capture_output=True, text=True)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    memory = max((line["memory_gb"] for line in lines if "memory_gb" in line), default=0.0)
    seconds = max((line["elapsed"] for line in lines if "elapsed" in line), default=0.0)
    return {"right": right, "preferred": json.loads(found.stdout), "memory_gb": memory, "seconds": seconds}


def share(right: list[bool]) -> str:
    score = Score(sum(right), len(right))
    return f"{score.accuracy:.1%} ({span(score.interval)})"


def change(before: list[bool], after: list[bool]) -> str:
    found = share_changed(before, after)
    return f"{100 * found.difference:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


def row(name: str, one: dict[str, Any], start: dict[str, Any]) -> list[str]:
    right, preferred = one["right"], one["preferred"]
    moved = (
        "" if name == START or name.startswith(FROM_SCRATCH) else change(start["right"]["skills"], right["skills"])
    )
    return [
        name,
        share(right["skills"]),
        moved,
        share(right["at once"]),
        share(right["thinking"]),
        f"{preferred['accuracy']:.1%}",
        f"{one['seconds']:.0f} s",
        f"{one['memory_gb']:.2f} GB",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quickstart", type=Path, help="the directory that `minimind quickstart` made")
    parser.add_argument("--world", type=Path, required=True, help="what `minimind data world` wrote")
    parser.add_argument("--out", type=Path, required=True, help="directory of the trainings and of results.json")
    parser.add_argument("--only", nargs="+", default=list(TAUGHT), choices=list(TAUGHT), help="some of the ways")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--per-skill", type=int, default=260, help="questions of each skill; 8 skills are over 2,000"
    )
    parser.add_argument("--page", type=Path, help="Markdown page to write")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    chat, preferences = options.quickstart / "chat", options.world / "preference.jsonl"
    kept = Kept(options.out / "results.json")
    start = kept.get(START, measure, chat, preferences, options.per_skill)
    rows = [row(START, start, start)]
    for way in options.only:
        words = TAUGHT[way].format(chat=chat, world=options.world, old=options.quickstart / "world")
        for seed in range(options.seeds):
            name = f"{way}, seed {seed}"
            run = options.out / name.replace(",", "").replace(" ", "-")
            train(words, run, seed)
            rows.append(row(name, kept.get(name, measure, run, preferences, options.per_skill), start))
    header = ["", "eight skills", "change in points, paired", "reasoning at once", "reasoning, thinking"]
    header += ["preferred the better", "time", "memory"]
    commands = [f"minimind train {words} --seed S --out RUN" for words in TAUGHT.values()]
    write_page(
        options.page,
        "Ways of teaching, on the embedded world",
        machine(torch.device("cpu")),
        f"`{command()}`: {len(SKILLS)} skills × {options.per_skill} held-out questions, {len(reasoning.SKILLS)} × "
        f"{options.per_skill} of reasoning; shares with their 95% intervals.",
        table(header, rows),
        "The trainings:",
        "```bash\n" + "\n".join(commands) + "\n```",
    )


if __name__ == "__main__":
    main()
