"""`minimind data`: prepare, show, check, world; `get` is in data_get.py."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minimind.commands.verbs import Verbs, positive
from minimind.errors import UserError

if TYPE_CHECKING:
    from minimind.data.sources.documents import BadLine, Document
    from minimind.tokenizer import Tokenizer

KNOWN_FILES = "files: .jsonl, .jsonl.gz, .jsonl.zst, .parquet, .txt (documents separated by blank lines)"

EXAMPLES = """\
examples:
  minimind data world --out world                                  write the built-in bilingual corpus
  minimind data check mine.jsonl                                   name every line that cannot be used
  minimind data show mine.jsonl --tokenizer tokenizer --sample 3   what is trained on, in color
  minimind data prepare mine.jsonl --tokenizer tokenizer           tokenize once, for all later runs"""


def run(argv: list[str]) -> int | None:
    if argv[:1] == ["get"]:
        from minimind.commands import data_get

        return data_get.run(argv[1:])
    verbs = Verbs("data", "Prepare, look at and check training data.", EXAMPLES)
    child = verbs.add(
        "prepare",
        prepare,
        "tokenize each FILE into a cached data set",
        "minimind data prepare pretrain.jsonl.zst --tokenizer tokenizer --workers 4",
        KNOWN_FILES,
    )
    _files_and_tokenizer(child, required=True)
    child.add_argument(
        "--kind", default="auto", choices=["auto", "pretrain", "chat", "preference"], help="what the files hold (auto: look)"
    )
    child.add_argument(
        "--cache", type=Path, metavar="DIR", help="where data sets are kept (default ~/.cache/minimind/shards)"
    )
    child.add_argument("--workers", type=positive, metavar="N", help="processes (default: processors, at most 8)")
    child.add_argument("--json", action="store_true", help="print the result as one JSON object")

    child = verbs.add(
        "show",
        show,
        "print documents of each FILE with the tokens that are trained on in green",
        "minimind data show sft.jsonl --tokenizer tokenizer --sample 3 --seed 1",
        KNOWN_FILES,
    )
    _files_and_tokenizer(child, required=True)
    which = child.add_mutually_exclusive_group()
    which.add_argument("--index", type=int, default=0, metavar="I", help="show document I, from 0 (default 0)")
    which.add_argument("--sample", type=positive, metavar="N", help="show N documents chosen at random")
    child.add_argument("--seed", type=int, default=0, metavar="S", help="of the random choice (default 0)")
    child.add_argument(
        "--seq-len", type=positive, default=512, metavar="T", help="count pieces for rows of T tokens (512)"
    )
    child.add_argument("--json", action="store_true", help="print a JSON list of documents")

    child = verbs.add(
        "check",
        check,
        "name every bad line of each FILE; count schemas, duplicates, empty answers, long samples",
        "minimind data check sft.jsonl --tokenizer tokenizer --context 512",
        KNOWN_FILES,
    )
    _files_and_tokenizer(child, required=False)
    child.add_argument("--context", type=positive, metavar="N", help="count samples of more than N tokens")
    child.add_argument("--json", action="store_true", help="print the result as one JSON object")

    child = verbs.add(
        "world", world, "write the built-in bilingual corpus", "minimind data world --out world --seed 0"
    )
    child.add_argument("--out", type=Path, required=True, metavar="DIR", help="the directory to write to")
    child.add_argument("--seed", type=int, default=0, metavar="S", help="another seed, other documents (default 0)")
    sizes = {
        "pretrain-bytes": "UTF-8 bytes of text for pretraining",
        "sft": "conversations",
        "preference": "preference pairs",
        "rl": "prompts for reinforcement learning",
        "per-skill": "held-out questions of each skill",
    }
    for name, text in sizes.items():
        child.add_argument(f"--{name}", type=positive, metavar="N", help=f"how many {text}")

    verbs.mention("get", "download a published data set")
    return verbs.call(argv)


def _files_and_tokenizer(parser: argparse.ArgumentParser, required: bool) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a data file; see below")
    parser.add_argument(
        "--tokenizer", required=required, metavar="DIR", help="a tokenizer's or a model's directory"
    )


def prepare(arguments: argparse.Namespace) -> None:
    from minimind.data.shards.prepare import prepare
    from minimind.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(arguments.tokenizer)
    data = prepare(arguments.files, tokenizer, arguments.kind, arguments.cache, arguments.workers)
    if arguments.json:
        keys = ("kind", "fingerprint", "vocab_size", "counts", "shards", "report")
        result = {"directory": str(data.directory), **{key: data.meta[key] for key in keys}}
        print(json.dumps(result, ensure_ascii=False))
        return
    counts = data.meta["counts"]
    print(
        f"{counts['documents']:,} documents, {counts['tokens']:,} tokens ({counts['trained_tokens']:,} trained on),"
        f" {counts['bytes'] / counts['trained_tokens']:.2f} bytes per trained token\n{data.directory}"
    )


def show(arguments: argparse.Namespace) -> None:
    from minimind.data.sources.documents import Document
    from minimind.data.sources.show import pick, sample
    from minimind.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(arguments.tokenizer)
    if arguments.sample:
        items = sample(arguments.files, arguments.sample, arguments.seed)
    else:
        items = [pick(arguments.files, arguments.index)]
    for item in items:
        if not isinstance(item, Document):
            print(f"bad line: {item}", file=sys.stderr)
    documents = [item for item in items if isinstance(item, Document)]
    if arguments.json:
        described = [_described(document, tokenizer, arguments.seq_len) for document in documents]
        print(json.dumps(described, ensure_ascii=False))
        return
    for document in documents:
        _print_document(document, tokenizer, arguments.seq_len)


def _described(document: Document, tokenizer: Tokenizer, seq_len: int) -> dict[str, Any]:
    from minimind.data.sources.show import number_of_pieces, segments, sequences

    return {
        "file": document.file,
        "line": document.line,
        "kind": document.kind,
        "schema": document.schema,
        "sequences": [
            {
                "name": name,
                "tokens": len(ids),
                "trained_tokens": sum(mask),
                "pieces": number_of_pieces(len(ids), seq_len),
                "segments": [vars(segment) for segment in segments(ids, mask, tokenizer)],
            }
            for name, ids, mask in sequences(document, tokenizer)
        ],
    }


def _print_document(document: Document, tokenizer: Tokenizer, seq_len: int) -> None:
    from rich.console import Console

    from minimind.data.sources.show import color, number_of_pieces, segments, sequences

    console = Console(highlight=False, soft_wrap=True)
    plain = console.color_system is None
    for name, ids, mask in sequences(document, tokenizer):
        count = number_of_pieces(len(ids), seq_len)
        console.print(
            f"── {document.file}:{document.line} · {document.schema} · {name} · {len(ids)} tokens,"
            f" {sum(mask)} trained on · {count} piece{'s' * (count > 1)} in rows of {seq_len}",
            markup=False,
            style="bold",
        )
        console.print(color(segments(ids, mask, tokenizer), plain))
        console.print()


def check(arguments: argparse.Namespace) -> int:
    from minimind.data.sources.check import check
    from minimind.tokenizer import Tokenizer

    if arguments.context and not arguments.tokenizer:
        raise UserError("--context counts tokens, which needs a tokenizer; add --tokenizer DIR")
    tokenizer = Tokenizer.load(arguments.tokenizer) if arguments.tokenizer else None
    bad_lines: list[dict[str, Any]] = []

    def on_bad(bad: BadLine) -> None:
        if arguments.json:
            bad_lines.append({"file": bad.file, "line": bad.line, "why": bad.why})
        else:
            print(bad)

    found = check(arguments.files, on_bad, tokenizer, arguments.context)
    if arguments.json:
        print(json.dumps({**vars(found), "bad": bad_lines}, ensure_ascii=False))
        return 1 if found.bad_lines else 0
    schemas = ", ".join(f"{count:,} {name}" for name, count in found.schemas.items())
    print(f"{found.documents:,} documents ({schemas or 'none'}), {found.bad_lines:,} bad lines")
    print(f"{found.duplicates:,} duplicates, {found.empty_answers:,} empty answers")
    if tokenizer:
        print(f"{found.tokens:,} tokens, the longest document {found.longest:,}")
    if arguments.context:
        print(f"{found.longer_than_context:,} documents are longer than {arguments.context:,} tokens")
    return 1 if found.bad_lines else 0


def world(arguments: argparse.Namespace) -> None:
    from minimind.world import write_world

    names = ("pretrain_bytes", "sft", "preference", "rl", "per_skill")
    sizes = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    for path in write_world(arguments.out, seed=arguments.seed, **sizes).values():
        print(path)
