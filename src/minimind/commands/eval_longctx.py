"""`minimind eval longctx`: what a model makes of contexts of growing length."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Annotated

from minimind.commands.options import add_data, count, length, load_named, typed
from minimind.commands.output import print_json, print_table
from minimind.commands.subcommands import Subcommands
from minimind.errors import UserError
from minimind.util.typed import Range


def add(subcommands: Subcommands) -> argparse.ArgumentParser:
    child = subcommands.add(
        "longctx",
        longctx,
        "bits per byte and perplexity against the length of the context, as the model is and stretched",
        "minimind eval longctx runs/base --data novel.txt --lengths 128 256 512 1024 2048 --rope none yarn",
    )
    add_data(child, "long texts; a .txt file is one", required=True)
    child.add_argument(
        "--lengths",
        nargs="+",
        type=length,
        default=[128, 256, 512, 1024, 2048],
        metavar="N",
        help="contexts in tokens, the shortest first (default: 128 256 512 1024 2048)",
    )
    child.add_argument(
        "--rope",
        nargs="+",
        default=["none", "linear", "dynamic", "yarn"],
        metavar="KIND",
        help="ways to stretch: none, linear, dynamic, yarn (default: all)",
    )
    child.add_argument(
        "--factor",
        type=typed(Annotated[float, Range(1, 1e6)]),
        help="how many times longer (default: config.json's, or longest / trained length)",
    )
    child.add_argument(
        "--trained", type=length, metavar="N", help="length the model was trained at (default: as in config.json)"
    )
    child.add_argument(
        "--max-tokens", type=count, default=4096, help="tokens predicted after each context (default: 4096)"
    )
    child.add_argument(
        "--out", type=Path, default=Path("longctx.svg"), metavar="FILE", help="the plot (default: longctx.svg)"
    )
    return child


def longctx(options: argparse.Namespace) -> None:
    """The same tokens are predicted after every context, so that the figures can be compared."""
    from minimind.eval.longctx import (
        LengthReport,
        at_other_positions,
        check_lengths,
        cut_windows,
        evaluate,
        read_long_texts,
        rope_configs,
    )
    from minimind.util.files import write_text
    from minimind.util.progress import progress

    lengths = options.lengths
    check_lengths(lengths)
    if options.out.suffix != ".svg":
        raise UserError(f"cannot draw {options.out}: end its name in .svg")
    directory, model, tokenizer = load_named(options)
    configs = rope_configs(model.config, options.rope, lengths[-1], options.factor, options.trained)
    windows = cut_windows(read_long_texts(options.data, options.encoding), tokenizer, lengths, options.max_tokens)
    with progress("reading", sum(lengths) * len(windows.tokens_NT) * len(configs), "tokens") as update:
        curves = {
            rope: evaluate(at_other_positions(model, config), windows, lengths, update)
            for rope, config in configs.items()
        }
    report = LengthReport(lengths, configs, curves)
    write_text(options.out, report.plot())
    if options.json:
        print_json({"model": str(directory), **report.to_dict()})
        return
    print_table(report.rows())
    count = windows.targets * len(windows.tokens_NT)
    print(f"bits per byte (perplexity) of the same {count:,} tokens after each context; drawn in {options.out}")
    print(f"best after {lengths[-1]:,} tokens: {report.best}")
    if configs[report.best] != model.config:
        print(f"to keep it, set in {directory / 'config.json'}:")
        print(json.dumps(report.to_keep(report.best), indent=2))
