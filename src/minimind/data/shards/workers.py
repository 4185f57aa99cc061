"""A function over a stream of batches, in several processes, with the results in order."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from typing import Any, TypeVar

from minimind.errors import UserError

B = TypeVar("B")
R = TypeVar("R")

_function: Callable[[Any], Any]  # in a worker process: what it applies


def run_in_order(make: Callable[[], Callable[[B], R]], batches: Iterable[B], workers: int) -> Generator[R]:
    """`make()(batch)` for each batch, in the order of the batches.

    `make` is called once in each process and must be picklable. Two batches per worker are under way at
    most; the next is taken from `batches` when the oldest result was handed out.
    """
    # spawn: a forked child of a process with threads (tokenizers, torch) may deadlock.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start, (make,))
    waiting: deque[Future[R]] = deque()
    try:
        for batch in batches:
            with _interrupts_held_back():
                waiting.append(pool.submit(_apply, batch))
            if len(waiting) >= 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise UserError(
            "a worker process died, most likely for want of memory; use fewer with --workers (in a script of"
            " your own, also put the call under `if __name__ == '__main__':`)"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Ctrl-C reaches every process on the terminal, but is for the parent to handle: a process that is started
    meanwhile never sees it, and the parent sees it afterwards."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(make: Callable[[], Callable[[Any], Any]]) -> None:
    global _function
    threading.Thread(target=_die_with_parent, daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one worker, one core
    _function = make()


def _die_with_parent() -> None:
    """A parent that was killed cannot stop its workers, and they would wait for work for ever."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _apply(batch: Any) -> Any:
    return _function(batch)
