"""Records to tokens: what a worker of `prepare` does with a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from minimind.data.shards.shard_set import DOC
from minimind.data.shards.thoughts import Thoughts
from minimind.data.sources.documents import BadLine, Document, parse
from minimind.data.sources.records import Record
from minimind.tokenizer import ChatError
from minimind.tokenizer.encode import Encoded, encode_chat, encode_texts, token_dtype

if TYPE_CHECKING:
    from minimind.tokenizer import Tokenizer


class RecordBatch(NamedTuple):
    """Records of one source, on their way to a worker."""

    source: int
    name: str
    plain_text: bool
    records: list[Record]


class EncodedBatch(NamedTuple):
    """What a worker made of a batch: see ShardWriter.append."""

    ids: np.ndarray
    mask: np.ndarray | None
    docs: np.ndarray
    bad: list[BadLine]
    nothing_to_train_on: int
    cut_words: int
    long_thoughts: int
    columns: dict[str, np.ndarray]


def make_encoder(
    tokenizer: Tokenizer, kind: str, trained: dict[str, Any], thoughts: Thoughts | None
) -> Callable[[RecordBatch], EncodedBatch]:
    return lambda batch: encode_batch(batch, tokenizer, kind, trained, thoughts)


def encode_batch(
    batch: RecordBatch, tokenizer: Tokenizer, kind: str, trained: dict[str, Any], thoughts: Thoughts | None = None
) -> EncodedBatch:
    """Records to tokens: all that a worker does."""
    documents: list[Document] = []
    bad: list[BadLine] = []
    for line, data in batch.records:
        item = parse(data, batch.name, line, batch.plain_text, kind)
        if isinstance(item, Document):
            documents.append(item)
        else:
            bad.append(item)
    found = len(documents)
    if thoughts is not None:
        documents = [kept for document in documents if (kept := thoughts.of(document, tokenizer)) is not None]
    long_thoughts = found - len(documents)
    pairs: list[tuple[Document, Encoded]] = []
    empty = 0
    if kind == "pretrain":
        pairs = list(zip(documents, encode_texts([document.text for document in documents], tokenizer)))
    else:
        for document in documents:
            try:
                sides = encode_conversations(document, tokenizer, trained)
            except ChatError as error:
                bad.append(BadLine(document.file, document.line, str(error)))
                continue
            if sides and all(side.bytes for side in sides):
                pairs += [(document, side) for side in sides]
            else:
                empty += 1
        bad.sort(key=lambda line: line.line)
    docs = np.zeros(len(pairs), DOC)
    for row, (document, encoded) in zip(docs, pairs):
        row["length"], row["bytes"] = len(encoded.ids), encoded.bytes
        row["file"], row["line"], row["hash"] = batch.source, document.line, document.hash
    nothing = [np.zeros(0, token_dtype(tokenizer.vocab_size))]  # concatenate needs at least one array
    ids = np.concatenate([encoded.ids for _, encoded in pairs] or nothing)
    mask = None if kind == "pretrain" else np.concatenate([encoded.mask for _, encoded in pairs] or nothing)
    labels = {"label": np.array([document.label for document, _ in pairs], bool)} if kind == "unpaired" else {}
    cut_words = sum(encoded.cut_words for _, encoded in pairs)
    return EncodedBatch(ids, mask, docs, bad, empty, cut_words, long_thoughts, labels)


def encode_conversations(document: Document, tokenizer: Tokenizer, trained: dict[str, Any]) -> list[Encoded]:
    """A chat's one conversation, or a preference's chosen and rejected one; none where nobody answers.

    Raises ChatError for a preference that prefers nothing, and for one whose two sides answer different questions.
    """
    sides = [document.messages]
    if document.kind == "preference":
        sides = chosen, rejected = [document.chosen, document.rejected]
        if chosen[:-1] != rejected[:-1]:
            raise ChatError(
                "chosen and rejected answer different conversations; all but the last message must be equal"
            )
        if chosen == rejected:
            raise ChatError("chosen and rejected are the same")
        if any(messages[-1]["role"] != "assistant" for messages in sides):
            raise ChatError("chosen and rejected must both end with an answer")
    if document.kind == "unpaired" and document.messages[-1]["role"] != "assistant":
        raise ChatError("what has a label must end with an answer")
    if all(message["role"] != "assistant" for messages in sides for message in messages):
        return []
    return [encode_chat(messages, document.tools, tokenizer, trained) for messages in sides]
