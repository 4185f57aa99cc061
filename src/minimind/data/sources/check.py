"""Looking through data before training on them: bad lines, duplicates, empty answers, long samples."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minimind.data.sources.documents import BadLine, Document, read_documents
from minimind.data.sources.files import DamagedFile, check_file
from minimind.data.sources.show import sequences
from minimind.tokenizer import ChatError
from minimind.util.progress import Bar, progress

if TYPE_CHECKING:
    from minimind.tokenizer import Tokenizer


@dataclass
class Findings:
    """What was found.

    duplicates           documents whose content was there before
    empty_answers        conversations that end with an empty answer and have no `gt` to check one against
    tokens, longest      tokens of all documents and of the longest; 0 without a tokenizer
    longer_than_context  documents of more than `context` tokens
    """

    documents: int = 0
    bad_lines: int = 0
    schemas: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    empty_answers: int = 0
    tokens: int = 0
    longest: int = 0
    longer_than_context: int = 0


def check(
    files: Sequence[Path],
    on_bad: Callable[[BadLine], None],
    tokenizer: Tokenizer | None = None,
    context: int | None = None,
) -> Findings:
    """Read every document; `on_bad` hears of each bad line as it is met. UserError for a file that is none."""
    for file in files:
        check_file(file)
    findings = Findings()
    hashes = array("Q")

    def report(bad: BadLine) -> None:
        findings.bad_lines += 1
        on_bad(bad)

    with progress("checking", sum(file.stat().st_size for file in files)) as update:
        for document in (document for file in files for document in _good_documents(file, report, update)):
            update(documents=1)
            findings.documents += 1
            findings.schemas[document.schema] = findings.schemas.get(document.schema, 0) + 1
            hashes.append(document.hash)
            findings.empty_answers += document.kind == "rl" and not document.gt
            if tokenizer:
                _measure(document, tokenizer, context, findings, report)
    findings.duplicates = len(hashes) - len(np.unique(np.frombuffer(hashes, np.uint64)))
    return findings


def _good_documents(file: Path, report: Callable[[BadLine], None], on_read: Bar) -> Iterator[Document]:
    line = 0
    try:
        for item in read_documents(file, on_read=on_read):
            line = item.line
            if isinstance(item, Document):
                yield item
            else:
                report(item)
    except DamagedFile as error:  # what came before the damage is still looked at
        report(BadLine(str(file), line + 1, str(error)))


def _measure(
    document: Document,
    tokenizer: Tokenizer,
    context: int | None,
    findings: Findings,
    report: Callable[[BadLine], None],
) -> None:
    try:
        length = max(len(ids) for _, ids, _ in sequences(document, tokenizer))
    except ChatError as error:
        report(BadLine(document.file, document.line, str(error)))
        return
    findings.tokens += length
    findings.longest = max(findings.longest, length)
    findings.longer_than_context += context is not None and length > context
