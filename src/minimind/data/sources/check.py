"""Looking through data before training on them: bad lines, duplicates, empty answers, long samples."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minimind.data.sources.documents import BadLine, Document, read_documents
from minimind.data.sources.files import check_file
from minimind.data.sources.folder import data_files
from minimind.data.sources.records import DamagedFile
from minimind.data.sources.show import sequences
from minimind.tokenizer import ChatError
from minimind.tokenizer.encode import encode_texts
from minimind.tokenizer.messages import split_reasoning
from minimind.tokenizer.reserved import SPECIAL
from minimind.util.progress import Bar, progress

if TYPE_CHECKING:
    from minimind.tokenizer import Tokenizer

SPELLED = 2**16  # tokens of a document that are spelled out again


@dataclass
class Findings:
    """What was found.

    duplicates           documents whose content was there before
    unread_keys          keys of records and (`message.name`) of messages that are not read, by name
    not_trained_on       answers that the data say are not to be learned (weight 0)
    thinking_as_text     answers with tags of thinking that are no block at their head, and so are text
    control_strings      how often texts hold a control string, which is ordinary text there, by name
    stripped             line ends and spaces that the chat template leaves out around thinking and before answers
    empty_answers        conversations that end with an empty answer and have no `gt` to check one against
    tokens, longest      tokens of all documents and of the longest; 0 without a tokenizer
    cut_words            how often a word fills a window of the tokenizer (131,072 characters) and is cut
    changed_by_tokenizer documents whose tokens do not give back their text
    longer_than_context  documents of more than `context` tokens
    """

    documents: int = 0
    bad_lines: int = 0
    schemas: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    unread_keys: dict[str, int] = field(default_factory=dict)
    not_trained_on: int = 0
    thinking_as_text: int = 0
    control_strings: dict[str, int] = field(default_factory=dict)
    stripped: int = 0
    empty_answers: int = 0
    tokens: int = 0
    longest: int = 0
    longer_than_context: int = 0
    cut_words: int = 0
    changed_by_tokenizer: int = 0


def check(
    files: Sequence[Path],
    on_bad: Callable[[BadLine], None],
    tokenizer: Tokenizer | None = None,
    context: int | None = None,
    encoding: str | None = None,
) -> Findings:
    """Read every document; `on_bad` hears of each bad line as it is met. UserError for a file that is none."""
    files = data_files(files)
    for file in files:
        check_file(file)
    findings = Findings()
    hashes = array("Q")

    def report(bad: BadLine) -> None:
        findings.bad_lines += 1
        on_bad(bad)

    with progress("checking", sum(file.stat().st_size for file in files)) as update:
        for document in (
            document for file in files for document in _good_documents(file, encoding, report, update)
        ):
            update(documents=1)
            findings.documents += 1
            findings.schemas[document.schema] = findings.schemas.get(document.schema, 0) + 1
            hashes.append(document.hash)
            findings.empty_answers += document.kind == "rl" and not document.gt
            _count_losses(document, findings)
            if tokenizer:
                _measure(document, tokenizer, context, findings, report)
    findings.duplicates = len(hashes) - len(np.unique(np.frombuffer(hashes, np.uint64)))
    return findings


def _good_documents(
    file: Path, encoding: str | None, report: Callable[[BadLine], None], on_read: Bar
) -> Iterator[Document]:
    line = 0
    try:
        for item in read_documents(file, on_read=on_read, encoding=encoding):
            line = item.line
            if isinstance(item, Document):
                yield item
            else:
                report(item)
    except DamagedFile as error:  # what came before the damage is still looked at
        report(BadLine(str(file), line + 1, str(error)))


def _count_losses(document: Document, findings: Findings) -> None:
    """What of a document does not reach the model as it stands."""
    for key in document.unread:
        findings.unread_keys[key] = findings.unread_keys.get(key, 0) + 1
    for control in SPECIAL if "<|" in document.text else ():
        if count := document.text.count(control):
            findings.control_strings[control] = findings.control_strings.get(control, 0) + count
    for message in (*document.messages, *document.chosen, *document.rejected[-1:]):
        if message["role"] == "assistant":
            split = split_reasoning(message)
            thinking, answer = split.get("reasoning_content") or "", split["content"]
            written = len(message["content"]) + len(message.get("reasoning_content") or "")
            tags = len("<think></think>") if split is not message else 0
            findings.stripped += written - tags - len(thinking.strip("\n")) - len(answer.lstrip("\n"))
            findings.thinking_as_text += "<think>" in answer or "</think>" in answer
            findings.not_trained_on += message.get("train") is False


def _measure(
    document: Document,
    tokenizer: Tokenizer,
    context: int | None,
    findings: Findings,
    report: Callable[[BadLine], None],
) -> None:
    try:
        if document.kind == "pretrain":
            encoded = encode_texts([document.text], tokenizer)[0]
            length = len(encoded.ids)
            findings.cut_words += encoded.cut_words
            findings.changed_by_tokenizer += not _spells(encoded.ids[1:-1], document.text, tokenizer)
        else:
            length = 0
            for name, ids, _ in sequences(document, tokenizer):
                length = max(length, len(ids))
                messages = {"chosen": document.chosen, "rejected": document.rejected}.get(name, document.messages)
                text = tokenizer.render(messages, document.tools, add_generation_prompt=name == "prompt")
                findings.changed_by_tokenizer += not _spells(ids, text, tokenizer)
    except ChatError as error:
        report(BadLine(document.file, document.line, str(error)))
        return
    findings.tokens += length
    findings.longest = max(findings.longest, length)
    findings.longer_than_context += context is not None and length > context


def _spells(ids: np.ndarray, text: str, tokenizer: Tokenizer) -> bool:
    """Whether ids give back their text; of a long one, its beginning."""
    said = tokenizer.decode(ids[:SPELLED].tolist(), skip_special=False)
    return said == text if len(ids) <= SPELLED else text.startswith(said.rstrip("\ufffd"))
