"""From whatever people have to one .jsonl file in the published shape: `minimind data import`."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minimind.data.sources.documents import BadLine, Document, content_hash, read_documents, to_record
from minimind.data.sources.faq import read_faq
from minimind.data.sources.files import check_file
from minimind.data.sources.folder import find_files
from minimind.data.sources.records import DamagedFile
from minimind.errors import UserError
from minimind.util.files import whole_file

PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")
SENTENCE_ENDS = ("\n\n", "\n", "。", "！", "？", ". ", "! ", "? ", " ")


@dataclass
class Collected:
    """What was written, and what was not.

    files       documents of each file that was read
    documents   written, bytes of UTF-8 of the file
    duplicates  documents that were there before, which are written once
    left_out    what is not in the file: of a file as a whole line 0
    """

    files: Counter[str] = field(default_factory=Counter)
    documents: int = 0
    bytes: int = 0
    duplicates: int = 0
    left_out: list[BadLine] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "left_out": [vars(bad) for bad in self.left_out]}


def collect(
    paths: Iterable[Path],
    out: Path,
    faq: bool = False,
    longest: int | None = None,
    fill: Mapping[str, str] | None = None,
    encoding: str | None = None,
) -> Collected:
    """Write all documents of files and folders to `out`, each content once, in the order of the sorted files.

    faq      texts hold questions and answers (see faq.py), which become conversations
    longest  characters of a passage: longer texts are cut into several, at the end of a paragraph or sentence
    fill     what stands for {{name}} in the documents, by name

    UserError for a file in a wrong encoding, for a {{name}} that nothing is given for, or nothing left.
    """
    found, hashes, unfilled = Collected(), set[int](), Counter[str]()
    with whole_file(out) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
        for path in _files(paths, found):
            for item in _items(path, faq, encoding):
                if isinstance(item, BadLine):
                    found.left_out.append(item)
                    continue
                for document in _passages(item, longest):
                    text = _filled(json.dumps(to_record(document), ensure_ascii=False), fill or {}, unfilled)
                    key = content_hash(document)
                    if key in hashes:
                        found.duplicates += 1
                        continue
                    hashes.add(key)
                    file.write(text + "\n")
                    found.documents += 1
                    found.files[str(path)] += 1
        found.bytes = file.tell()
        if unfilled:
            named = ", ".join(f"{{{{{name}}}}} ({count:,} times)" for name, count in unfilled.most_common(5))
            raise UserError(f"nothing is filled in for {named}; give --fill {next(iter(unfilled))}=…")
        if not found.documents:
            why = f"; the first: {found.left_out[0]}" if found.left_out else ""
            raise UserError(f"there is no document in {', '.join(map(str, paths))}{why}")
    return found


def _files(paths: Iterable[Path], found: Collected) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            check_file(path)
            yield path
            continue
        readable, others = find_files(path)
        found.left_out += [BadLine(str(file), 0, "of no known type, or empty") for file in others]
        yield from readable


def _items(path: Path, faq: bool, encoding: str | None) -> Iterator[Document | BadLine]:
    try:
        yield from read_faq(path, encoding) if faq else read_documents(path, encoding=encoding)
    except DamagedFile as error:
        yield BadLine(str(path), 0, str(error))


def _passages(document: Document, longest: int | None) -> Iterator[Document]:
    if longest is None or document.kind != "pretrain":
        yield document
        return
    for text in passages(document.text, longest):
        yield Document("pretrain", document.schema, text=text, file=document.file, line=document.line)


def passages(text: str, longest: int) -> Iterator[str]:
    """A text in parts of at most `longest` characters that end where a paragraph, line, sentence or word does."""
    start = 0
    while len(text) - start > longest:
        first, last = start + longest // 2, start + longest
        places = (text.rfind(mark, first, last) + len(mark) for mark in SENTENCE_ENDS if mark in text[first:last])
        end = next(places, last)
        yield from filter(None, [text[start:end].strip()])
        start = end
    yield from filter(None, [text[start:].strip()])


def _filled(line: str, fill: Mapping[str, str], unfilled: Counter[str]) -> str:
    """A line of JSON with its {{name}}s replaced; those that nothing is given for are counted."""

    def replace(match: re.Match[str]) -> str:
        if match[1] in fill:
            return json.dumps(fill[match[1]], ensure_ascii=False)[1:-1]
        unfilled[match[1]] += bool(fill)
        return match[0]

    return PLACEHOLDER.sub(replace, line)
