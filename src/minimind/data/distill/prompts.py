"""What a teacher is asked: the questions of files of any schema."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from minimind.data.sources.documents import BadLine, Document, read_documents
from minimind.data.sources.files import is_plain_text
from minimind.tokenizer.messages import Message


@dataclass(frozen=True)
class Prompt:
    """A conversation that ends with the user.

    messages  system, user and, as the file has them, the assistant's answers in between
    key       128 bits of what is asked (hex); differences in white space do not count
    """

    file: str
    line: int
    messages: list[Message]
    key: str


def read_prompts(
    files: Sequence[Path], on_bad: Callable[[BadLine], None], encoding: str | None = None
) -> tuple[list[Prompt], int]:
    """The prompts of some files in order, each once, and how many were there twice.

    Of a plain text every line is one; of a record its `prompt`, its `text`, or its conversation up to the last
    message of the user. `on_bad` hears of each that cannot be asked. UserError for a file that cannot be read.
    """
    prompts: dict[str, Prompt] = {}
    count = 0
    for file in files:
        for item in read_documents(file, encoding=encoding):
            if isinstance(item, BadLine):
                on_bad(item)
                continue
            for one in lines_of(item) if is_plain_text(file) else [item]:
                messages = question_of(one)
                if messages is None:
                    on_bad(BadLine(one.file, one.line, "no question in words: it has tools, or asks nothing"))
                    continue
                count += 1
                key = key_of(messages)
                prompts.setdefault(key, Prompt(one.file, one.line, messages, key))
    return list(prompts.values()), count - len(prompts)


def lines_of(paragraph: Document) -> Iterator[Document]:
    """The lines of a text that are not blank."""
    for number, line in enumerate(paragraph.text.split("\n"), paragraph.line):
        if line.strip():
            yield replace(paragraph, text=line.strip(), line=number)


def question_of(document: Document) -> list[Message] | None:
    """The messages to be answered; None where there are none, or where tools would have to be called."""
    if document.kind == "pretrain":
        return [{"role": "user", "content": document.text}]
    messages = document.messages or document.chosen
    if document.tools or any(message["role"] == "tool" or message.get("tools") for message in messages):
        return None
    asked = [number for number, message in enumerate(messages) if message["role"] == "user"]
    until = messages[: asked[-1] + 1] if asked else []
    return [{"role": message["role"], "content": message["content"]} for message in until] or None


def key_of(messages: Sequence[Message]) -> str:
    said = [(message["role"], " ".join(message["content"].split())) for message in messages]
    return hashlib.blake2b(json.dumps(said).encode(), digest_size=16).hexdigest()
