"""Servers in this process and in others."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from openai import OpenAI
from tests.pupil import train_pupil
from tests.random_models import random_model

from minimind import Model
from minimind.model import save_model
from minimind.serve.app import ServerSettings, create_app
from minimind.serve.worker import Worker
from minimind.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def pupil(tmp_path_factory: pytest.TempPathFactory, tokenizer_directory: Path) -> Path:
    """The model directory of a pupil."""
    tokenizer = Tokenizer.load(tokenizer_directory)
    directory = tmp_path_factory.mktemp("pupil") / "pupil" / "model"
    save_model(train_pupil(tokenizer), directory, tokenizer)
    return directory


@pytest.fixture(scope="session")
def endless(tmp_path_factory: pytest.TempPathFactory, tokenizer_directory: Path) -> Path:
    """A model that, asked greedily, never ends by itself, and has room to speak for long."""
    tokenizer = Tokenizer.load(tokenizer_directory)
    model = random_model(vocab_size=tokenizer.vocab_size, max_position_embeddings=8192)
    model.output_weight.data[[tokenizer.pad_id, tokenizer.eos_id]] = 0  # never the largest of all logits
    directory = tmp_path_factory.mktemp("endless")
    save_model(model, directory, tokenizer)
    return directory


@dataclass
class Served:
    """A running server."""

    url: str
    model: Model
    app: Any
    client: OpenAI = field(init=False)

    def __post_init__(self) -> None:
        self.client = self.openai()

    def openai(self, **options: Any) -> OpenAI:
        return OpenAI(base_url=self.url + "/v1", max_retries=0, **{"api_key": "none", "timeout": 60, **options})

    @property
    def worker(self) -> Worker:
        return self.app.state.worker

    def wait_until(self, holds: Callable[[], bool]) -> None:
        for _ in range(3000):
            if holds():
                return
            time.sleep(0.01)
        raise AssertionError("it did not come to pass within 30 s")

    def wait_until_idle(self) -> None:
        """Until the engine has nothing left, and the counts say so."""
        worker, engine = self.worker, self.model.engine
        self.wait_until(lambda: not worker.running and not engine.active and not engine.waiting)
        assert worker.taken == 0


@contextmanager
def serve(model: Model, **settings: Any) -> Iterator[Served]:
    app = create_app(model, ServerSettings(**{"name": "tiny", **settings}))
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        served = Served(f"http://127.0.0.1:{listener.getsockname()[1]}", model, app)
        served.wait_until(lambda: server.started)
        yield served
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server of its own, and its address."""
    command = [sys.executable, "-m", "minimind", "serve", *arguments, "--device", "cpu", "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        line = server.stderr.readline()
        found = re.match(
            r"serving (.+) at (http://127\.0\.0\.1:\d+)/v1 \(.* on cpu, context \d+\); Ctrl-C ends\n", line
        )
        assert found, line + server.stderr.read()
        while True:
            try:
                httpx.get(found[2] + "/health")
                break
            except httpx.ConnectError:
                time.sleep(0.05)
        yield server, found[2]
    finally:
        server.kill()
        server.communicate()


@pytest.fixture(scope="session")
def learned(pupil: Path) -> Model:
    return Model(pupil, device="cpu")


@pytest.fixture(scope="module")
def served(learned: Model) -> Iterator[Served]:
    with serve(learned) as server:
        yield server


@pytest.fixture(scope="module")
def served_endless(endless: Path) -> Iterator[Served]:
    model = Model(endless, device="cpu")
    with serve(model) as server:
        yield server
