"""Texts and conversations to token shards: in parallel, in constant memory, once.

The main process reads the sources and cuts them into batches of records; workers turn batches into tokens;
the main process writes the results in the order of the batches, so what comes out does not depend on how
many workers there were. Only a few batches are under way at a time, which bounds the memory.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minimind.data.shards.cache import default_cache, make_cache, partial_directory, signature, source_hash
from minimind.data.shards.encode import EncodedBatch, RecordBatch, encode_batch, make_encoder
from minimind.data.shards.shard_set import SHARD_TOKENS, VERSION, ShardSet, ShardWriter
from minimind.data.shards.thoughts import Thoughts
from minimind.data.shards.workers import run_in_order
from minimind.data.sources.documents import BadLine, kind_of
from minimind.data.sources.files import check_file, container, is_plain_text, read_records
from minimind.data.sources.folder import data_files
from minimind.data.sources.records import Record
from minimind.errors import UserError
from minimind.tokenizer.windows import WINDOW
from minimind.util.checksums import find_damage, write_sums
from minimind.util.files import remove_directory
from minimind.util.progress import Bar, progress
from minimind.util.system import is_disk_full

if TYPE_CHECKING:
    from minimind.tokenizer import Tokenizer

log = logging.getLogger("minimind")

BATCH_BYTES = 2**19  # of records; small enough that a worker needs little memory for its tokens
MAX_WORKERS = 8  # by default; the reading process keeps about so many busy
SMALL = 2 * 2**20  # bytes of sources not worth the half second it takes to start processes
NAMED_BAD_LINES = 20
KINDS = {"pretrain": "texts", "chat": "conversations", "preference": "preferences", "unpaired": "labeled answers"}


def prepare(
    files: list[Path],
    tokenizer: Tokenizer,
    kind: str = "auto",
    cache: Path | None = None,
    workers: int | None = None,
    encoding: str | None = None,
    *,
    thoughts: Thoughts | None = None,
    train_on: str = "assistant",
    train_thinking: bool = True,
    train_tool_calls: bool = True,
    shard_tokens: int = SHARD_TOKENS,
) -> ShardSet:
    """Tokenize files into a cached data set; the same files, tokenizer and settings are prepared once.

    kind          "pretrain" (texts), "chat" (conversations), "preference" (pairs of them), "unpaired" (labeled);
                  "auto": what files hold
    cache         directory of all prepared data sets; see `default_cache`
    workers       processes; None: the processors of this machine, at most 8, and none for small files.
                  They change only the time it takes
    encoding      of text files; None: UTF-8, or what a file's byte order mark says
    thoughts      which thinking of conversations is left out; None: none
    train_…       which parts of a conversation are trained on, as in Tokenizer.encode_chat
    shard_tokens  a shard has at most so many tokens, or one document

    Bad lines and conversations with nothing to train on are left out, counted in the data set's `report` and
    told in a warning. UserError for a file that cannot be read, when nothing is left, and on a full disk.
    """
    files = data_files(files)
    cache = Path(cache) if cache else default_cache()
    if not files:
        raise UserError("no data files are given; name at least one .jsonl file")
    for file in files:
        check_file(file)
    kind = resolve_kind(files, kind, encoding)
    make_cache(cache)
    try:
        signatures = [signature(file) for file in files]
        with progress("checking", sum(file.stat().st_size for file in files)) as bar:
            hashes = [source_hash(file, cache, bar) for file in files]
        trained = {"train_on": train_on, "train_thinking": train_thinking, "train_tool_calls": train_tool_calls}
        settings: dict[str, Any] = {"trained": trained, "shard_tokens": shard_tokens}
        if thoughts is not None:
            settings["thoughts"] = dataclasses.asdict(thoughts)
        contents = [(sha, container(file)) for file, sha in zip(files, hashes)]
        key = json.dumps([VERSION, kind, tokenizer.fingerprint, settings, contents, encoding])
        directory = cache / hashlib.sha256(key.encode()).hexdigest()[:40]
        if not _is_usable(directory):
            sources = [{"path": str(file), "sha256": sha} for file, sha in zip(files, hashes)]
            _write(directory, files, sources, tokenizer, kind, workers, encoding, settings, thoughts)
            for file, before in zip(files, signatures):
                if signature(file) != before:
                    shutil.rmtree(directory)
                    raise UserError(f"{file} changed while it was prepared; run the same command again")
    except OSError as error:
        if is_disk_full(error):
            raise UserError(
                f"the disk of {cache} is full; free some space, or name another directory with --cache"
            ) from None
        raise
    data = ShardSet.open(directory)
    data.sources = [str(file) for file in files]  # the same content may stand under another name today
    if said := report_text(data.report):
        log.warning("%s", said)
    return data


def report_text(report: dict[str, Any]) -> str:
    """What was left out or cut, for people."""
    lines = []
    if report["bad_lines"]:
        reasons = ", ".join(f"{count} × {why}" for why, count in report["reasons"].items())
        lines.append(f"{report['bad_lines']:,} bad lines were left out ({reasons}); the first:")
        lines += [f"  {bad['file']}:{bad['line']}: {bad['why']}" for bad in report["first_bad"][:5]]
    if report["nothing_to_train_on"]:
        lines.append(f"{report['nothing_to_train_on']:,} conversations with nothing to train on were left out")
    if long := report.get("long_thoughts"):  # shards of before do not say
        lines.append(f"{long:,} conversations with a longer thought than reason.max_thought_tokens were left out")
    if cut := report.get("cut_words"):
        lines.append(f"{cut:,} cuts in words of more than {WINDOW:,} characters, the tokenizer's window")
    return "\n".join(lines)


def resolve_kind(files: list[Path], kind: str, encoding: str | None = None) -> str:
    """What `kind` means for these files, a key of KINDS; UserError when they are of several."""
    if kind in KINDS:
        return kind
    if kind != "auto":
        raise UserError(f"unknown kind {kind!r}; choose {', '.join(KINDS)} or auto")
    kinds = {file: kind_of(file, encoding) for file in files}
    found = {kind: file for file, kind in kinds.items() if kind is not None}
    if "rl" in found:
        found["chat"] = found.pop("rl")  # a conversation with something more, which is not used here
    if len(found) > 1:
        (one, file), (other, second) = list(found.items())[:2]
        raise UserError(f"{file} holds {KINDS[one]} but {second} holds {KINDS[other]}; prepare them one by one")
    if not found:
        raise UserError(f"{files[0]} has no usable line; see minimind data check {files[0]}")
    return next(iter(found))


def _is_usable(directory: Path) -> bool:
    if not directory.exists():
        return False
    try:
        problem = find_damage(directory)
        ShardSet.open(directory)
    except UserError as error:
        problem = str(error)
    if problem is None:
        return True
    log.warning("the prepared data in %s are damaged (%s): they are made anew", directory, problem)
    remove_directory(directory)
    return False


def _write(
    directory: Path,
    files: list[Path],
    sources: list[dict[str, str]],
    tokenizer: Tokenizer,
    kind: str,
    workers: int | None,
    encoding: str | None,
    settings: dict[str, Any],
    thoughts: Thoughts | None,
) -> None:
    total = sum(file.stat().st_size for file in files)
    if workers is None:
        workers = 1 if total < SMALL else min(_processors(), MAX_WORKERS)
    reasons: Counter[str] = Counter()
    first_bad: list[BadLine] = []
    empty = cut_words = long_thoughts = 0
    with (
        partial_directory(directory) as place,
        progress("tokenizing", total) as bar,
    ):
        batches = _batches(files, bar, encoding)
        results: Generator[EncodedBatch]
        how = (tokenizer, kind, settings["trained"], thoughts)
        if workers > 1:
            results = run_in_order(partial(make_encoder, *how), batches, workers)
        else:
            results = (encode_batch(batch, *how) for batch in batches)
        writer = ShardWriter(place, kind, tokenizer.vocab_size, tokenizer.fingerprint, settings["shard_tokens"])
        with closing(writer), closing(results):
            for tokens in results:
                writer.append(tokens.ids, tokens.mask, tokens.docs, document_columns=tokens.columns)
                reasons.update(bad.sort for bad in tokens.bad)
                first_bad += tokens.bad[: NAMED_BAD_LINES - len(first_bad)]
                empty += tokens.nothing_to_train_on
                cut_words += tokens.cut_words
                long_thoughts += tokens.long_thoughts
                bar(documents=len(tokens.docs))
            if not writer.counts["documents"]:
                why = f"the first: {first_bad[0]}" if first_bad else "its conversations have nothing to train on"
                raise UserError(f"no document is left of {', '.join(map(str, files))}; {why}")
            report = {
                "bad_lines": reasons.total(),
                "reasons": dict(reasons.most_common()),
                "first_bad": [vars(bad) for bad in first_bad],
                "nothing_to_train_on": empty,
                "cut_words": cut_words,
                "long_thoughts": long_thoughts,
            }
            writer.finish({"sources": sources, "settings": settings, "report": report})
            write_sums(place)


def _processors() -> int:
    """Those this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _batches(files: list[Path], bar: Bar, encoding: str | None) -> Iterator[RecordBatch]:
    for source, file in enumerate(files):
        records: list[Record] = []
        size = 0
        for record in read_records(file, bar, encoding):
            records.append(record)
            size += 100 + len(record.data or b"")  # 100: what even the shortest record costs
            if size >= BATCH_BYTES:
                yield RecordBatch(source, str(file), is_plain_text(file), records)
                records, size = [], 0
        yield RecordBatch(source, str(file), is_plain_text(file), records)
