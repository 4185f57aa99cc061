"""`minimind data`: prepare, show, check, world; `get` is in data_get.py, `import` and `mix` in data_collect.py."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minimind.commands import data_collect
from minimind.commands.options import add_encoding, add_json, count, seed, typed
from minimind.commands.output import print_json
from minimind.commands.subcommands import Subcommands
from minimind.errors import UserError
from minimind.util.typed import CountOrZero

if TYPE_CHECKING:
    from minimind.data.sources.check import Findings
    from minimind.data.sources.documents import BadLine, Document
    from minimind.tokenizer import Tokenizer

KNOWN_FILES = """\
files: .jsonl, .json (also an array), .txt (documents separated by <|endoftext|> or else by blank lines), .csv,
.tsv, .md, .html, each also .gz or .zst, .parquet and .pdf; a folder stands for all of them in it"""

SHOWN = 20_000  # tokens of a document that are printed

EXAMPLES = """\
examples:
  minimind data world --out world                                  write the built-in bilingual corpus
  minimind data import notes/ --out notes.jsonl                    texts from Markdown, HTML, PDF, …
  minimind data check mine.jsonl                                   name every line that cannot be used
  minimind data show mine.jsonl --tokenizer tokenizer --sample 3   what is trained on, in color
  minimind data prepare mine.jsonl --tokenizer tokenizer           tokenize once, for all later runs"""


def run(argv: list[str]) -> int | None:
    if argv[:1] == ["get"]:
        from minimind.commands import data_get

        return data_get.run(argv[1:])
    if argv[:1] == ["distill"]:
        from minimind.commands import data_distill

        return data_distill.run(argv[1:])
    subcommands = Subcommands("data", "Prepare, look at and check training data.", EXAMPLES)
    child = subcommands.add(
        "prepare",
        prepare,
        "tokenize each FILE into a cached data set",
        "minimind data prepare pretrain.jsonl.zst --tokenizer tokenizer --workers 4",
        KNOWN_FILES,
    )
    _files_and_tokenizer(child, required=True)
    child.add_argument(
        "--kind",
        default="auto",
        choices=["auto", "pretrain", "chat", "preference", "unpaired"],
        help="what the files hold (auto: look)",
    )
    child.add_argument(
        "--cache", type=Path, metavar="DIR", help="where data sets are kept (default ~/.cache/minimind/shards)"
    )
    child.add_argument("--workers", type=count, metavar="N", help="processes (default: processors, at most 8)")
    add_json(child)

    child = subcommands.add(
        "show",
        show,
        "print documents of each FILE with the tokens that are trained on in green",
        "minimind data show sft.jsonl --tokenizer tokenizer --sample 3 --seed 1",
        KNOWN_FILES,
    )
    _files_and_tokenizer(child, required=True)
    which = child.add_mutually_exclusive_group()
    which.add_argument(
        "--index", type=typed(CountOrZero), default=0, metavar="I", help="show document I, from 0 (default 0)"
    )
    which.add_argument("--sample", type=count, metavar="N", help="show N documents chosen at random")
    child.add_argument("--seed", type=seed, default=0, metavar="S", help="of the random choice (default 0)")
    child.add_argument(
        "--seq-len", type=count, default=512, metavar="T", help="count segments for sequences of T tokens (512)"
    )
    add_json(child)

    child = subcommands.add(
        "check",
        check,
        "name every bad line of each FILE; count schemas, duplicates, empty answers, long samples",
        "minimind data check sft.jsonl --tokenizer tokenizer --context 512",
        KNOWN_FILES,
    )
    _files_and_tokenizer(child, required=False)
    child.add_argument("--context", type=count, metavar="N", help="count samples of more than N tokens")
    add_json(child)

    child = subcommands.add(
        "world", world, "write the built-in bilingual corpus", "minimind data world --out world --seed 0"
    )
    child.add_argument("--out", type=Path, required=True, metavar="DIR", help="the directory to write to")
    child.add_argument(
        "--seed", type=seed, default=0, metavar="S", help="another seed, other documents (default 0)"
    )
    sizes = {
        "pretrain-bytes": "UTF-8 bytes of text for pretraining",
        "sft": "conversations",
        "preference": "preference pairs",
        "rl": "prompts for reinforcement learning",
        "reason": "conversations with thinking",
        "agent": "questions whose answer takes several calls of tools",
        "agent-sft": "conversations with such calls",
        "per-skill": "held-out questions of each skill",
    }
    for name, text in sizes.items():
        child.add_argument(f"--{name}", type=count, metavar="N", help=f"how many {text}")

    data_collect.add(subcommands)
    subcommands.mention("get", "download a published data set")
    subcommands.mention("distill", "make training data from what a teacher answers")
    return subcommands.call(argv)


def _files_and_tokenizer(parser: argparse.ArgumentParser, required: bool) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a data file; see below")
    parser.add_argument(
        "--tokenizer", required=required, metavar="DIR", help="a tokenizer's or a model's directory"
    )
    add_encoding(parser)


def prepare(options: argparse.Namespace) -> None:
    from minimind.data.shards.prepare import prepare
    from minimind.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(options.tokenizer)
    data = prepare(options.files, tokenizer, options.kind, options.cache, options.workers, options.encoding)
    if options.json:
        keys = ("kind", "fingerprint", "vocab_size", "counts", "shards", "report")
        print_json({"directory": str(data.directory), **{key: data.meta[key] for key in keys}})
        return
    counts = data.meta["counts"]
    print(
        f"{counts['documents']:,} documents, {counts['tokens']:,} tokens ({counts['trained_tokens']:,} trained on),"
        f" {counts['bytes'] / counts['trained_tokens']:.2f} bytes per trained token\n{data.directory}"
    )


def show(options: argparse.Namespace) -> None:
    from minimind.data.sources.documents import Document
    from minimind.data.sources.show import pick, sample
    from minimind.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(options.tokenizer)
    if options.sample:
        items = sample(options.files, options.sample, options.seed, options.encoding)
    else:
        items = [pick(options.files, options.index, options.encoding)]
    for item in items:
        if not isinstance(item, Document):
            print(f"bad line: {item}", file=sys.stderr)
    documents = [item for item in items if isinstance(item, Document)]
    if options.json:
        print_json([_described(document, tokenizer, options.seq_len) for document in documents])
        return
    for document in documents:
        _print_document(document, tokenizer, options.seq_len)


def _described(document: Document, tokenizer: Tokenizer, seq_len: int) -> dict[str, Any]:
    from minimind.data.sources.show import number_of_segments, sequences, token_runs

    return {
        "file": document.file,
        "line": document.line,
        "kind": document.kind,
        "schema": document.schema,
        "sequences": [
            {
                "name": name,
                "tokens": len(ids),
                "trained_tokens": int(mask.sum()),
                "pieces": number_of_segments(len(ids), seq_len),
                "segments": [vars(run) for run in token_runs(ids, mask, tokenizer)],
            }
            for name, ids, mask in sequences(document, tokenizer)
        ],
    }


def _print_document(document: Document, tokenizer: Tokenizer, seq_len: int) -> None:
    from rich.console import Console

    from minimind.data.sources.show import color, number_of_segments, sequences, token_runs

    console = Console(highlight=False, soft_wrap=True)
    plain = console.color_system is None
    for name, ids, mask in sequences(document, tokenizer):
        count = number_of_segments(len(ids), seq_len)
        console.print(
            f"── {document.file}:{document.line} · {document.schema} · {name} · {len(ids)} tokens,"
            f" {mask.sum()} trained on · {count} segment{'s' * (count > 1)} in sequences of {seq_len}",
            markup=False,
            style="bold",
        )
        console.print(color(token_runs(ids[:SHOWN], mask[:SHOWN], tokenizer), plain))
        if len(ids) > SHOWN:
            console.print(f"… and {len(ids) - SHOWN:,} more tokens; --json has them all")
        console.print()


def check(options: argparse.Namespace) -> int:
    from minimind.data.sources.check import check
    from minimind.tokenizer import Tokenizer

    if options.context and not options.tokenizer:
        raise UserError("--context counts tokens, which needs a tokenizer; add --tokenizer DIR")
    tokenizer = Tokenizer.load(options.tokenizer) if options.tokenizer else None
    bad_lines: list[dict[str, Any]] = []

    def on_bad(bad: BadLine) -> None:
        if options.json:
            bad_lines.append({"file": bad.file, "line": bad.line, "why": bad.why})
        else:
            print(bad)

    findings = check(options.files, on_bad, tokenizer, options.context, options.encoding)
    if options.json:
        print_json({**vars(findings), "bad": bad_lines})
        return 1 if findings.bad_lines else 0
    schemas = ", ".join(f"{count:,} {name}" for name, count in findings.schemas.items())
    print(f"{findings.documents:,} documents ({schemas or 'none'}), {findings.bad_lines:,} bad lines")
    print(f"{findings.duplicates:,} duplicates, {findings.empty_answers:,} empty answers")
    for sentence in _losses(findings):
        print(sentence)
    if tokenizer:
        print(f"{findings.tokens:,} tokens, the longest document {findings.longest:,}")
    if options.context:
        print(f"{findings.longer_than_context:,} documents are longer than {options.context:,} tokens")
    return 1 if findings.bad_lines else 0


def _losses(findings: Findings) -> Iterator[str]:
    """What does not reach the model as it stands in the files."""
    if findings.unread_keys:
        keys = ", ".join(f"{count:,} × {name}" for name, count in sorted(findings.unread_keys.items()))
        yield f"keys that are not read: {keys}"
    if findings.not_trained_on:
        yield f"{findings.not_trained_on:,} answers are not trained on, as the data say (weight 0, train false, …)"
    if findings.thinking_as_text:
        yield (
            f"{findings.thinking_as_text:,} answers hold <think> or </think> as text: only a whole block at the"
            " head of an answer is thinking"
        )
    if findings.stripped:
        yield f"{findings.stripped:,} line ends and spaces around thinking and before answers are left out"
    for name, times in findings.control_strings.items():
        yield f"{times:,} × {name} in the texts is ordinary text, no border of documents"
    if findings.cut_words:
        yield f"{findings.cut_words:,} cuts in words of more than 131,072 characters, the tokenizer's window"
    if findings.changed_by_tokenizer:
        yield f"{findings.changed_by_tokenizer:,} documents are changed by the tokenizer, which cannot spell them"


def world(options: argparse.Namespace) -> None:
    from minimind.world import write_world

    names = ("pretrain_bytes", "sft", "preference", "rl", "reason", "agent", "agent_sft", "per_skill")
    sizes = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    for path in write_world(options.out, seed=options.seed, **sizes).values():
        print(path)
