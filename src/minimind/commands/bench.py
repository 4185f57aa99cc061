"""`minimind bench matmul|train|data`: what this machine can do."""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minimind.commands.options import add_data, add_device, add_json, count
from minimind.commands.output import print_json, print_table
from minimind.commands.subcommands import Subcommands
from minimind.errors import UserError, WorkFailed
from minimind.util.progress import progress

if TYPE_CHECKING:
    import torch

    from minimind.bench.data import DataSpeed
    from minimind.bench.train import Speed
    from minimind.recipe import Recipe

EXAMPLES = """\
examples:
  minimind bench matmul                               the ceilings: matrix products and memory
  minimind bench train --preset nano minimind2-small  tokens a second, and what limits them
  minimind bench data --data corpus.jsonl             whether the data can keep up

Each takes less than two minutes. What else runs on the machine lowers all figures."""

PRESETS = {"cuda": ["nano", "minimind2-small", "minimind2", "350m"]}
FEW_PRESETS = ["quickstart", "nano", "minimind2-small"]
AT_ONCE = {"cuda": [4096, 8192, 16384, 32768, 65536]}
FEW_AT_ONCE = [1024, 2048, 4096, 8192]
TOKENS_PER_STEP = 32768  # the default of a training, too
UNSTEADY = 1.5  # fastest to slowest of one product: more means that the machine does other work as well
SIZES = [256, 512, 1024, 2048, 4096]


def run(argv: list[str]) -> None:
    subcommands = Subcommands("bench", "What this machine can do, in less than two minutes each.", EXAMPLES)
    on_matmul = subcommands.add(
        "matmul",
        matmul,
        "rates of matrix products by type and size, and of copying: what nothing can exceed",
        "minimind bench matmul --preset minimind2-small",
    )
    on_matmul.add_argument("--preset", metavar="NAME", help="also time the products of this shape")
    on_matmul.add_argument(
        "--tokens", type=count, default=4096, metavar="N", help="tokens at once in those (default: 4096)"
    )

    on_train = subcommands.add(
        "train",
        train,
        "tokens a second and memory of real training steps, and what limits them",
        "minimind bench train --preset nano minimind2-small --seq-len 340 --compile",
    )
    on_train.add_argument("--preset", nargs="+", metavar="NAME", help="shapes (default: some that fit the device)")
    on_train.add_argument(
        "--micro-batch-tokens",
        nargs="+",
        type=count,
        metavar="N",
        help="positions computed at once (default: 1024 to 8192, on CUDA 4096 to 65536)",
    )
    on_train.add_argument(
        "--tokens-per-step", type=count, metavar="N", help=f"positions of a step (default: {TOKENS_PER_STEP})"
    )
    on_train.add_argument("--rounds", type=count, default=3, metavar="N", help="medians of N rounds (default: 3)")
    on_train.add_argument(
        "--seconds", type=count, default=105, metavar="N", help="what takes longer is left out (default: 105)"
    )
    on_train.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="with torch.compile, which takes its time for every size (default: on CUDA)",
    )

    on_data = subcommands.add(
        "data",
        data,
        "rates of reading, tokenizing, packing and loading, beside what training needs",
        "minimind bench data --data zh.jsonl en.jsonl --tokenizer tokenizer --seq-len 340",
    )
    add_data(on_data, "each is measured alone (default: the built-in corpus)")
    on_data.add_argument("--tokenizer", metavar="DIR", help="default: one of 6,400 ids is trained on the data")
    on_data.add_argument(
        "--megabytes", type=count, default=8, metavar="N", help="read of each file, from its beginning (8)"
    )
    on_data.add_argument(
        "--preset", default="quickstart", metavar="NAME", help="shape whose training is fed (quickstart)"
    )
    for child in (on_train, on_data):
        child.add_argument("--seq-len", type=count, default=512, metavar="N", help="positions in a sequence (512)")
        child.add_argument(
            "--precision", default="auto", choices=["auto", "fp32", "bf16", "fp16"], help="as in a training (auto)"
        )
    add_device(on_matmul, on_train, on_data)
    add_json(on_matmul, on_train, on_data)
    subcommands.call(argv)


def matmul(options: argparse.Namespace) -> None:
    from minimind import presets
    from minimind.bench.machine import copy_rate, gain_of_threads, preset_products, product_rates, types
    from minimind.hardware import DTYPES, choose_dtype, pick_device

    device = pick_device(options.device)
    config = presets.get(options.preset) if options.preset else None
    squares = [(size, size, size) for size in (*SIZES, 8192) if size <= 4096 or device.type == "cuda"]
    shapes = preset_products(config, options.tokens) if config else []
    dtype, why = choose_dtype(device)
    auto = next(name for name, one in DTYPES.items() if one == dtype)
    with progress("measuring", len(types(device)) * (len(squares) + len(shapes)), "") as update:
        rates = product_rates(squares + shapes, device, lambda: update(1))
    copied, gain = copy_rate(device), gain_of_threads(device)
    if options.json:
        products = [
            {"rows": rows, "inner": inner, "columns": columns, **{name: rates[name][n] for name in rates}}
            for n, (rows, inner, columns) in enumerate(squares + shapes)
        ]
        print_report(
            device,
            operations_per_second=products,
            copied_bytes_per_second=copied,
            gain_of_threads=gain,
            auto={"precision": auto, "why": why},
        )
        return

    print(machine(device))
    cells = [[giga(rates[name][n]) for name in rates] for n in range(len(squares + shapes))]
    print_table([["matrices, GFLOP/s", *rates], *([f"{size}", *row] for (size, _, _), row in zip(squares, cells))])
    if shapes:
        labels = [f"{rows:,} × {inner:,} × {columns:,}" for rows, inner, columns in shapes]
        header = [f"{options.preset}, {options.tokens:,} tokens", *rates]
        print_table([header, *([name, *row] for name, row in zip(labels, cells[len(squares) :]))])
    if None in [one for column in rates.values() for one in column]:
        print("–: the type is emulated here, and no faster at this size")
    print(f"copying: {copied / 1e9:,.1f} GB/s read and written")
    if gain:
        print(f"all threads: {gain:.2f} times as fast as one")
    print(f"--precision auto takes {auto}: {why}")


def train(options: argparse.Namespace) -> None:
    from minimind.bench.train import measure, work
    from minimind.hardware import pick_device, pick_dtype

    device = pick_device(options.device)
    compiled = device.type == "cuda" if options.compile is None else options.compile
    sizes = sorted({*(options.micro_batch_tokens or AT_ONCE.get(device.type, FEW_AT_ONCE))})
    if sizes[0] < options.seq_len:
        raise UserError(
            f"--micro-batch-tokens {sizes[0]} is less than one sequence of {options.seq_len}; raise it, or lower "
            "--seq-len"
        )
    step = options.tokens_per_step or max(TOKENS_PER_STEP, sizes[-1])
    names = options.preset or PRESETS.get(device.type, FEW_PRESETS)
    recipes = [recipe_for(name, options, step, compiled) for name in names]
    dtype = pick_dtype(options.precision, device)
    end = time.monotonic() + options.seconds
    speeds = []
    with progress("measuring", sum(work(recipe, sizes, options.rounds) for recipe in recipes), "") as update:
        for number, recipe in enumerate(recipes):
            left = work(recipe, sizes, options.rounds)

            def on_done(done: float) -> None:
                nonlocal left
                left -= done
                update(done)

            update.say(recipe.preset)
            share = (end - time.monotonic()) / (len(recipes) - number)  # what one leaves over the next may use
            speeds.append(measure(recipe, sizes, options.rounds, share, device, dtype, on_done, update.say))
            update(left)
    if options.json:
        settings = {"seq_len": options.seq_len, "precision": str(dtype).removeprefix("torch.")}
        print_report(device, **settings, results=[dataclasses.asdict(speed) for speed in speeds])
    else:
        print(f"{machine(device)}, {str(dtype).removeprefix('torch.')}, sequences of {options.seq_len}")
        show_speeds(speeds)
    if not any(speed.best for speed in speeds):
        raise WorkFailed(
            "nothing could be measured; name a smaller --preset or --micro-batch-tokens, or more --seconds"
        )


def recipe_for(preset: str, options: argparse.Namespace, step: int, compiled: bool) -> Recipe:
    """A pretraining of a preset with the settings of every training, in steps of about `step` positions."""
    from minimind import presets
    from minimind.recipe import BatchOptions, Recipe

    seq_len = options.seq_len
    batch = BatchOptions(seq_len, tokens_per_step=max(1, round(step / seq_len)) * seq_len)
    return Recipe(preset=preset, model=presets.get(preset), batch=batch, compile=compiled)


def show_speeds(speeds: list[Speed]) -> None:
    from minimind.bench.train import PARTS

    measured = [speed for speed in speeds if speed.best]
    table = [["preset", "parameters", "at once", "tokens/s", "MFU", "memory", ""]]
    for speed in measured:
        for number, one in enumerate(one for one in speed.micro_batches if not one.skipped):
            name = ["", ""] if number else [speed.preset, f"{speed.parameters:,}"]
            figures = [f"{one.tokens_per_second:,.0f}", f"{one.mfu:.0%}", f"{one.memory_gb:.1f} GB"]
            table.append([*name, f"{one.tokens:,}", *figures, "best" if one.tokens == speed.best else ""])
    if measured:
        print_table(table)
    for speed in speeds:
        if skipped := [one for one in speed.micro_batches if one.skipped]:
            more = " and more" if len(skipped) > 1 else ""
            print(f"{speed.preset}, {skipped[0].tokens:,}{more} at once: {skipped[0].skipped}")
    if not measured:
        return
    header = ["of a step", *PARTS.values()]
    print_table([header, *([speed.preset, *(f"{speed.parts[part]:.0%}" for part in PARTS)] for speed in measured)])
    for speed in measured:
        print(f"{speed.preset} is limited by {speed.limit}")
    rates = " / ".join(giga(speed.matmul_rate) for speed in measured)
    print(f"MFU: share of the fastest matrix product timed between the steps, {rates} GFLOP/s")
    for speed in measured:
        slowest, fastest = speed.large_rates
        if fastest > UNSTEADY * slowest:
            moved = f"the rate of large products moved from {giga(slowest)} to {giga(fastest)} GFLOP/s"
            print(f"{speed.preset}: {moved}, so all figures are lower than they could be")


def data(options: argparse.Namespace) -> None:
    from minimind.bench.data import measure, take, training_rate, write_example
    from minimind.data.sources.documents import read_texts
    from minimind.data.sources.files import check_file
    from minimind.hardware import pick_device, pick_dtype
    from minimind.tokenizer import Tokenizer
    from minimind.tokenizer.train import train as train_tokenizer

    for file in options.data or []:
        check_file(file)
    recipe = recipe_for(options.preset, options, TOKENS_PER_STEP, compiled=False)
    device, size = pick_device(options.device), 10**6 * options.megabytes
    with (
        tempfile.TemporaryDirectory() as name,
        progress("reading", 2 * len(options.data or "zh") + 2, "") as update,
    ):
        scratch = Path(name)
        files = options.data or write_example(scratch / "world", size)
        samples = []
        for number, file in enumerate(files):
            update.say(f"reading {file.name}")
            samples.append(take(file, size, scratch / str(number), options.encoding))
            update(1)
        update.say("training a tokenizer")
        if options.tokenizer:
            tokenizer = Tokenizer.load(options.tokenizer)
        else:
            tokenizer = train_tokenizer(read_texts(sample.path for sample in samples))
        update(1)
        update.say(f"training {options.preset}")
        needed = training_rate(recipe, device, pick_dtype(options.precision, device))
        update(1)
        speeds = []
        for sample in samples:
            update.say(f"tokenizing {Path(sample.file).name}")
            speeds.append(measure(sample, tokenizer, options.seq_len))
            update(1)
    if options.json:
        results = [dataclasses.asdict(speed) for speed in speeds]
        settings = {"seq_len": options.seq_len, "vocab_size": tokenizer.vocab_size, "preset": options.preset}
        print_report(device, **settings, training_tokens_per_second=needed, results=results)
    else:
        print(f"{machine(device)}, sequences of {options.seq_len}, a vocabulary of {tokenizer.vocab_size:,}")
        show_data(speeds, options.preset, needed)


def show_data(speeds: list[DataSpeed], preset: str, needed: float) -> None:
    rows: dict[str, Callable[[DataSpeed], str]] = {
        "documents": lambda one: f"{one.documents:,}",
        "tokens": lambda one: f"{one.tokens:,}",
        "reading, MB/s": lambda one: f"{one.read_mb_per_second:,.1f}",
        "preparing, MB/s": lambda one: f"{one.prepare_mb_per_second:,.2f}",
        "preparing, tokens/s": lambda one: f"{one.prepare_tokens_per_second:,.0f}",
        "packing, segments/s": lambda one: f"{one.packed_per_second:,.0f}",
        "padding": lambda one: f"{one.padding:.2%}",
        "batches, tokens/s": lambda one: f"{one.batch_tokens_per_second:,.0f}",
    }
    titles = [f"{Path(one.file).name}, {one.megabytes:.1f} MB" for one in speeds]
    print_table([["on one process", *titles], *([label, *map(cell, speeds)] for label, cell in rows.items())])
    slowest = min(speeds, key=lambda one: one.batch_tokens_per_second)
    share = needed / slowest.batch_tokens_per_second
    ahead = min(one.prepare_tokens_per_second for one in speeds) / needed
    print(
        f"training {preset} reads {needed:,.0f} tokens/s here: making its batches takes one thread {share:.2%} of "
        f"that time\na second of preparing on one process, done once, gives tokens for {ahead:,.1f} s of it"
    )


def machine(device: torch.device) -> str:
    """What was measured on, in words."""
    import torch

    from minimind.hardware import processor

    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{processor()} ({capability}), {torch.get_num_threads()} threads, torch {torch.__version__}"


def print_report(device: torch.device, **values: Any) -> None:
    from minimind.stages.launch import environment

    about = {"device": str(device), "machine": machine(device), "environment": environment()}
    print_json({**about, **values})


def giga(rate: float | None) -> str:
    return "–" if rate is None else f"{rate / 1e9:,.0f}"
