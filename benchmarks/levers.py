"""What each lever of the trainer is worth on its own: everything as it is, and again with one thing changed.

    python -m benchmarks.levers --tokenizer tokenizer --texts zh.jsonl --speed minimind2-small --quality tiny

Speed is positions a second of a whole step, every change in a new process, the list gone through --rounds times
so that the machine's moods fall on all; best of the rounds. Quality is held-out bits per byte after --tokens,
so time is left out: what changes the speed of a step as well must be judged by both tables.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from benchmarks.results import command, machine, table, write_page
from benchmarks.time_to_loss import held_out_bits, trainer_of
from benchmarks.train_speed import seconds

from minimind import system
from minimind.losses import cross_entropy, next_token
from minimind.model import attention, transformer
from minimind.stages.resolve import resolve

# Changes of code are named without dashes, see `patch`; all others are settings.
SPEED: dict[str, list[str]] = {
    "all as it is": [],
    "blocks not compiled": ["--compile=false"],
    "attention: a dense mask, plain products": ["dense mask"],
    "attention: one masked call of PyTorch's kernel": ["masked kernel"],
    "freed memory given back to the system": ["give back"],
    "all logits at once": ["all logits"],
    "computed in the other type": ["other type"],
    "micro-batches of a quarter": ["--batch.micro_batch_tokens=1024"],
    "micro-batches of half": ["--batch.micro_batch_tokens=2048"],
    "micro-batches of twice": ["--batch.micro_batch_tokens=8192"],
    "rows of half the length": ["--batch.row_length=256"],
    "blocks computed again in the backward pass": ["--recompute=true"],
    "AdamW": ["--optimizer.name=adamw"],
}
QUALITY: dict[str, list[str]] = {
    "all as it is": [],
    "AdamW, its derived rate": ["--optimizer.name=adamw"],
    "AdamW, twice that rate": ["--optimizer.name=adamw", "--optimizer.learning_rate=0.01"],
    "polar_express": ["--optimizer.iteration=polar_express"],
    "rows normalised (NorMuon)": ["--optimizer.row_decay=0.95"],
    "weight decay 0.1": ["--optimizer.weight_decay=0.1"],
    "weight decay 0.1, cautious": ["--optimizer.weight_decay=0.1", "--optimizer.cautious_decay=true"],
    "cosine instead of wsd": ["--schedule.kind=cosine"],
    "cool-down over a fifth": ["--schedule.cooldown=0.2"],
    "cool-down over four fifths": ["--schedule.cooldown=0.8"],
    "no warm-up": ["--schedule.warmup=0"],
    "steps twice as large": ["--batch.tokens_per_step=4096"],
    "steps four times as large": ["--batch.tokens_per_step=8192"],
    "output projections not zero at first": ["normal start"],
    "half the rate of the matrices": ["--optimizer.learning_rate=0.017"],
    "half the rate of the embedding": ["--optimizer.embedding_learning_rate=0.016"],
}


def patch(name: str) -> None:
    """Put the slow way in the place of ours, in this process."""
    if name == "dense mask":
        transformer.make_mask = lambda documents, compiled: attention.Mask(attention.document_mask(documents))
        transformer.attend = lambda q, k, v, mask: attention.dense(q, k, v, mask.allowed_BTS)
    elif name == "masked kernel":
        transformer.make_mask = lambda documents, compiled: attention.Mask(attention.document_mask(documents))
    elif name == "give back":
        system.keep_freed_memory = lambda: None
        from minimind.train import parallel

        parallel.keep_freed_memory = lambda: None
    elif name == "all logits":
        plain = cross_entropy.reference
        next_token.linear_cross_entropy = lambda hidden, weight, targets, weights: plain(
            hidden, weight, targets, weights
        )
    else:
        assert name in ("other type", "normal start"), name


def prepared(preset: str, changes: list[str], options: argparse.Namespace, directory: str, *flags: str) -> Any:
    """A trainer with the changes, ready for steps, and its data."""
    torch.set_num_threads(options.threads)
    for change in changes:
        if not change.startswith("--"):
            patch(change)
    settings = [*flags, *(change for change in changes if change.startswith("--"))]
    names = {flag.partition("=")[0] for flag in settings[len(flags) :]}
    settings = [flag for flag in flags if flag.partition("=")[0] not in names] + settings[len(flags) :]
    given = {"data": options.texts, "tokenizer": options.tokenizer}
    recipe = resolve("pretrain", [f"--preset={preset}", "--evaluation.samples=0", *settings], [], given)
    trainer, loaded = trainer_of(recipe, Path(directory))
    if "other type" in changes:
        ours = trainer.model.compute_dtype
        trainer.model.compute_dtype = torch.float32 if ours == torch.bfloat16 else torch.bfloat16
    if "normal start" in changes:
        for name, parameter in trainer.model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                torch.nn.init.normal_(parameter, std=0.02)
    return trainer, loaded


def speed(preset: str, changes: list[str], options: argparse.Namespace) -> float:
    """Positions a second of a step."""
    with tempfile.TemporaryDirectory() as directory:
        flags = ["--batch.row_length=512", "--batch.tokens_per_step=16384", "--batch.micro_batch_tokens=4096"]
        trainer, _ = prepared(preset, changes, options, directory, *flags, "--compile=true", "--budget.tokens=1e10")
        trainer.prepare()
        trainer.progress.total_steps = 10**6
        times = [seconds(trainer.device, trainer.step, trainer.loader.step(k))[0] for k in range(options.steps + 1)]
        return trainer.recipe.batch.tokens_per_step / min(times[1:])


def quality(preset: str, changes: list[str], options: argparse.Namespace, seed: int) -> float:
    """Held-out bits per byte at the end."""
    with tempfile.TemporaryDirectory() as directory:
        flags = ["--batch.row_length=340", "--batch.tokens_per_step=2040", f"--budget.tokens={options.tokens}"]
        flags = [*flags, f"--seed={seed}", "--evaluation.every=100000"]
        changes = [change.replace("=4096", "=4080").replace("=8192", "=8160") for change in changes]
        trainer, loaded = prepared(preset, changes, options, directory, *flags)
        trainer.fit()
        return held_out_bits(trainer, loaded)


def in_a_process(function: Any, *arguments: Any) -> float:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--texts", nargs="+", required=True)
    parser.add_argument("--speed", nargs="*", default=[], metavar="PRESET")
    parser.add_argument("--quality", nargs="*", default=[], metavar="PRESET")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2, help="timed in each round")
    parser.add_argument("--tokens", type=float, default=5e5)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--out", type=Path, help="page to write; printed by default")
    options = parser.parse_args()
    options.threads = torch.get_num_threads()
    parts = [f"{machine(torch.device('cpu'))}\nMade by `{command()}`."]
    for preset in options.speed:
        rates: dict[str, list[float]] = {name: [] for name in SPEED}
        for _ in range(options.rounds):
            for name, changes in SPEED.items():
                rates[name].append(in_a_process(speed, preset, changes, options))
                print(preset, name, f"{rates[name][-1]:,.0f}", flush=True)
        full = max(rates["all as it is"])
        rows = [[name, f"{max(found):,.0f}", f"{max(found) / full:.2f}"] for name, found in rates.items()]
        parts += [f"## Speed: {preset}", table(["changed", "positions/s", "of all as it is"], rows)]
    for preset in options.quality:
        rows = []
        for name, changes in QUALITY.items():
            found = [in_a_process(quality, preset, changes, options, seed) for seed in options.seeds]
            rows.append([name, f"{statistics.mean(found):.4f}", f"{min(found):.4f} to {max(found):.4f}"])
            print(preset, *rows[-1], flush=True)
        parts += [f"## Quality: {preset} after {options.tokens:,.0f} tokens"]
        parts += [table(["changed", "held-out bits per byte", "seeds"], rows)]
    write_page(options.out, "The levers of the trainer, one by one", *parts)


if __name__ == "__main__":
    main()
