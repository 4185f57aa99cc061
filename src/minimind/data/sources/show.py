"""A document as the model will see it: its text cut where the loss mask changes."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minimind.data.sources.documents import BadLine, Document, parse, read_documents
from minimind.data.sources.files import is_plain_text, read_records
from minimind.data.sources.folder import data_files
from minimind.errors import UserError
from minimind.tokenizer.encode import encode_chat, encode_texts

if TYPE_CHECKING:
    from rich.text import Text

    from minimind.tokenizer import Tokenizer


@dataclass(frozen=True)
class TokenRun:
    """A run of tokens that are alike: `trained` on or not, `control` tokens or text."""

    text: str
    trained: bool
    control: bool


def pick(files: Sequence[Path], index: int, encoding: str | None = None) -> Document:
    """The document number `index` (from 0) of all the files' good lines."""
    number = -1
    for file in data_files(files):
        for item in read_documents(file, encoding=encoding):
            if isinstance(item, Document):
                number += 1
                if number == index:
                    return item
    raise UserError(f"--index {index}: there are only {number + 1} documents, numbered from 0")


def sample(files: Sequence[Path], count: int, seed: int, encoding: str | None = None) -> list[Document | BadLine]:
    """`count` records chosen at random (reservoir sampling: Vitter, 1985), in the order of the files."""
    draw = random.Random(seed)
    chosen: list[tuple[int, Path, int, bytes | None]] = []
    records = (
        (file, line, data) for file in data_files(files) for line, data in read_records(file, encoding=encoding)
    )
    for number, (file, line, data) in enumerate(records):
        if number < count:
            chosen.append((number, file, line, data))
        elif (place := draw.randrange(number + 1)) < count:
            chosen[place] = (number, file, line, data)
    chosen.sort(key=lambda one: one[0])
    return [parse(data, str(file), line, is_plain_text(file)) for _, file, line, data in chosen]


def sequences(document: Document, tokenizer: Tokenizer) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(name, ids, mask) of what a document is trained as, or of an RL prompt; a preference has two sequences."""
    if document.kind == "pretrain":
        encoded = encode_texts([document.text], tokenizer)[0]
        yield "text", encoded.ids, encoded.mask
        return
    if document.messages and all(message["role"] != "assistant" for message in document.messages):
        ids, mask = tokenizer.encode_chat(document.messages, document.tools, add_generation_prompt=True)
        yield "prompt", np.array(ids), np.array(mask, np.uint8)
        return
    sides = {"chat": document.messages, "chosen": document.chosen, "rejected": document.rejected}
    for name, messages in sides.items():
        if messages:
            encoded = encode_chat(messages, document.tools, tokenizer)
            yield name, encoded.ids, encoded.mask


def token_runs(
    ids: Sequence[int] | np.ndarray, mask: Sequence[int] | np.ndarray, tokenizer: Tokenizer
) -> list[TokenRun]:
    """Runs of equal tokens; a run is decoded as a whole, since one character may be several tokens."""
    ids, trained = np.asarray(ids), np.asarray(mask) == 1
    control = np.isin(ids, list(tokenizer.reserved.values()))
    borders = 1 + np.flatnonzero((trained[1:] != trained[:-1]) | (control[1:] != control[:-1]))
    return [
        TokenRun(tokenizer.decode(run.tolist(), skip_special=False), bool(trained[start]), bool(control[start]))
        for start, run in zip([0, *borders], np.split(ids, borders))
        if len(run)
    ]


def number_of_segments(length: int, seq_len: int) -> int:
    """Segments of at most `seq_len` (input, target) pairs that a document of `length` tokens is cut into."""
    return max(1, -(-(length - 1) // seq_len))


def color(parts: Iterable[TokenRun], plain: bool) -> Text:
    """Trained tokens green, others dim, control tokens reversed; where there is no color, trained in «»."""
    from rich.text import Text

    shown = Text()
    for trained, run in groupby(parts, key=lambda part: part.trained):
        shown.append("«" if plain and trained else "")
        for part in run:
            style = ("green" if trained else "dim") + (" reverse" if part.control else "")
            shown.append(part.text, style)
        shown.append("»" if plain and trained else "")
    return shown
