"""What each lever of the trainer is worth on its own: everything as it is, and again with one thing changed.

    python -m benchmarks.levers --tokenizer tokenizer --texts zh.jsonl --quality tiny --work levers.json
    python -m benchmarks.levers --tokenizer tokenizer --texts zh.jsonl --speed nano --work levers.json

Speed is positions a second of a whole step of 16,384, every change in a new process; the list is gone through
--rounds times, and the best counts. Quality is held-out bits per byte after --tokens, so time is left out: what
changes the speed of a step as well must be judged by both tables.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import torch
from benchmarks import other_ways
from benchmarks.results import command, machine, table, write_page
from benchmarks.time_to_loss import held_out_bits
from benchmarks.trainings import Kept, in_a_process, ready_for_steps, seconds, trainer_of

from minimind.recipe import Recipe
from minimind.stages.resolve import resolve
from minimind.stages.stage import Stage

Settings = dict[str, str]
Change = Settings | Stage  # settings that differ, or a stage that does
MEMORY_GIVEN_BACK = "freed memory given back"


SPEED_OF: Settings = {
    "batch.seq_len": "512",
    "batch.tokens_per_step": "16384",
    "batch.micro_batch_tokens": "4096",
    "compile": "true",
    "budget.tokens": "1e10",
}
SPEED: dict[str, Change] = {
    "all as it is": {},
    "blocks not compiled": {"compile": "false"},
    "attention: one masked call": other_ways.MASKED_ATTENTION,
    "attention: plain products with a mask": other_ways.REFERENCE_ATTENTION,
    MEMORY_GIVEN_BACK: {},
    "query, key, value in one product, gate and up too": other_ways.FUSED_PRODUCTS,
    "all logits at once": other_ways.ALL_LOGITS,
    "fp32": {"precision": "fp32"},
    "bf16": {"precision": "bf16"},
    "1,024 positions at once": {"batch.micro_batch_tokens": "1024"},
    "2,048 positions at once": {"batch.micro_batch_tokens": "2048"},
    "8,192 positions at once": {"batch.micro_batch_tokens": "8192"},
    "sequences of 256": {"batch.seq_len": "256"},
    "activation checkpointing": {"activation_checkpointing": "true"},
    "AdamW": {"optimizer.name": "adamw"},
    "Muon with polar_express": {"optimizer.iteration": "polar_express"},
    "Muon with normalized rows": {"optimizer.row_decay": "0.95"},
}
QUALITY_OF: Settings = {
    "batch.seq_len": "340",
    "batch.tokens_per_step": "2040",
    "evaluation.every": "1000000",
}
QUALITY: dict[str, Change] = {
    "all as it is": {},
    "AdamW": {"optimizer.name": "adamw"},
    "AdamW, rate 0.01": {"optimizer.name": "adamw", "optimizer.learning_rate": "0.01"},
    "Muon with polar_express": {"optimizer.iteration": "polar_express"},
    "Muon with normalized rows": {"optimizer.row_decay": "0.95"},
    "weight decay 0.1": {"optimizer.weight_decay": "0.1"},
    "weight decay 0.1, cautious": {"optimizer.weight_decay": "0.1", "optimizer.cautious_decay": "true"},
    "cosine": {"schedule.kind": "cosine"},
    "decay over 0.2": {"schedule.decay": "0.2"},
    "decay over 0.8": {"schedule.decay": "0.8"},
    "no warm-up": {"schedule.warmup": "0"},
    "steps of 4,080": {"batch.tokens_per_step": "4080"},
    "steps of 8,160": {"batch.tokens_per_step": "8160"},
    "output projections not zero at first": other_ways.FILLED_PROJECTIONS,
    "two tokens ahead as well": other_ways.TWO_AHEAD,
    "rate of the matrices 0.004": {"optimizer.learning_rate": "0.004"},
    "rate of the matrices 0.016": {"optimizer.learning_rate": "0.016"},
    "rate of the embedding 0.016": {"optimizer.embedding_learning_rate": "0.016"},
    "rate of the embedding 0.06": {"optimizer.embedding_learning_rate": "0.06"},
    "sequences of a quarter of the length at first": other_ways.SHORT_FIRST,
    "few sequences a step at first, more later": other_ways.FEW_FIRST,
}


def changed(base: Settings, change: Change, preset: str, options: argparse.Namespace) -> Recipe:
    """The recipe with the change."""
    settings = {"preset": preset, "evaluation.samples": "0", **base}
    settings |= {} if isinstance(change, Stage) else change
    flags = [f"--{name}={value}" for name, value in settings.items()]
    return resolve("pretrain", flags, [], {"data": options.texts, "tokenizer": options.tokenizer})


def speed(preset: str, name: str, options: argparse.Namespace) -> float:
    """Positions a second of a step."""
    change = SPEED[name]
    recipe = changed(SPEED_OF, change, preset, options)
    stage = change if isinstance(change, Stage) else None
    trainer = ready_for_steps(recipe, Path("unused"), stage, keep_memory=name != MEMORY_GIVEN_BACK)
    batches = [trainer.source.step(k) for k in range(options.steps + 1)]
    times = [seconds(trainer.setup.device, trainer.step, batch, 1.0)[0] for batch in batches]
    return recipe.batch.tokens_per_step / min(times[1:])


def quality(preset: str, name: str, options: argparse.Namespace, seed: int) -> float:
    """Held-out bits per byte at the end."""
    change = QUALITY[name]
    base = QUALITY_OF | {"budget.tokens": str(options.tokens), "seed": str(seed)}
    recipe = changed(base, change, preset, options)
    with tempfile.TemporaryDirectory() as directory:
        trainer = trainer_of(recipe, Path(directory), change if isinstance(change, Stage) else None)
        trainer.fit()
        return held_out_bits(trainer)


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
    parser.add_argument("--work", type=Path, required=True, help="file of the trainings so far, to go on from")
    parser.add_argument("--out", type=Path, help="page to write; printed by default")
    options = parser.parse_args()
    parts = [f"{machine(torch.device('cpu'))}\nMade by `{command()}`."]
    for preset in options.speed:
        rates: dict[str, list[float]] = {name: [] for name in SPEED}
        for _ in range(options.rounds):
            for name in SPEED:
                rates[name].append(in_a_process(speed, preset, name, options))
                print(preset, name, f"{rates[name][-1]:,.0f}", flush=True)
        full = max(rates["all as it is"])
        rows = [[name, f"{max(found):,.0f}", f"{max(found) / full:.2f}"] for name, found in rates.items()]
        parts += [f"## Speed: {preset}", table(["changed", "positions/s", "of all as it is"], rows)]
    kept = Kept(options.work)
    for preset in options.quality:
        rows = []
        for name in QUALITY:
            prefix = f"{preset}, {options.tokens:.0f} tokens, {name}, seed "
            found = [kept.get(f"{prefix}{s}", quality, preset, name, options, s) for s in options.seeds]
            rows.append([name, f"{statistics.mean(found):.4f}", f"{min(found):.4f} to {max(found):.4f}"])
        parts += [f"## Quality: {preset} after {options.tokens:,.0f} tokens"]
        parts += [table(["changed", "held-out bits per byte", "seeds"], rows)]
    write_page(options.out, "The levers of the trainer, one by one", *parts)


if __name__ == "__main__":
    main()
