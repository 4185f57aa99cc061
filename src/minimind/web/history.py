"""Conversations that outlast a page: a JSON file each, in a directory for the browser in which they were held."""

from __future__ import annotations

import contextlib
import json
import math
import threading
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from minimind.errors import UserError
from minimind.tokenizer.messages import Message, normalize
from minimind.util.files import write_text
from minimind.util.json_files import loads
from minimind.util.units import size_text
from minimind.web.browser import ID, new_id
from minimind.web.session import STOPPED, Answer

MOST_BYTES = 16_000_000  # of a file: a conversation of months is smaller


@dataclass
class Turn:
    """What the user said, and what each model made of it, by the model's name."""

    text: str
    answers: dict[str, Answer] = field(default_factory=dict)


@dataclass
class Chat:
    """A conversation on the page of them."""

    id: str = field(default_factory=new_id)
    turns: list[Turn] = field(default_factory=list)
    name: str = ""
    """what the user calls it; "" for its first words"""
    settings: dict[str, Any] = field(default_factory=dict)
    """what was last asked with: models, system, think, tools; and schemas, the tools' descriptions"""
    revision: int = 0
    """how often it was written; 0: it is in no file"""

    @property
    def title(self) -> str:
        return one_line(self.name or (self.turns[0].text if self.turns else ""))

    @property
    def is_growing(self) -> bool:
        return any(answer.steps for turn in self.turns[-1:] for answer in turn.answers.values())

    @property
    def models(self) -> list[str]:
        """Everyone who answered, in order."""
        return list(dict.fromkeys(name for turn in self.turns for name in turn.answers))

    def exchanges(self, model: str, turns: int | None = None) -> list[tuple[str, Answer]]:
        """The first `turns` turns as one model sees them: with its own answers, else with the first that there is.

        Turns without an answer are left out.
        """
        said = [
            (turn.text, turn.answers.get(model) or next(iter(turn.answers.values()), Answer()))
            for turn in self.turns[:turns]
        ]
        return [(text, answer) for text, answer in said if answer.says_something]

    def messages(self, model: str, turns: int | None = None) -> list[Message]:
        """The messages of `exchanges`."""
        return [
            message
            for text, answer in self.exchanges(model, turns)
            for message in ({"role": "user", "content": text}, *closed(answer.messages))
        ]


def one_line(text: str, most: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def closed(messages: list[Message]) -> list[Message]:
    """An answer that another turn can follow, also where it was stopped amid calls of tools."""
    last = messages[-1]
    if last["role"] == "tool":
        return [*messages, {"role": "assistant", "content": ""}]
    return [*messages[:-1], {key: value for key, value in last.items() if key != "tool_calls"}]


class History:
    """The conversations of one browser."""

    lock = threading.Lock()  # visitors are threads of one server

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, id: str) -> Path:
        """The file of a conversation. UserError for an id that is none, as in an address that somebody typed."""
        if not ID.fullmatch(id):
            raise UserError(f"{id[:40]!r} is no conversation")
        return self.directory / f"{id}.json"

    def titles(self) -> dict[str, str | None]:
        """Of each conversation by its id, the last written first; None: its file is damaged."""
        known = []
        for file in self.directory.glob("*.json"):
            with contextlib.suppress(FileNotFoundError):  # another tab has just removed it
                if ID.fullmatch(file.stem):
                    stat = file.stat()
                    known.append((stat.st_mtime_ns, file.stem, _head(file, stat.st_mtime_ns, stat.st_size)[0]))
        return {id: title for _, id, title in sorted(known, reverse=True)}

    def load(self, id: str) -> Chat:
        """UserError where this browser has none of that id, or its file is damaged."""
        file = self.path(id)
        if not file.is_file():
            raise UserError(f"{file} does not exist")
        return read(file)

    def newest(self, chat: Chat) -> Chat:
        """The conversation, as another tab has gone on with it where one has."""
        file = self.path(chat.id)
        with contextlib.suppress(FileNotFoundError, UserError):
            stat = file.stat()
            if chat.revision < _head(file, stat.st_mtime_ns, stat.st_size)[1] < math.inf:
                return read(file)
        return chat

    def save(self, chat: Chat) -> None:
        """Write it, whole. Where another tab has meanwhile gone on with it, it becomes one of its own."""
        with self.lock:
            file = self.path(chat.id)
            if file.exists() and _head.__wrapped__(file, 0, 0)[1] != chat.revision:
                chat.id, chat.name = new_id(), f"{one_line(chat.title, 56)} (2)"
                file = self.path(chat.id)
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            text = json.dumps(pack(chat, chat.revision + 1), ensure_ascii=False)
            # Half of a surrogate pair, which a server's model may say, has no UTF-8 form.
            write_text(file, text.encode("utf-8", "replace").decode() + "\n")
            chat.revision += 1

    def delete(self, id: str) -> None:
        self.path(id).unlink(missing_ok=True)


# ------------------------------------------------------------------------------------------------- files


@lru_cache(1000)
def _head(file: Path, changed: int, size: int) -> tuple[str | None, float]:
    """Title and revision of a file as it was when it was last changed; of a damaged one None and infinity."""
    try:
        chat = read(file)
    except UserError:
        return None, math.inf
    return chat.title, chat.revision


def read(file: Path) -> Chat:
    """The conversation in a file. UserError for one that is none of ours, or too large."""
    try:
        if file.stat().st_size > MOST_BYTES:
            raise ValueError(f"it has more than {size_text(MOST_BYTES)}")
        return unpack(file.stem, loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None


def pack(chat: Chat, revision: int) -> dict[str, Any]:
    """A conversation as JSON. An answer under way is one that was stopped, for whoever reads it there."""
    turns = [
        {"text": turn.text, "answers": {name: pack_answer(answer) for name, answer in turn.answers.items()}}
        for turn in chat.turns
    ]
    return {"revision": revision, "name": chat.name, "settings": chat.settings, "turns": turns}


def pack_answer(answer: Answer) -> dict[str, Any]:
    values = {"messages": answer.messages, "tokens": answer.tokens, "seconds": answer.seconds}
    return {**values, "note": STOPPED if answer.steps else answer.note}


def unpack(id: str, content: Any) -> Chat:
    """The conversation that `pack` wrote; of anything else ValueError, TypeError, KeyError or AttributeError."""
    turns = [
        Turn(text_of(turn["text"]), {name: unpack_answer(answer) for name, answer in turn["answers"].items()})
        for turn in content["turns"]
    ]
    settings = dict(content["settings"])
    return Chat(id, turns, text_of(content["name"]), settings, int(content["revision"]))


def unpack_answer(content: Any) -> Answer:
    messages = [dict(message) for message in content["messages"]]
    normalize(messages)  # ChatError, a ValueError, for what is none
    for message in messages:
        if message["role"] not in ("assistant", "tool"):
            raise ValueError(f"an answer of the {message['role']}")
        message["content"] = text_of(message["content"])
        for call in message.get("tool_calls", []):
            text_of(call["name"]), call["arguments"]
    return Answer(messages, [], int(content["tokens"]), float(content["seconds"]), text_of(content["note"]))


def text_of(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:40]!r} is no text")
    return value
