"""Whether the batch size matters: the same tokens in steps of few or many rows, by our own trainer.

    python -m benchmarks.batch_size --out docs/results/batch-size.md
    python -m benchmarks.batch_size --data zh.jsonl --tokenizer tokenizer --preset nano --tokens 2e7 --seeds 0 1 2
    python -m benchmarks.batch_size --optimizer.name adamw --optimizer.learning_rate 0.002

Every batch size is trained with the learning rate as it is and with it scaled by the square root of the batch size,
relative to the size in the middle. All read as many tokens, in the same micro-batches, and the sizes take turns, so
that what else happens on the machine falls on all. Differences are taken seed by seed, since a seed decides which
documents are held out. What is finished is kept in --runs, and the same command goes on from there. More settings
of a training can follow.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path

from benchmarks.results import command, machine, table, write_page

from minimind.data.sources.documents import read_texts
from minimind.hardware import pick_device
from minimind.recipe import Recipe
from minimind.runs.read import Run, read_run
from minimind.stages.launch import launch
from minimind.stages.resolve import resolve
from minimind.tokenizer.train import train as train_tokenizer
from minimind.train.console import TrainingConsole
from minimind.world import write_world

MICRO_ROWS = 8


def recipe_of(options: argparse.Namespace, flags: list[str], rows: int, scaled: bool, seed: int) -> Recipe:
    """The training of one batch size, as `minimind train pretrain` would have it but for the rates."""
    largest = max(options.rows) * options.seq_len

    def in_steps_of(rows: int) -> Recipe:
        settings = {
            "preset": options.preset,
            "batch.seq_len": options.seq_len,
            "batch.tokens_per_step": rows * options.seq_len,
            "batch.micro_batch_tokens": MICRO_ROWS * options.seq_len,
            "budget.tokens": max(1, round(options.tokens / largest)) * largest,  # whole steps of every size
            "evaluation.every": 10**9,  # at the end
            "log_every": 1,
        }
        named = [*(f"--{name}={value}" for name, value in settings.items()), *flags]
        return resolve("pretrain", named, [], {"data": options.data, "tokenizer": options.tokenizer, "seed": seed})

    factor = (rows / middle(options.rows)) ** 0.5 if scaled else 1.0
    optimizer = in_steps_of(middle(options.rows)).optimizer  # whose rates would else follow from the batch size
    rates = {
        name: factor * rate
        for name in ("learning_rate", "embedding_learning_rate")
        if (rate := getattr(optimizer, name)) is not None
    }
    return replace(in_steps_of(rows), optimizer=replace(optimizer, **rates))


def middle(rows: list[int]) -> int:
    return sorted(rows)[len(rows) // 2]


def write_example(directory: Path, tokens: float) -> tuple[list[str], str]:
    """Texts of the embedded world that last for so many tokens, and a tokenizer for them."""
    world, tokenizer = directory / "world", directory / "tokenizer"
    if not tokenizer.exists():
        paths = write_world(world, pretrain_bytes=int(4 * tokens), sft=1, preference=1, rl=1, per_skill=1)
        train_tokenizer(read_texts([paths["pretrain"]]), 2560).save(tokenizer)
    return [str(world / "pretrain.jsonl")], str(tokenizer)


def row_of(rows: int, scaled: bool, runs: list[Run], base: list[Run]) -> list[str]:
    """One row of the table, of the runs of all seeds."""
    found, others = [run.summary() for run in runs], [run.summary() for run in base]
    bits = [one["bits_per_byte"] for one in found]
    differences = [one - other["bits_per_byte"] for one, other in zip(bits, others)]
    spread = f" ({min(differences):+.4f} to {max(differences):+.4f})" if len(runs) > 1 else ""
    speed = statistics.median(one["tokens_per_second"] for one in found)
    return [
        f"{rows}",
        "√" if scaled else "fixed",
        f"{runs[0].recipe['optimizer.learning_rate']:.3g}",
        f"{found[0]['steps']:,}",
        f"{speed:,.0f}",
        f"{statistics.mean(bits):.4f}",
        "" if runs == base else f"{statistics.mean(differences):+.4f}{spread}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", type=int, default=[8, 32, 128], help="batch sizes")
    parser.add_argument("--seq-len", type=int, default=340)
    parser.add_argument("--tokens", type=float, default=600_000, help="positions that each training reads")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--data", nargs="+", help="default: texts of the embedded world")
    parser.add_argument("--tokenizer", help="needed with --data")
    parser.add_argument("--runs", type=Path, default=Path("runs/batch-size"), help="where the trainings go")
    parser.add_argument("--out", type=Path, help="page to write; printed by default")
    options, flags = parser.parse_known_args()
    options.runs /= (
        f"{options.preset}-{options.tokens:.0f}"  # with more tokens they are other runs, not longer ones
    )
    if not options.data:
        options.data, options.tokenizer = write_example(options.runs, options.tokens)
    kinds = [(rows, False) for rows in options.rows]
    kinds += [(rows, True) for rows in options.rows if rows != middle(options.rows)]
    runs: dict[tuple[int, bool], list[Run]] = {kind: [] for kind in kinds}
    for seed in options.seeds:
        for rows, scaled in kinds:
            out = options.runs / f"{rows}-{'scaled' if scaled else 'fixed'}-{seed}"
            launch(recipe_of(options, flags, rows, scaled, seed), out, TrainingConsole(quiet=True))
            runs[rows, scaled].append(read_run(out))
            scores = runs[rows, scaled][-1].summary()
            print(f"{out}: {scores['tokens_per_second']:,.0f} tokens/s, {scores['bits_per_byte']:.4f}", flush=True)
    base = runs[middle(options.rows), False]
    header = [
        "rows a step",
        "rate",
        "peak",
        "steps",
        "tokens/s (median)",
        "held-out bits/byte",
        "against the middle",
    ]
    about = (
        f"{machine(pick_device(base[0].recipe['device']))}\nMade by `{command()}`: `{options.preset}`, rows of "
        f"{options.seq_len}, {base[0].summary()['tokens']:,} tokens each, {len(options.seeds)} seeds, "
        f"{MICRO_ROWS} rows at once; speeds are medians. In brackets the smallest and the largest difference of "
        "a seed."
    )
    write_page(options.out, "Batch size", about, table(header, [row_of(*kind, runs[kind], base) for kind in kinds]))


if __name__ == "__main__":
    main()
