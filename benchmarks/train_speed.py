"""Real tokens a second of our trainer and of the plain recipe (benchmarks/plain.py), side by side.

    python -m benchmarks.train_speed --tokenizer tokenizer --texts zh.jsonl.zst en.jsonl.zst --chats chats.jsonl.zst
    python -m benchmarks.train_speed … --presets minimind2-small minimind-3 --device cuda --rounds 20

Padding does not count as read. The plain recipe cuts and pads texts to 340 positions and conversations to 768. The
two take turns, a step of ours and a micro-batch of theirs, so that what else happens on the machine falls on both;
their update is timed apart and shared among the 8 micro-batches of a step. A micro-batch takes as long whatever it
holds, so theirs is counted with the tokens that its rows hold on average. Ratios are those of medians, with the
quartiles of the rounds' own ratios.

The share is that of the rate of a large matrix product, measured in every round: 6 operations a parameter and those
of causal attention for every position of our rows, in the time of forward and backward. Memory is the peak of a
process of its own for each, at as many positions at once.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.plain import Plain, PlainRecipe
from benchmarks.results import command, machine, table, write_page
from benchmarks.trainings import in_a_process, ready_for_steps, seconds

from minimind.hardware import matmul_rate, peak_memory_gb, pick_device
from minimind.model import save_model
from minimind.plan.flops import flops_per_token
from minimind.stages.resolve import resolve
from minimind.train.trainer import Trainer

TASKS = {"pretrain": PlainRecipe(length=340, rows=32), "sft": PlainRecipe(length=768, rows=16)}


def our_trainer(task: str, preset: str, options: argparse.Namespace, directory: Path) -> Trainer:
    """The trainer that `minimind train` makes, its budget far away."""
    batch = f"--batch.tokens_per_step={options.step} --batch.micro_batch_tokens={options.micro}".split()
    flags = [*batch, f"--batch.seq_len={options.seq_len}", f"--device={options.device}", *options.ours]
    given: dict[str, Any] = {"data": options.texts if task == "pretrain" else options.chats}
    if task == "sft":
        given["init_from"] = str(directory / preset)
    else:
        flags.append(f"--preset={preset}")
        given["tokenizer"] = options.tokenizer
    trainer = ready_for_steps(resolve(task, [*flags, "--budget.tokens=1e10"], [], given), directory)
    if task == "pretrain":
        save_model(trainer.model, directory / preset, trainer.setup.tokenizer)  # for sft to start from
    return trainer


def plain_training(task: str, trainer: Trainer) -> Plain:
    """The plain recipe on the same documents, from a model of the same shape."""
    setup = trainer.setup
    return Plain(TASKS[task], trainer.model.config, setup.data, setup.train_documents, 10**6, 0, setup.device)


def compare(task: str, preset: str, options: argparse.Namespace, directory: Path) -> list[str]:
    """One row of the table."""
    trainer = our_trainer(task, preset, options, directory)
    plain = plain_training(task, trainer)
    device, config, seq_len = trainer.setup.device, trainer.model.config, options.seq_len
    rounds = []
    for number in range(options.rounds + 1):
        batch = trainer.source.step(number)
        forward, (losses, _) = seconds(device, trainer.step.accumulate, batch)
        update, _ = seconds(device, trainer.step.update, 1.0, losses.sum())
        theirs, _ = seconds(device, plain.micro_batch)
        their_update, _ = seconds(device, plain.update)
        peak = matmul_rate(device, trainer.model.compute_dtype)
        if number:  # the first compiles and lays out memory
            ours = int((batch.documents >= 0).sum()) / (forward + update)
            plainly = plain.tokens_per_micro_batch / (theirs + their_update / plain.recipe.accumulation)
            share = batch.tokens.numel() * flops_per_token(config, seq_len) / forward / peak
            rounds.append((ours, plainly, share, update / (forward + update), peak))
    ours, plainly, share, update, peak = (statistics.median(column) for column in zip(*rounds))
    low, _, high = statistics.quantiles([one[0] / one[1] for one in rounds], n=4)
    memory = [in_a_process(peak_of, who, task, preset, options, directory) for who in ("ours", "plain")]
    return [
        f"{preset}, {task}",
        f"{plainly:,.0f}",
        f"{ours:,.0f}",
        f"{ours / plainly:.2f} ({low:.2f} to {high:.2f})",
        f"{share:.0%} of {peak / 1e9:,.0f} GFLOP/s",
        f"{update:.0%}",
        f"{memory[0]:.1f} / {memory[1]:.1f} GB",
    ]


def peak_of(who: str, task: str, preset: str, options: argparse.Namespace, directory: Path) -> float:
    """Peak memory in GB of this process after one micro-batch of that training."""
    trainer = our_trainer(task, preset, options, directory)
    if who == "ours":
        trainer.step.accumulate(trainer.source.step(0))
    else:
        recipe = TASKS[task]
        plain = plain_training(task, trainer)
        plain.recipe = PlainRecipe(recipe.length, max(1, options.micro // recipe.length))
        plain.micro_batch()
    return peak_memory_gb(trainer.setup.device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--texts", nargs="+", required=True, help="files to pretrain on")
    parser.add_argument("--chats", nargs="+", required=True, help="files to fine-tune on")
    parser.add_argument("--presets", nargs="+", default=["nano", "minimind2-small"])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--step", type=int, default=16384, help="positions of one of our steps")
    parser.add_argument("--micro", type=int, default=8192, help="positions of ours at once")
    parser.add_argument("--seq-len", type=int, default=512)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--ours", nargs="+", default=[], metavar="--FIELD=VALUE", help="more settings of ours")
    parser.add_argument("--out", type=Path, help="page to write; printed by default")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        for preset in options.presets:
            for task in options.tasks:
                rows.append(compare(task, preset, options, Path(directory)))
                print(" | ".join(rows[-1]), flush=True)
    header = ["", "plain, tokens/s", "ours, tokens/s", "ratio", "share of matmul", "update", "memory, ours / plain"]
    about = f"{machine(pick_device(options.device))}\nMade by `{command()}`."
    write_page(options.out, "Real tokens a second", about, table(header, rows))


if __name__ == "__main__":
    main()
