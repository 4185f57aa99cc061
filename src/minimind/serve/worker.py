"""The thread that runs the engine, and the jobs that async handlers give it.

The engine belongs to its thread: others only put functions into a queue, which the thread calls between two
steps. What a step brought goes back to the event loop in one call. Jobs and the counts of open choices belong to
the event loop, so nothing needs a lock.
"""

from __future__ import annotations

import asyncio
import logging
import math
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from minimind.errors import UserError
from minimind.infer.engine import Engine
from minimind.infer.events import End, Token
from minimind.infer.request import Request
from minimind.infer.sampler import SamplingParams
from minimind.serve.metrics import Metrics

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Busy(Exception):
    """There is no room for more requests now."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("too many requests are waiting")
        self.retry_after = retry_after
        """seconds"""


class Failed(Exception):
    """A step of the engine failed, and with it the answers under way."""


class Ending(Failed):
    """The server ends before the answer did."""


@dataclass(frozen=True)
class News:
    """What a step brought for one choice of a job."""

    choice: int
    items: list[Token | End]

    @property
    def ended(self) -> bool:
        return isinstance(self.items[-1], End)


class Job:
    """Completions that one HTTP request asked for. Read its news, then close it, whatever happened."""

    def __init__(self, worker: Worker, choices: int, deadline: float) -> None:
        self.worker = worker
        self.requests: list[Request] = []  # one a choice; belongs to the engine's thread
        self.open = set(range(choices))  # choices that take up room in the engine or its queue
        self.wanted = set(range(choices))  # choices whose end was not read
        self.deadline = deadline
        self.start = time.perf_counter()
        self.heard = False  # whether a first token came
        self.arrived: asyncio.Queue[News | Exception] = asyncio.Queue()

    async def news(self) -> AsyncIterator[News]:
        """Until all choices have ended. Raises TimeoutError, Failed, or a UserError that only one of them met."""
        while self.wanted:
            async with asyncio.timeout_at(self.deadline):
                news = await self.arrived.get()
            if isinstance(news, Exception):
                raise news
            if news.choice in self.wanted:
                if news.ended:
                    self.wanted.discard(news.choice)
                yield news

    def stop(self, choice: int) -> None:
        """Nothing more of this choice is wanted."""
        self.wanted.discard(choice)
        if choice in self.open:
            self.open.discard(choice)
            self.worker.taken -= 1
            self.worker.commands.put(lambda: self.worker.cancel(self.requests[choice : choice + 1]))

    def close(self) -> None:
        """Free what is still taken up."""
        self.worker.jobs.discard(self)
        for choice in self.open | self.wanted:
            self.stop(choice)


@dataclass
class Running:
    """Where the tokens of one request go, and how many went."""

    job: Job
    choice: int
    delivered: int = 0


class Worker:
    """Runs an engine in a thread of its own; made and used in one event loop."""

    def __init__(self, engine: Engine, max_waiting: int, metrics: Metrics) -> None:
        self.engine = engine
        self.capacity = engine.max_batch + max_waiting
        self.metrics = metrics
        self.jobs: set[Job] = set()  # not closed yet
        self.taken = 0  # choices that the engine has or is about to get
        self.seconds = 1.0  # how long a choice takes, a running mean
        self.loop = asyncio.get_running_loop()
        self.running: dict[Request, Running] = {}  # belongs to the engine's thread
        self.commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self.thread.start()

    async def submit(
        self, asked: Sequence[tuple[list[int], SamplingParams]], timeout: float, adapter: str | None = None
    ) -> Job:
        """Start a job with one choice for each prompt and its params, which must end within `timeout` seconds.

        Requests are made in another thread: what is long about one, such as its schema, is no pause for the others.

        Raises Busy, or UserError for a prompt or params that the engine cannot use.
        """
        if self.taken + len(asked) > self.capacity:
            batches = (self.taken + len(asked)) / self.engine.max_batch
            raise Busy(max(1, math.ceil(self.seconds * batches)))
        job = Job(self, len(asked), self.loop.time() + timeout)
        self.jobs.add(job)
        self.taken += len(asked)
        try:
            job.requests = await asyncio.to_thread(lambda: [self.engine.request(*one, adapter) for one in asked])
            self.commands.put(lambda: self._submit(job))
        except BaseException:
            job.close()
            raise
        self.metrics.prompt_tokens.inc(sum(len(prompt) for prompt, _ in asked))
        return job

    async def call(self, work: Callable[[], T]) -> T:
        """What `work` gives, done by the engine's thread between two steps. Raises Failed."""
        done: asyncio.Future[T] = self.loop.create_future()

        def command() -> None:
            try:
                result, error = work(), None
            except Exception as raised:
                logger.exception("the engine failed")
                result, error = None, Failed(type(raised).__name__)
            self.loop.call_soon_threadsafe(_settle, done, error, result)

        self.commands.put(command)
        return await done

    def give_up(self) -> None:
        """End all jobs where they are."""
        self._fail(self.jobs, Ending())

    def stop(self) -> None:
        """End the thread after the step it is in."""
        self.commands.put(None)
        self.thread.join()

    # What follows runs in the engine's thread.

    def _run(self) -> None:
        while (command := self._next()) is not None:
            try:
                command()
            except Exception as error:  # a fault, or the memory is full: all answers are lost, the server is not
                jobs = {running.job for running in self.running.values()}
                self.cancel(list(self.running))
                self._tell(error, jobs)

    def _next(self) -> Callable[[], None] | None:
        """What others asked for, else a step; waits where there is neither."""
        try:
            return self.commands.get(block=not self.running)
        except queue.Empty:
            return self._step

    def _submit(self, job: Job) -> None:
        self.engine.add(job.requests)
        self.running |= {request: Running(job, choice) for choice, request in enumerate(job.requests)}

    def cancel(self, requests: Sequence[Request]) -> None:
        self.engine.cancel(requests)
        for request in requests:
            self.running.pop(request, None)

    def _step(self) -> None:
        self.engine.step()
        news: list[tuple[Job, News]] = []
        for request, running in list(self.running.items()):
            if request.error is not None:
                del self.running[request]
                self._tell(request.error, {running.job})
            if request.error is not None or not (items := request.since(running.delivered)):
                continue
            if running.delivered == 0:
                self.metrics.reused_tokens.inc(request.reused)
            news.append((running.job, News(running.choice, items)))
            running.delivered += len(items)
            if request.stop_reason is not None:
                del self.running[request]
        self.loop.call_soon_threadsafe(self._hand_out, news)

    def _tell(self, error: Exception, jobs: set[Job]) -> None:
        if not isinstance(error, UserError):
            logger.error("the engine failed", exc_info=error)
            error = Failed(type(error).__name__)
        self.loop.call_soon_threadsafe(self._fail, jobs, error)

    # And this in the event loop again.

    def _hand_out(self, all_news: list[tuple[Job, News]]) -> None:
        for job, news in all_news:
            seconds = time.perf_counter() - job.start
            if not job.heard:
                job.heard = True
                self.metrics.first_token_seconds.observe(seconds)
            self.metrics.generated_tokens.inc(len(news.items) - news.ended)
            if news.ended and news.choice in job.open:
                job.open.discard(news.choice)
                self.taken -= 1
                self.seconds += 0.1 * (seconds - self.seconds)
            job.arrived.put_nowait(news)

    def _fail(self, jobs: set[Job], error: Exception) -> None:
        for job in jobs:
            job.arrived.put_nowait(error)


def _settle(future: asyncio.Future[Any], error: Exception | None, result: Any = None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
