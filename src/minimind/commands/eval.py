"""`minimind eval ppl|skills|toolcall|longctx`: how good a model is."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minimind.commands.verbs import Verbs

SKILLS = "identity, facts, translation, arithmetic, strings, recall across turns, tool use, stopping"


def run(argv: list[str]) -> None:
    verbs = Verbs(
        "eval",
        "Measure a model.",
        "examples:\n  minimind eval ppl runs/base --data text.jsonl\n  minimind eval skills runs/chat\n"
        "  minimind eval longctx runs/base --data novel.txt",
    )
    on_texts = verbs.add(
        "ppl",
        ppl,
        "bits per byte and perplexity on texts or conversations",
        "minimind eval ppl runs/base --data zh.jsonl en.jsonl --seq-len 512",
    )
    on_texts.add_argument(
        "--data", nargs="+", type=Path, required=True, metavar="FILE", help="each is measured alone"
    )
    on_texts.add_argument("--seq-len", type=int, default=512, help="longest context in tokens (default: 512)")
    on_texts.add_argument("--max-tokens", type=int, help="tokens read of each file (default: all)")

    on_skills = verbs.add(
        "skills", skills, f"held-out questions of the embedded world: {SKILLS}", "minimind eval skills runs/chat"
    )
    on_skills.add_argument("--per-skill", type=int, default=200, help="questions of each skill (default: 200)")
    on_skills.add_argument("--seed", type=int, default=0, help="which questions are drawn (default: 0)")
    on_skills.add_argument("--max-tokens", type=int, default=96, help="longest answer (default: 96)")

    on_calls = verbs.add(
        "toolcall",
        toolcall,
        "whether the model calls the right tool with the right arguments, and only when it should",
        "minimind eval toolcall runs/chat --data tools.jsonl",
    )
    on_calls.add_argument(
        "--data",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="conversations with tools (default: held-out questions of the embedded world)",
    )
    on_calls.add_argument("--questions", type=int, default=200, help="at most so many turns (default: 200)")
    on_calls.add_argument("--seed", type=int, default=0, help="which of the world's are drawn (default: 0)")
    on_calls.add_argument("--max-tokens", type=int, default=256, help="longest answer (default: 256)")

    on_lengths = verbs.add(
        "longctx",
        longctx,
        "bits per byte and perplexity against the length of the context, as the model is and stretched",
        "minimind eval longctx runs/base --data novel.txt --lengths 128 256 512 1024 2048 --rope none yarn",
    )
    on_lengths.add_argument(
        "--data", nargs="+", type=Path, required=True, metavar="FILE", help="long texts; a .txt file is one"
    )
    on_lengths.add_argument(
        "--lengths",
        nargs="+",
        type=int,
        default=[128, 256, 512, 1024, 2048],
        metavar="N",
        help="contexts in tokens, the shortest first (default: 128 256 512 1024 2048)",
    )
    on_lengths.add_argument(
        "--rope",
        nargs="+",
        default=["none", "linear", "dynamic", "yarn"],
        metavar="KIND",
        help="ways to stretch: none, linear, dynamic, yarn (default: all)",
    )
    on_lengths.add_argument(
        "--factor", type=float, help="how many times longer (default: config.json's, or longest / trained length)"
    )
    on_lengths.add_argument(
        "--trained", type=int, metavar="N", help="length the model was trained at (default: as in config.json)"
    )
    on_lengths.add_argument(
        "--max-tokens", type=int, default=4096, help="tokens predicted after each context (default: 4096)"
    )
    on_lengths.add_argument(
        "--out", type=Path, default=Path("longctx.svg"), metavar="FILE", help="the plot (default: longctx.svg)"
    )
    for child in (on_texts, on_skills, on_calls, on_lengths):
        child.add_argument("model", metavar="MODEL", help="model or run directory")
        child.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
        child.add_argument("--json", action="store_true", help="print JSON instead of a table")
    verbs.call(argv)


def ppl(options: argparse.Namespace) -> None:
    """Long documents are read in pieces of at most --seq-len tokens that do not overlap."""
    import numpy as np

    from minimind.data.batches.loader import sequential_batches
    from minimind.data.shards.prepare import prepare
    from minimind.errors import UserError
    from minimind.eval.perplexity import measure
    from minimind.hardware import pick_device
    from minimind.model import load_model
    from minimind.model.hf.weights import model_directory
    from minimind.tokenizer import Tokenizer

    if options.seq_len < 2:
        raise UserError(f"--seq-len {options.seq_len} is too short; give at least 2")
    directory, device = model_directory(options.model), pick_device(options.device)
    model, tokenizer = load_model(directory, device=device), Tokenizer.load(directory)
    rows = max(1, 8192 // options.seq_len)
    results = []
    for file in options.data:
        data = prepare([file], tokenizer, "auto")
        batches = sequential_batches(data, np.arange(len(data)), options.seq_len, rows)
        most = (options.max_tokens or data.num_tokens) // (rows * options.seq_len) + 1
        nll = measure(model, (batch for _, batch in zip(range(most), batches)), device)
        results.append({"file": str(file), **nll.to_dict(), "perplexity": nll.perplexity})
    report = {"model": str(directory), "seq_len": options.seq_len, "results": results}
    if options.json:
        print(json.dumps(report, ensure_ascii=False))
    else:
        table = [["file", "tokens", "bytes", "bits per byte", "loss", "perplexity"]]
        for r in results:
            counts = [f"{r['tokens']:,}", f"{r['bytes']:,.0f}"]
            table.append(
                [r["file"], *counts, *(f"{r[key]:.4f}" for key in ("bits_per_byte", "loss", "perplexity"))]
            )
        show(table)


def skills(options: argparse.Namespace) -> None:
    from minimind.eval.skills import evaluate
    from minimind.hardware import pick_device
    from minimind.infer.engine import Engine
    from minimind.model import load_model
    from minimind.model.hf.weights import model_directory
    from minimind.tokenizer import Tokenizer
    from minimind.world.questions import questions

    directory = model_directory(options.model)
    model = load_model(directory, device=pick_device(options.device))
    tokenizer = Tokenizer.load(directory)
    asked = questions(options.seed, options.per_skill)
    report = evaluate(Engine(model, max_batch=128), tokenizer, asked, options.max_tokens)
    if options.json:
        print(json.dumps({"model": str(directory), **report.to_dict()}, ensure_ascii=False))
    else:
        show(report.rows())


def toolcall(options: argparse.Namespace) -> None:
    from minimind.errors import UserError
    from minimind.eval.toolcall import evaluate, read_cases, world_cases
    from minimind.hardware import pick_device
    from minimind.infer.engine import Engine
    from minimind.model import load_model
    from minimind.model.hf.weights import model_directory
    from minimind.tokenizer import Tokenizer

    if options.questions < 1:
        raise UserError(f"--questions {options.questions} asks nothing; give at least 1")
    cases = read_cases(options.data) if options.data else world_cases(options.seed, options.questions)
    cases = cases[: options.questions]
    directory = model_directory(options.model)
    model = load_model(directory, device=pick_device(options.device))
    report = evaluate(Engine(model, max_batch=128), Tokenizer.load(directory), cases, options.max_tokens)
    if options.json:
        print(json.dumps({"model": str(directory), **report.to_dict()}, ensure_ascii=False))
        return
    show(report.rows())
    if report.too_long:
        print(f"{report.too_long} of {len(cases)} turns were left out: the context has no room for them")


def longctx(options: argparse.Namespace) -> None:
    """The same tokens are predicted after every context, so that the figures can be compared."""
    from minimind.errors import UserError
    from minimind.eval.longctx import (
        LengthReport,
        at_other_positions,
        check_lengths,
        cut_windows,
        measure,
        read_long_texts,
        rope_configs,
    )
    from minimind.hardware import pick_device
    from minimind.model import load_model
    from minimind.model.hf.weights import model_directory
    from minimind.tokenizer import Tokenizer
    from minimind.util.files import write_text

    lengths = options.lengths
    check_lengths(lengths)
    if options.out.suffix != ".svg":
        raise UserError(f"cannot draw {options.out}: end its name in .svg")
    directory = model_directory(options.model)
    model, tokenizer = load_model(directory, device=pick_device(options.device)), Tokenizer.load(directory)
    configs = rope_configs(model.config, options.rope, lengths[-1], options.factor, options.trained)
    windows = cut_windows(read_long_texts(options.data), tokenizer, lengths, options.max_tokens)
    with reading(sum(lengths) * len(windows.tokens_NT) * len(configs)) as on_read:
        curves = {
            rope: measure(at_other_positions(model, config), windows, lengths, on_read)
            for rope, config in configs.items()
        }
    report = LengthReport(lengths, configs, curves)
    write_text(options.out, report.plot())
    if options.json:
        print(json.dumps({"model": str(directory), **report.to_dict()}, ensure_ascii=False))
        return
    show(report.rows())
    count = windows.targets * len(windows.tokens_NT)
    print(f"bits per byte (perplexity) of the same {count:,} tokens after each context; drawn in {options.out}")
    print(f"best after {lengths[-1]:,} tokens: {report.best}")
    if configs[report.best] != model.config:
        print(f"to keep it, set in {directory / 'config.json'}:")
        print(json.dumps(report.to_keep(report.best), indent=2))


@contextmanager
def reading(tokens: int) -> Iterator[Callable[[int], None]]:
    """A bar with tokens/s and time left on a terminal's stderr; call what it gives with the tokens just read."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed or 0:,.0f} tokens/s, left")

    console = Console(stderr=True)
    columns = (TextColumn("reading"), BarColumn(), Speed(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=tokens)
        yield lambda count: bar.advance(task, count)


def show(rows: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*rows[0])
    for row in rows[1:]:
        table.add_row(*row)
    Console().print(table)
