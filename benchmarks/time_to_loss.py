"""How long our trainer takes to the held-out bits per byte at which the plain recipe (benchmarks/plain.py) ends.

    python -m benchmarks.time_to_loss --tokenizer tokenizer --texts zh.jsonl en.jsonl --work ttl --out page.md
    python -m benchmarks.time_to_loss … --preset minimind-3 --device cuda --minutes 20 --seeds 0 1 2

The plain recipe trains for --minutes as published, and with the best accumulation and learning rate of a small
sweep, whose candidates get a tenth of the time. Ours trains to the end of longer and longer parts of that time,
until one ends at or below the plain recipe's last value. Both read the same documents and are measured on the
same held-out ones, in rows of 340 positions.

Time is steps × seconds of a step. The seconds are measured first, the two in turn, on an otherwise idle
machine; the trainings themselves may then run beside other work. Where ours compiles, the time of compiling
with an empty cache is added. What is done is kept in --work: the same command again goes on.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from benchmarks.plain import Plain, PlainRecipe
from benchmarks.results import command, machine, table, write_page
from benchmarks.trainings import Kept, ready_for_steps, seconds, trainer_of

from minimind.data.batches.loader import sequential_batches
from minimind.eval.perplexity import evaluate_nll
from minimind.hardware import pick_device
from minimind.model import Transformer
from minimind.recipe import Recipe
from minimind.stages.resolve import resolve
from minimind.train.trainer import Trainer

PUBLISHED = PlainRecipe()
SWEEP = [
    replace(PUBLISHED, accumulation=accumulation, learning_rate=rate)
    for accumulation, rate in ((1, 1e-3), (1, 2e-3), (1, 4e-3), (1, 8e-3))
]
PARTS = (1 / 48, 1 / 24, 1 / 16, 1 / 12, 1 / 8, 1 / 6, 1 / 4, 1 / 3, 1 / 2)  # of the plain recipe's time, for ours
OUR_STEP = 6 * 340  # about what is derived for such budgets
HELD_OUT_TOKENS = 100_000


def recipe_of(options: argparse.Namespace, steps: int, seed: int = 0) -> Recipe:
    """Our settings for the preset, with a budget of so many steps."""
    flags = [
        f"--preset={options.preset}",
        f"--device={options.device}",
        f"--seed={seed}",
        f"--budget.steps={steps}",
    ]
    flags += [
        "--batch.seq_len=340",
        f"--batch.tokens_per_step={OUR_STEP}",
        "--evaluation.holdout=0.005",
        f"--evaluation.every={max(1, steps)}",
    ]
    flags += ["--evaluation.samples=0", *options.ours]
    return resolve("pretrain", flags, [], {"data": options.texts, "tokenizer": options.tokenizer})


def held_out_bits(trainer: Trainer, model: Transformer | None = None) -> float:
    """Bits per byte of the trainer's model, or of another, on the first held-out documents."""
    data, held_out, device = trainer.setup.data, trainer.setup.held_out, trainer.setup.device
    documents = held_out[np.cumsum(data.lengths[held_out]) <= HELD_OUT_TOKENS]
    return evaluate_nll(model or trainer.model, sequential_batches(data, documents, 340, 8), device).bits_per_byte


def step_seconds(options: argparse.Namespace) -> dict[str, float]:
    """Of our steps, plain and compiled, of compiling, and of the plain recipe's micro-batch and update."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp()  # nothing compiled before counts
    recipe = recipe_of(options, 10**6)
    ours, compiled = (ready_for_steps(replace(recipe, compile=c), Path("unused")) for c in (False, True))
    setup, device = ours.setup, ours.setup.device
    plain = Plain(PUBLISHED, ours.model.config, setup.data, setup.train_documents, 10**6, 0, device)
    times: dict[str, list[float]] = {"ours": [], "compiled": [], "micro_batch": [], "update": []}
    for number in range(options.rounds + 1):
        batch = ours.source.step(number)
        for name, trainer in (("ours", ours), ("compiled", compiled)):
            times[name].append(seconds(device, trainer.step, batch, 1.0)[0])
        times["micro_batch"].append(seconds(device, plain.micro_batch)[0])
        times["update"].append(seconds(device, plain.update)[0])
    first = times["compiled"][0]
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    return {**medians, "compiling": first - medians["compiled"]}


def train_plainly(options: argparse.Namespace, recipe: PlainRecipe, steps: int, seed: int) -> float:
    """Held-out bits per byte at the end of a training by the plain recipe."""
    trainer = trainer_of(recipe_of(options, 1, seed), Path("unused"))
    setup = trainer.setup
    plain = Plain(recipe, trainer.model.config, setup.data, setup.train_documents, steps, seed, setup.device)
    for _ in range(steps):
        plain.step()
    return held_out_bits(trainer, plain.model)


def train_ours(options: argparse.Namespace, steps: int, seed: int) -> float:
    """Held-out bits per byte at the end of a training of ours."""
    with tempfile.TemporaryDirectory() as directory:
        trainer = trainer_of(recipe_of(options, steps, seed), Path(directory))
        trainer.fit()
        return held_out_bits(trainer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--texts", nargs="+", required=True, help="files to train on")
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--minutes", type=float, default=20, help="time of the plain recipe")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--rounds", type=int, default=7, help="of timing")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--ours", nargs="+", default=[], metavar="--FIELD=VALUE", help="more settings of ours")
    parser.add_argument("--only-timing", action="store_true", help="stop after the part that needs an idle machine")
    parser.add_argument("--work", type=Path, required=True, help="directory of results so far")
    parser.add_argument("--out", type=Path, help="page to write; printed by default")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    kept = Kept(options.work / "results.json")
    clock = kept.get("seconds", step_seconds, options)
    if options.only_timing:
        return
    budget = 60 * options.minutes

    def plain_steps(recipe: PlainRecipe, part: float = 1.0) -> int:
        return max(1, round(part * budget / (recipe.accumulation * clock["micro_batch"] + clock["update"])))

    def our_steps(part: float) -> int:
        """As many as fit; compiled where the trainer would."""
        left, plainly = part * budget, part * budget / clock["ours"]
        return max(1, round(max(plainly, (left - clock["compiling"]) / clock["compiled"])))

    def last_values(recipe: PlainRecipe) -> list[float]:
        steps = plain_steps(recipe)
        name = f"plain, accumulation {recipe.accumulation}, rate {recipe.learning_rate}, {steps} steps, seed "
        return [kept.get(f"{name}{seed}", train_plainly, options, recipe, steps, seed) for seed in options.seeds]

    swept = {}
    for recipe in SWEEP:
        steps = plain_steps(recipe, 1 / 10)
        name = f"sweep, accumulation {recipe.accumulation}, rate {recipe.learning_rate}, {steps} steps"
        swept[recipe] = kept.get(name, train_plainly, options, recipe, steps, 0)
    best = min(swept, key=lambda recipe: swept[recipe])
    kinds = {"as published": PUBLISHED, "best of the sweep": best}
    targets = {label: last_values(recipe) for label, recipe in kinds.items()}
    rows, reached = [], {}
    for part in PARTS:
        steps = our_steps(part)
        name = f"ours, {steps} steps, seed "
        found = [kept.get(f"{name}{seed}", train_ours, options, steps, seed) for seed in options.seeds]
        rows.append([f"ours, 1/{1 / part:.0f} of the time", f"{steps:,}", bits(found), ""])
        for label, target in targets.items():
            if statistics.mean(found) <= statistics.mean(target):
                reached.setdefault(label, f"by ours in 1/{1 / part:.0f}")
        if len(reached) == len(targets):
            break
    for label, recipe in kinds.items():
        settings = f"accumulation {recipe.accumulation}, rate {recipe.learning_rate:g}"
        answer = reached.get(label, f"not in 1/{1 / max(PARTS):.0f}")
        rows.append([f"plain, {label} ({settings})", f"{plain_steps(recipe):,}", bits(targets[label]), answer])
    sweep_rows = [[str(r.accumulation), f"{r.learning_rate:g}", f"{value:.4f}"] for r, value in swept.items()]
    clock_text = ", ".join(f"{name} {value:.3f}" for name, value in clock.items())
    write_page(
        options.out,
        f"Time to a loss: {options.preset}",
        f"{machine(pick_device(options.device))}\nMade by `{command()}`.",
        f"The plain recipe has {options.minutes:g} minutes. Seconds of a step: {clock_text}.",
        table(["training", "steps", "held-out bits per byte (all seeds)", "reached"], rows),
        "## The sweep of the plain recipe, in a tenth of the time",
        table(["accumulation", "rate", "bits per byte"], sweep_rows),
    )


def bits(values: list[float]) -> str:
    return f"{statistics.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})"


if __name__ == "__main__":
    main()
