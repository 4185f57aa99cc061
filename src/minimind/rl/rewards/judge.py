"""A stronger model as the judge of answers, behind an OpenAI-compatible server."""

from __future__ import annotations

import math
import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from hashlib import blake2b
from itertools import count
from pathlib import Path

from minimind.data.shards.cache import default_cache
from minimind.infer.events import Text
from minimind.infer.marks import MARKING, ask_for_mark, read_mark
from minimind.infer.remote import Server, ServerError, request_body
from minimind.rl.types import Rollout
from minimind.util.typed import Count, CountOrZero


class Judge:
    """The mark that a model gives an answer, 1 to 10, as 0 to 1; nan where it gives none.

    A mark is kept in a file on disk, by all that it depends on: no answer is judged twice, and a resumed training
    goes on with the same ones. The server's key is read from $MINIMIND_JUDGE_API_KEY.

    concurrency  requests under way at once
    retries      how often a request is sent again that failed for a moment
    """

    def __init__(self, url: str, model: str = "", concurrency: Count = 8, retries: CountOrZero = 5) -> None:
        self.server = Server(url, os.environ.get("MINIMIND_JUDGE_API_KEY"))
        self.model = model or self.server.models()[0]
        self.concurrency, self.retries = concurrency, retries
        self.file = default_cache().parent / "judge.sqlite"

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float]:
        questions = [ask_for_mark(one.messages[:-1], one.messages[-1]["content"]) for one in rollouts]
        keys = [
            blake2b(f"{self.server.url} {self.model} {q}".encode(), digest_size=16).hexdigest() for q in questions
        ]
        known = read_marks(self.file, set(keys))
        asked = {key: question for key, question in zip(keys, questions) if key not in known}
        with ThreadPoolExecutor(self.concurrency) as pool:
            new = dict(zip(asked, pool.map(self.ask, asked.values())))
        write_marks(self.file, new)
        marks = [(known | new)[key] for key in keys]
        return [math.nan if mark is None else (mark - 1) / 9 for mark in marks]

    def ask(self, question: str) -> float | None:
        """UserError where the server gives no answer."""
        body = request_body(self.model, [{"role": "user", "content": question}], [], MARKING, think=False)
        for attempt in count(1):
            try:
                return read_mark("".join(one.text for one in self.server.stream(body) if isinstance(one, Text)))
            except ServerError as error:
                if not error.passes or attempt > self.retries:
                    raise
                time.sleep(error.wait(attempt))
        raise AssertionError("counting does not end")


def read_marks(file: Path, keys: set[str]) -> dict[str, float | None]:
    """The marks that are known of these."""
    with closing(_open(file)) as table:
        rows = [table.execute("SELECT key, mark FROM marks WHERE key = ?", (key,)).fetchone() for key in keys]
    return dict(row for row in rows if row is not None)


def write_marks(file: Path, marks: Mapping[str, float | None]) -> None:
    with closing(_open(file)) as table, table:
        table.executemany("INSERT OR IGNORE INTO marks VALUES (?, ?)", marks.items())


def _open(file: Path) -> sqlite3.Connection:
    """Several processes may have it open."""
    file.parent.mkdir(parents=True, exist_ok=True)
    table = sqlite3.connect(file, timeout=60)
    table.execute("CREATE TABLE IF NOT EXISTS marks (key TEXT PRIMARY KEY, mark REAL)")
    return table
