"""What each way of teaching adds to one chat model, and what it takes away: the embedded world, several seeds.

    minimind quickstart
    minimind data world --out world
    python -m benchmarks.teaching runs/quickstart --world world --out runs/teaching --page docs/results/teaching.md

Every training is a command as one would type it, in a directory of its own; what is done is passed over. All models
are asked the same held-out questions, so a change is paired, question by question. DPO learns from the model's own
mistakes: of the world's preferences a chat model of it has nearly all right before.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.results import command, machine, table, write_page
from benchmarks.trainings import Kept, in_a_process

from minimind.api import Model
from minimind.data.shards.holdout import holdout
from minimind.data.shards.prepare import prepare
from minimind.eval.paired import document_nats, share_changed
from minimind.eval.skills import Score, grade, greedy_answers, span
from minimind.infer.engine import Engine
from minimind.model import load_model
from minimind.model.hf.adapter import TENSORS, is_adapter
from minimind.model.hf.files import read_shapes, weight_files
from minimind.model.hf.weights import model_directory
from minimind.tokenizer import Tokenizer
from minimind.util.files import whole_file
from minimind.world.preference import PAIRED
from minimind.world.questions import questions
from minimind.world.rng import Rng
from minimind.world.sample import LANGUAGES, Question, assistant
from minimind.world.skills import SKILLS, reasoning

HELD_OUT = 0.3
LONGEST = 400  # tokens of an answer, its thinking included

# Name -> stage and settings; {chat} and {old} stand for the quickstart's model and data, {world} for new data.
REASON = "reason --recipe world-reason --from {chat} --data {world}/reason.jsonl"
DPO = "dpo --recipe world-dpo --from {chat} --data {mistakes} --evaluation.holdout 0.3"
DISTILL = "distill --recipe world-distill --distill.teacher {chat} --data {old}/sft.jsonl"
TAUGHT = {
    "reason, all weights": REASON,
    "reason, LoRA of rank 4": f"{REASON} --lora.rank 4 --optimizer.name adamw --optimizer.learning_rate 0.012 "
    "--budget.tokens 3.2e6",
    "dpo": f"{DPO} --optimizer.learning_rate 0.002",
    "dpo, LoRA of rank 4": f"{DPO} --lora.rank 4 --optimizer.learning_rate 0.004",
    "small, alone": f"{DISTILL} --distill.alpha 1",
    "small, distilled": DISTILL,
}
START = "chat (sft)"
FROM_SCRATCH = ("small, alone", "small, distilled")


def train(words: str, out: Path, seed: int) -> None:
    if not (out / "model").exists():
        argv = [sys.executable, "-m", "minimind", "train", *words.split(), "--seed", str(seed), "--out", str(out)]
        subprocess.run(argv, check=True)


def write_mistakes(directory: Path, path: Path, count: int = 8000) -> None:
    """Preferences that the model does not have yet: right answers over wrong ones that it sampled itself."""
    model = Model(directory)
    model.engine.max_batch = 128
    rng = Rng(0, "mistakes")
    samples = [SKILLS[rng.weighted(PAIRED)](rng, rng.pick(LANGUAGES)) for _ in range(count)]
    ids = [model.tokenizer.encode_chat(one.messages[:-1], add_generation_prompt=True)[0] for one in samples]
    params = [model.sampling_params(temperature=1.0, max_tokens=40, seed=number) for number in range(count)]
    with whole_file(path) as partial, partial.open("w", encoding="utf-8") as file:
        for one, done in zip(samples, model.engine.generate(ids, params)):
            text = model.tokenizer.decode(done.ids).strip()
            if done.stop_reason == "stop" and text and not grade(Question.of(one), text):
                pair = {"chosen": one.messages, "rejected": [*one.messages[:-1], assistant(text)]}
                file.write(json.dumps(pair, ensure_ascii=False) + "\n")


def measure(run: Path, mistakes: Path, per_skill: int, seeds: list[int]) -> dict[str, Any]:
    """Which questions a model answers rightly, by kind; which of the pairs held out from the trainings of each seed
    it has in the right order; and what its training took."""
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
    data, preferred = prepare([mistakes], tokenizer, "preference", train_on="last"), {}
    for seed in seeds:
        held_out = np.flatnonzero(holdout(data.hashes, HELD_OUT, seed))
        nats_P2 = document_nats(model, data, held_out, seq_len=256).reshape(-1, 2)
        preferred[str(seed)] = (nats_P2[:, 0] < nats_P2[:, 1]).tolist()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "right": right,
        "preferred": preferred,
        "trained": trained_parameters(directory),
        "memory_gb": max(line.get("memory_gb", 0.0) for line in lines),
        "seconds": max(line.get("elapsed", 0.0) for line in lines),
    }


def trained_parameters(directory: Path) -> int:
    files = [directory / TENSORS] if is_adapter(directory) else weight_files(directory)
    return sum(math.prod(shape) for shape in read_shapes(files).values())


def share(right: list[bool]) -> str:
    score = Score(sum(right), len(right))
    return f"{score.accuracy:.1%} ({span(score.interval)})"


def change(before: list[bool], after: list[bool]) -> str:
    found = share_changed(before, after)
    return f"{100 * found.difference:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


def row(name: str, seed: int, one: dict[str, Any], start: dict[str, Any]) -> list[str]:
    right, preferred = one["right"], one["preferred"][str(seed)]
    skills, moved = share(right["skills"]), share(preferred)
    if name != START and "small" not in name:
        skills += f"; {change(start['right']['skills'], right['skills'])}"
        moved += f"; {change(start['preferred'][str(seed)], preferred)}"
    measured = [skills, share(right["at once"]), share(right["thinking"]), moved]
    return [name, *measured, f"{one['trained']:,}", f"{one['seconds']:.0f} s", f"{one['memory_gb']:.2f} GB"]


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
    chat, mistakes = options.quickstart / "chat", options.out / "mistakes.jsonl"
    if not mistakes.exists():
        in_a_process(write_mistakes, chat, mistakes)
    kept = Kept(options.out / "results.json")
    start = kept.get(START, measure, chat, mistakes, options.per_skill, list(range(options.seeds)))
    for way in options.only:
        words = TAUGHT[way].format(
            chat=chat, world=options.world, old=options.quickstart / "world", mistakes=mistakes
        )
        for seed in range(options.seeds):
            name = f"{way}, seed {seed}"
            run = options.out / name.replace(",", "").replace(" ", "-")
            train(words, run, seed)
            kept.get(name, measure, run, mistakes, options.per_skill, [seed])
    measured = [(f"{way}, seed {seed}", seed) for way in TAUGHT for seed in range(options.seeds)]  # now or earlier
    rows = [row(START, 0, start, start)]
    rows += [row(name, seed, kept.values[name], start) for name, seed in measured if name in kept.values]
    header = ["", "eight skills; change in points", "reasoning at once", "reasoning, thinking"]
    header += ["right answer likelier than own mistake; change", "trained parameters", "time", "memory"]
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
