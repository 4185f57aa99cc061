"""`minimind tokenizer`: train one, show one, compare two."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minimind.commands.options import add_data, add_json, count
from minimind.commands.output import print_json
from minimind.commands.subcommands import Subcommands
from minimind.errors import UserError

if TYPE_CHECKING:
    from rich.text import Text

    from minimind.data.sources.documents import BadLine
    from minimind.tokenizer import Tokenizer

KNOWN_FILES = "FILE: .jsonl, .json, .txt, each also .gz or .zst, and .parquet, of any schema"

EXAMPLES = """\
examples:
  minimind tokenizer train --data zh.jsonl en.jsonl.zst --out tokenizer    learn 6,400 tokens
  minimind tokenizer show tokenizer --text "你好, world 2026"              see where tokens begin
  minimind tokenizer compare tokenizer other --data held_out.jsonl         which takes fewer tokens"""

BORDERS = ("black on bright_cyan", "black on bright_yellow")
"""Two styles in turn, so that neighboring tokens can be told apart."""
SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def run(argv: list[str]) -> int | None:
    subcommands = Subcommands("tokenizer", "Train a tokenizer, look at one, compare two.", EXAMPLES)
    data_help = "measure on these files instead of a few built-in sentences"

    child = subcommands.add(
        "train",
        train,
        "learn a vocabulary from text",
        "minimind tokenizer train --data zh.jsonl en.jsonl.zst --out tokenizer --vocab-size 6400",
        KNOWN_FILES,
    )
    add_data(child, "what to learn from", required=True)
    child.add_argument("--out", required=True, type=Path, metavar="DIR", help="directory to write")
    child.add_argument("--vocab-size", type=count, default=6400, metavar="N", help="tokens in all (default 6400)")
    child.add_argument("--force", action="store_true", help="replace a tokenizer that is already in DIR")
    add_json(child)

    child = subcommands.add(
        "show",
        show,
        "print a vocabulary's size, reserved tokens and bytes per token",
        'minimind tokenizer show tokenizer --text "你好, world 2026"',
        KNOWN_FILES,
    )
    child.add_argument("directory", metavar="DIR", help="a tokenizer's or a model's directory")
    child.add_argument("--text", metavar="TEXT", help="show where the tokens of this text begin and end")
    add_data(child, data_help)
    add_json(child)

    child = subcommands.add(
        "compare",
        compare,
        "print two vocabularies side by side",
        "minimind tokenizer compare tokenizer other --data held_out.jsonl",
        KNOWN_FILES,
    )
    child.add_argument("a", metavar="A", help="a tokenizer's or a model's directory")
    child.add_argument("b", metavar="B", help="another one")
    add_data(child, data_help)
    add_json(child)
    return subcommands.call(argv)


def train(options: argparse.Namespace) -> None:
    from minimind.tokenizer.measure import bytes_per_token
    from minimind.tokenizer.train import train

    if (options.out / "tokenizer.json").exists() and not options.force:
        raise UserError(
            f"{options.out} already holds a tokenizer; choose another --out, or replace it with --force"
        )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        tokenizer = train(_read(options), options.vocab_size, progress=not options.json and sys.stderr.isatty())
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)
    tokenizer.save(options.out)
    measured = bytes_per_token(tokenizer)
    if options.json:
        print_json({"directory": str(options.out), **_described(tokenizer), "bytes_per_token": measured})
        return
    print(f"{tokenizer.vocab_size:,} tokens, {_spelled(measured)}\n{options.out}")
    print(f"look at it: minimind tokenizer show {options.out}")


def show(options: argparse.Namespace) -> None:
    from minimind.tokenizer import Tokenizer
    from minimind.tokenizer.measure import SAMPLES, bytes_per_token
    from minimind.tokenizer.tokenizer import well_formed

    tokenizer = Tokenizer.load(options.directory)
    text = None if options.text is None else well_formed(options.text)
    measured = bytes_per_token(tokenizer, _read(options) if options.data else SAMPLES)
    if options.json:
        result = {"directory": options.directory, **_described(tokenizer), "bytes_per_token": measured}
        if text is not None:
            result["tokens"] = [
                {"id": index, "text": text[start:end]}
                for index, (start, end) in tokenizer.encode_with_offsets(text)
            ]
        print_json(result)
        return
    _print_shown(tokenizer, measured, text)


def _print_shown(tokenizer: Tokenizer, measured: dict[str, float], text: str | None) -> None:
    from rich.columns import Columns
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    console.print(f"{tokenizer.vocab_size:,} tokens, {_spelled(measured)}\nfingerprint {tokenizer.fingerprint}")
    console.print(f"\n{len(tokenizer.reserved)} reserved:")
    console.print(
        Columns([Text(f"{index:>3} {token}") for token, index in tokenizer.reserved.items()], column_first=True)
    )
    if text is not None:
        tokens = tokenizer.encode_with_offsets(text)
        size = len(text.encode())
        console.print(f"\n{len(tokens)} tokens for {size} bytes, {size / max(len(tokens), 1):.2f} bytes per token:")
        console.print(colored(text, tokens), soft_wrap=True)


def colored(text: str, tokens: Iterable[tuple[int, tuple[int, int]]]) -> Text:
    """`text` with its tokens in alternating colors and a thin bar between them.

    A character made of several tokens carries their number: 龘³.
    """
    from rich.text import Text

    pieces: list[tuple[int, int, int]] = []  # start, end, number of tokens
    for _, (start, end) in tokens:
        if pieces and start < pieces[-1][1]:
            first, last, count = pieces[-1]
            pieces[-1] = (first, max(last, end), count + 1)
        else:
            pieces.append((start, end, 1))
    result = Text()
    for index, (start, end, count) in enumerate(pieces):
        if index:
            result.append("│", style="dim")
        shown = text[start:end].replace("\n", "⏎\n") + (str(count).translate(SUPERSCRIPTS) if count > 1 else "")
        result.append(shown, style=BORDERS[index % 2])
    return result


def compare(options: argparse.Namespace) -> None:
    from minimind.tokenizer import Tokenizer
    from minimind.tokenizer.measure import SAMPLES, bytes_per_token

    pair = [Tokenizer.load(directory) for directory in (options.a, options.b)]
    vocabularies = [tokenizer.backend.get_vocab() for tokenizer in pair]
    shared = len(vocabularies[0].keys() & vocabularies[1].keys())
    texts = list(_read(options)) if options.data else SAMPLES
    measured = [bytes_per_token(tokenizer, texts) for tokenizer in pair]
    if options.json:
        described = [
            {"directory": directory, **_described(tokenizer), "bytes_per_token": measure}
            for directory, tokenizer, measure in zip((options.a, options.b), pair, measured)
        ]
        print_json({"tokenizers": described, "shared_tokens": shared})
        return

    from rich.console import Console
    from rich.table import Table

    table = Table("", options.a, options.b)
    table.add_row("tokens", *(f"{tokenizer.vocab_size:,}" for tokenizer in pair))
    table.add_row("of these in both", f"{shared:,}", f"{shared:,}")
    table.add_row("reserved", *(str(len(tokenizer.reserved)) for tokenizer in pair))
    for name in measured[0]:
        table.add_row(f"bytes per token, {name}", *(f"{measure[name]:.2f}" for measure in measured))
    table.add_row("fingerprint", *(tokenizer.fingerprint[:12] for tokenizer in pair))
    Console(highlight=False).print(table)


def _read(options: argparse.Namespace) -> Iterator[str]:
    """The texts of the files; bad lines are counted and reported at the end."""
    from minimind.data.sources.documents import read_texts

    bad_lines: list[BadLine] = []
    yield from read_texts(options.data, bad_lines.append, options.encoding)
    if bad_lines:
        print(f"warning: {len(bad_lines):,} bad line(s) left out, the first: {bad_lines[0]}", file=sys.stderr)


def _described(tokenizer: Tokenizer) -> dict[str, Any]:
    special = {token.content for token in tokenizer.backend.get_added_tokens_decoder().values() if token.special}
    return {
        "vocab_size": tokenizer.vocab_size,
        "fingerprint": tokenizer.fingerprint,
        "reserved": [
            {"id": index, "token": token, "special": token in special}
            for token, index in tokenizer.reserved.items()
        ],
    }


def _spelled(measured: dict[str, float]) -> str:
    return "bytes per token: " + ", ".join(f"{name} {value:.2f}" for name, value in measured.items())
