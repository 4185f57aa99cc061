"""`minimind data import` and `minimind data mix`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Annotated

from minimind.commands.options import add_encoding, add_json, count, seed, typed
from minimind.commands.output import print_json
from minimind.commands.subcommands import Subcommands
from minimind.errors import UserError
from minimind.util.typed import Range

NAMED = 10
FAQ_NOTE = """\
--faq reads tables and JSON with the columns question and answer, and texts: lines of `Q:` and `A:` (问： and 答：),
or headings (`## How …?`) with the answer below."""


def add(subcommands: Subcommands) -> None:
    child = subcommands.add(
        "import",
        import_,
        "write all texts of files and folders (Markdown, HTML, PDF, …) to one .jsonl file",
        "minimind data import notes/ book.pdf --out texts.jsonl\n"
        "  minimind data import faq.md --faq --out faq.jsonl\n"
        "  minimind data import identity.jsonl --fill name=Mia author='class 3b' --out identity.filled.jsonl",
        FAQ_NOTE,
    )
    child.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a file, or a folder of files")
    child.add_argument("--out", type=Path, required=True, metavar="FILE", help="the .jsonl file to write")
    child.add_argument("--faq", action="store_true", help="texts hold questions and answers; see below")
    child.add_argument("--longest", type=count, metavar="N", help="cut texts into passages of at most N characters")
    add_fill(child)
    add_encoding(child)
    add_json(child)

    child = subcommands.add(
        "mix",
        mix,
        "write several data sets to one .jsonl file, each with its share of the text",
        "minimind data mix law.jsonl general.jsonl --shares 0.8 0.2 --out mixed.jsonl",
        "The mixture is as large as the scarcest data set allows; documents stay whole.",
    )
    child.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="data sets: files or folders")
    share = typed(Annotated[float, Range(0, 1e9)])
    child.add_argument(
        "--repeat", nargs="+", type=count, metavar="N", help="how often each may be seen (default: 1)"
    )
    child.add_argument("--shares", nargs="+", type=share, required=True, metavar="S", help="of the bytes; one each")
    child.add_argument("--out", type=Path, required=True, metavar="FILE", help="the .jsonl file to write")
    child.add_argument("--seed", type=seed, default=0, help="which documents are drawn (default: 0)")
    add_json(child)


def add_fill(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fill", nargs="+", default=[], metavar="NAME=TEXT", help="write TEXT where {{NAME}} stands"
    )


def read_fill(words: list[str]) -> dict[str, str]:
    for word in words:
        if not word.partition("=")[0].isidentifier() or "=" not in word:
            raise UserError(f"--fill {word}: expected NAME=TEXT, for example name=Mia")
    return {name: text for name, _, text in (word.partition("=") for word in words)}


def check_out(out: Path) -> None:
    if not out.name.endswith(".jsonl"):
        raise UserError(f"--out {out}: end its name in .jsonl")


def import_(options: argparse.Namespace) -> None:
    from minimind.data.sources.collect import collect

    check_out(options.out)
    fill = read_fill(options.fill)
    found = collect(options.paths, options.out, options.faq, options.longest, fill, options.encoding)
    if options.json:
        print_json({"out": str(options.out), **found.to_dict()})
        return
    for bad in found.left_out[:NAMED]:
        print(f"left out: {bad}")
    if len(found.left_out) > NAMED:
        print(f"left out: {len(found.left_out) - NAMED:,} more; --json names all")
    print(
        f"{found.documents:,} documents of {len(found.files):,} files, {len(found.left_out):,} left out,"
        f" {found.duplicates:,} duplicates\n{options.out}"
    )


def mix(options: argparse.Namespace) -> None:
    from minimind.data.sources.mix import Dataset, mix

    check_out(options.out)
    repeat = options.repeat or [1] * len(options.paths)
    for name, values in {"shares": options.shares, "repeat": repeat}.items():
        if len(values) != len(options.paths):
            raise UserError(f"--{name}: give one for each of the {len(options.paths)} data sets, not {len(values)}")
    datasets = [Dataset([path], share, times) for path, share, times in zip(options.paths, options.shares, repeat)]
    parts = mix(datasets, options.out, options.seed)
    if options.json:
        print_json({"out": str(options.out), "parts": [vars(part) for part in parts]})
        return
    for part in parts:
        of = f"{part.bytes:,} of {part.available:,} bytes"
        print(f"{part.share:.2%}  {part.documents:,} documents, {of}  {part.paths[0]}")
    print(options.out)
