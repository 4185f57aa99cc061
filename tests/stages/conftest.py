"""What the tests of stages share: a training that is stopped, and a command that is refused."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.helpers import assert_same_run, last_checkpoint

from minimind.cli import main
from minimind.data.batches.batch import Batch
from minimind.train.trainer import Trainer


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str], int], None]:
    """`stop_after(argv, step)`: the command, which gets SIGTERM in the middle of that step."""
    train_step = Trainer.train_step

    def stopped(argv: list[str], step: int) -> None:
        def train(trainer: Trainer, batch: Batch) -> None:
            train_step(trainer, batch)
            if trainer.progress.step == step:
                os.kill(os.getpid(), signal.SIGTERM)

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "train_step", train)
            assert main(argv) == 128 + signal.SIGTERM

    return stopped


@pytest.fixture
def stopped_and_whole(
    stop_after: Callable[[list[str], int], None], tmp_path: Path
) -> Callable[..., tuple[Path, Path]]:
    """`stopped_and_whole(training, step, **changes)`: a run that is stopped in that step and resumed, and one
    that never was; they are the same to the last bit."""

    def compared(training: Callable[..., list[str]], step: int, **changes: Any) -> tuple[Path, Path]:
        run, whole = tmp_path / "run", tmp_path / "whole"
        changes = {"checkpoint__every": None} | changes
        assert main(training(whole, **changes)) == 0
        stop_after(training(run, **changes), step)
        assert last_checkpoint(run).name == f"step-{step:07}"
        assert main(training(run, **changes)) == 0
        assert_same_run(run, whole)
        return run, whole

    return compared


@pytest.fixture
def refusal(capsys: Any) -> Callable[[list[str]], str]:
    """`refusal(argv)`: the one sentence in which the command is refused as a mistake of the user."""

    def sentence(argv: list[str]) -> str:
        capsys.readouterr()
        assert main(argv) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert said.count("\n") == 1
        return said.strip()

    return sentence
