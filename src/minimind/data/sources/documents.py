"""Reading documents from files of any known container and schema.

Containers are in `files.py`, schemas in `schemas.py`. A line that cannot be used never stops the reading:
it comes out as a `BadLine` that says where and why, and the caller decides what it means.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from minimind.data.sources.files import is_plain_text, read_records
from minimind.data.sources.folder import data_files
from minimind.data.sources.records import MAX_RECORD
from minimind.data.sources.schemas import Content, normalize
from minimind.data.sources.turns import SchemaError
from minimind.tokenizer import ChatError
from minimind.tokenizer import normalize as chat_messages
from minimind.tokenizer.chat import ChatTemplate
from minimind.tokenizer.reserved import MARKERS, SPECIAL
from minimind.tokenizer.template import default_template
from minimind.util.json_files import loads

KINDS = ("pretrain", "chat", "preference", "unpaired", "rl")


@dataclass
class Document(Content):
    """A record in the published shape (the fields of `Content`) and where it stands."""

    file: str = ""
    line: int = 0
    hash: int = 0  # 64 bits of its content


@dataclass(frozen=True)
class BadLine:
    """A record that cannot be used, and why."""

    file: str
    line: int
    why: str

    @property
    def sort(self) -> str:
        """What `why` has in common with other lines: the part before its details and after its message."""
        return re.sub(r"^message \d+:? ", "", self.why).split(":")[0]

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.why}"


def read_documents(
    path: str | Path,
    kind: str = "auto",
    on_read: Callable[[int], None] = lambda size: None,
    encoding: str | None = None,
) -> Iterator[Document | BadLine]:
    """All documents of a file in order, bad lines among them.

    kind: one of KINDS to accept only that ("chat" accepts "rl" too, since that is a chat with more), or
    "auto" for all. `on_read` is told how many bytes of the file were consumed; `encoding` is None for UTF-8 or what
    the file's byte order mark says. UserError when the file itself cannot be read.
    """
    path = Path(path)
    plain = is_plain_text(path)
    for line, data in read_records(path, on_read, encoding):
        yield parse(data, str(path), line, plain, kind)


def parse(data: bytes | None, file: str, line: int, plain_text: bool, kind: str = "auto") -> Document | BadLine:
    """One record's bytes as a document."""
    try:
        if data is None:
            raise SchemaError(f"longer than {MAX_RECORD >> 20} MiB: split the document")
        content = _decode(data, plain_text)
        accepted = {"auto": KINDS, "chat": ("chat", "rl")}.get(kind, (kind,))
        if content.kind not in accepted:
            raise SchemaError(f"another kind of data: this is {content.kind}, the rest is {kind}")
        return Document(**vars(content), file=file, line=line, hash=content_hash(content))
    except (SchemaError, ChatError) as error:
        return BadLine(file, line, str(error))


def _decode(data: bytes, plain_text: bool) -> Content:
    try:
        text = data.decode("utf-8")
        if not plain_text:
            return normalize(loads(text))
        if "\0" in text:
            raise SchemaError("not text: it holds null characters")
        return normalize({"text": text})
    except UnicodeDecodeError as error:
        raise SchemaError(
            f"not UTF-8 (or what --encoding names): {error.reason} at byte {error.start + 1} of {len(data)}"
        ) from None
    except json.JSONDecodeError as error:
        raise SchemaError(f"not JSON: {error.msg} at column {error.colno}") from None
    except (SchemaError, ChatError):
        raise
    except ValueError as error:  # what is no JSON only when it is read strictly
        raise SchemaError(f"not JSON: {error}") from None


def to_record(content: Content) -> dict[str, Any]:
    """The record of the published shape that `normalize` reads as the same content."""
    if content.kind == "pretrain":
        return {"text": content.text}
    tools = {"tools": content.tools} if content.tools else {}
    if content.kind == "preference":
        return {"chosen": content.chosen, "rejected": content.rejected, **tools}
    messages = list(content.messages)
    if content.kind == "rl" and not content.gt:  # known by its empty answer
        messages.append({"role": "assistant", "content": ""})
    verified = {name: value for name in ("gt", "check", "count", "source") if (value := getattr(content, name))}
    return {"conversations": messages, **tools, **verified}


def content_hash(content: Content) -> int:
    """64 bits of blake2b over what a document says; differences in white space do not count in texts."""
    digest = hashlib.blake2b(digest_size=8)
    if content.kind == "pretrain":
        for words in _single_spaced(content.text):
            digest.update(words.encode("utf-8"))
    else:
        said: list[Any] = [content.messages, content.tools, content.chosen, content.rejected, content.gt]
        said += [] if content.label is None else [content.label]
        digest.update(json.dumps(said, ensure_ascii=False, sort_keys=True).encode("utf-8"))
    return int.from_bytes(digest.digest(), "little")


def _single_spaced(text: str) -> Iterator[str]:
    """The text with one space between words; in parts, since the words of a whole novel fill the memory."""
    start, between = 0, ""
    while start < len(text):
        end = text.find(" ", start + 2**16)
        end = len(text) if end < 0 else end
        if words := " ".join(text[start:end].split()):
            yield between + words
            between = " "
        start = end


def kind_of(path: Path, encoding: str | None = None) -> str | None:
    """The kind of the first good document of a file; None when there is none."""
    items = read_documents(path, encoding=encoding)
    return next((item.kind for item in items if isinstance(item, Document)), None)


def read_texts(
    paths: Iterable[str | Path],
    on_bad: Callable[[BadLine], None] = lambda bad: None,
    encoding: str | None = None,
) -> Iterator[str]:
    """The plain text of every document of every schema, without control markup: for training a tokenizer.

    Bad lines go to `on_bad`. UserError when a file cannot be read.
    """
    for path in data_files(paths):
        for item in read_documents(path, encoding=encoding):
            if isinstance(item, BadLine):
                on_bad(item)
            else:
                yield plain_text_of(item)


def plain_text_of(content: Content) -> str:
    """Everything a document says, as the chat template writes it but without the control strings.

    A tokenizer trained on it knows the template's own words, such as those around a list of tools.
    """
    if content.kind == "pretrain":
        return content.text
    # Of a preference the two sides share their question, so only the rejected answer is added.
    messages = content.messages or [*content.chosen, content.rejected[-1]]
    rendered = _template().render(*chat_messages(messages, content.tools), turns=False)
    ends = [0, *(end for _, end in rendered.controls)]
    starts = [*(start for start, _ in rendered.controls), len(rendered.text)]
    return "".join(rendered.text[end:start] for end, start in zip(ends, starts))


@cache
def _template() -> ChatTemplate:
    return ChatTemplate(default_template(), [*SPECIAL, *MARKERS])
