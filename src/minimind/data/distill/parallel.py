"""Many requests under way at once: threads that wait cost nothing."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parallel(
    work: Callable[[Item], Result], items: Iterator[Item], workers: int, stop: threading.Event
) -> Iterator[tuple[Item, Result]]:
    """Each item with its result, as they are done, by so many threads.

    After an error, after Ctrl-C and when `stop` is set no new item is begun; what is under way is waited for (until
    Ctrl-C is pressed again) and yielded. Then the first error is raised, or KeyboardInterrupt.
    """
    done: SimpleQueue[tuple[Item, Result] | BaseException | None] = SimpleQueue()
    turn = threading.Lock()

    def run() -> None:
        try:
            while not stop.is_set():
                with turn:
                    item = next(items, None)
                if item is None:
                    break
                done.put((item, work(item)))
        except Exception as error:
            stop.set()
            done.put(error)
        done.put(None)

    for _ in range(workers):
        threading.Thread(target=run, name="asking", daemon=True).start()
    failure: BaseException | None = None
    left = workers
    try:
        while left:
            try:
                news = done.get()
            except KeyboardInterrupt as error:
                if isinstance(failure, KeyboardInterrupt):
                    raise
                failure = error
                stop.set()
                print("stopping: answers under way are waited for; Ctrl-C again leaves them", file=sys.stderr)
                continue
            if news is None:
                left -= 1
            elif isinstance(news, BaseException):
                failure = failure or news
            else:
                yield news
    finally:
        stop.set()
    if failure is not None:
        raise failure
