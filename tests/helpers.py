"""Small inputs for tests, and ways to train: in this process, or in one that may be killed."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from minimind.cli import main
from minimind.stages import STAGES
from minimind.stages.launch import make_setup
from minimind.stages.launch import make_trainer as trainer_of
from minimind.stages.resolve import resolve
from minimind.train.console import TrainingConsole
from minimind.train.strategies.single import SingleDevice
from minimind.train.trainer import Trainer

WORDS = ["the", "a", "cat", "dog", "bird", "tree", "house", "river", "sees", "finds", "likes", "small", "big"]
WORDS += ["red", "blue", "old", "and", "then", "runs", "sleeps", "山", "水", "很", "大"]

# A training of a few seconds; tests change what they are about.
SETTINGS: dict[str, Any] = {
    "model.hidden_size": 32,
    "model.num_hidden_layers": 2,
    "model.num_attention_heads": 2,
    "model.intermediate_size": 64,
    "batch.seq_len": 32,
    "batch.tokens_per_step": 256,
    "batch.micro_batch_tokens": 128,
    "optimizer.learning_rate": 0.02,
    "evaluation.holdout": 0.1,
    "evaluation.every": 1000,
    "evaluation.samples": 0,
    "checkpoint.every": 4,
    "budget.steps": 12,
    "log_every": 1,
    "compile": "false",
    "device": "cpu",
    "precision": "fp32",
}


def texts(count: int, seed: int = 0, longest: int = 60) -> list[str]:
    """Texts of 3 to `longest` words, several of them longer than a row of the tiny recipe."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(3, longest))) + "." for _ in range(count)]


def chats(count: int, seed: int = 0) -> list[list[dict[str, str]]]:
    """Conversations of one or two turns whose answers differ much in length."""
    draw = random.Random(seed)
    say = lambda longest: " ".join(draw.choices(WORDS, k=draw.randint(1, longest)))  # noqa: E731
    turn = lambda: [{"role": "user", "content": say(8)}, {"role": "assistant", "content": say(25)}]  # noqa: E731
    return [turn() * draw.randint(1, 2) for _ in range(count)]


def thoughts(count: int, seed: int = 0) -> list[list[dict[str, str]]]:
    """Conversations of one turn with short thinking, most of which fit a row of the tiny recipe."""
    draw = random.Random(seed)
    say = lambda longest: " ".join(draw.choices(WORDS, k=draw.randint(1, longest)))  # noqa: E731
    answer = lambda: {"role": "assistant", "reasoning_content": say(12), "content": say(6)}  # noqa: E731
    return [[{"role": "user", "content": say(4)}, answer()] for _ in range(count)]


def pairs(count: int, seed: int = 0) -> list[dict[str, list[dict[str, str]]]]:
    """Preferences: two different answers to one question, short enough for a sequence of 128 tokens."""
    draw = random.Random(seed)
    say = lambda longest: " ".join(draw.choices(WORDS, k=draw.randint(1, longest)))  # noqa: E731
    found = []
    while len(found) < count:
        question, chosen, rejected = {"role": "user", "content": say(6)}, say(14), say(14)
        if chosen != rejected:
            sides = {"chosen": chosen, "rejected": rejected}
            found.append({side: [question, {"role": "assistant", "content": sides[side]}] for side in sides})
    return found


def write_jsonl(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@contextlib.contextmanager
def mounted(place: Path, options: str) -> Iterator[Path]:
    """A disk of its own at `place`, with the options of `mount`; the test is skipped where nobody may mount one."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk can only be mounted by root on Linux")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def free_port() -> str:
    """One below 32768, where the system begins to give ports away by itself: no server of another test gets it."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            return str(port)


def flags(**changes: Any) -> list[str]:
    """The tiny settings as flags; `__` in a name stands for a dot, None leaves a setting out."""
    settings = SETTINGS | {name.replace("__", "."): value for name, value in changes.items()}
    rate, is_muon = settings["optimizer.learning_rate"], settings.get("optimizer.name", "muon") == "muon"
    settings.setdefault("optimizer.embedding_learning_rate", (0.3 if is_muon else 1) * rate)
    given = {
        name: value if isinstance(value, list) else [value] for name, value in settings.items() if value is not None
    }
    return [word for name, values in given.items() for word in (f"--{name}", *map(str, values))]


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def losses(run: Path, column: str = "loss") -> list[float]:
    """The loss (or another column) of every step, in order: one line each, no step twice."""
    lines = [line for line in metrics(run) if "eval" not in line]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return [line[column] for line in lines]


def evaluations(run: Path) -> list[dict[str, Any]]:
    return [line for line in metrics(run) if "eval" in line]


def weights_file(directory: Path) -> Path:
    """Of a model, or of an adapter."""
    (path,) = directory.glob("*model.safetensors")
    return path


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(weights_file(directory))


def last_checkpoint(run: Path) -> Path:
    return sorted((run / "checkpoints").glob("step-???????"))[-1]


def assert_same_run(one: Path, other: Path) -> None:
    """Equal to the last bit: losses, evaluations, final model, and all state in the last checkpoint."""
    assert losses(one) == losses(other)
    assert evaluations(one) == evaluations(other)
    assert (one / "samples.jsonl").read_bytes() == (other / "samples.jsonl").read_bytes()
    a, b = last_checkpoint(one), last_checkpoint(other)
    assert a.name == b.name
    for directories in ((one / "model", other / "model"), (a, b)):
        files = [weights_file(directory) for directory in directories]
        assert files[0].name == files[1].name
        assert files[0].read_bytes() == files[1].read_bytes()
    assert_equal_trees(*(torch.load(path / "training.pt", weights_only=True) for path in (a, b)))
    progress = [json.loads((path / "progress.json").read_text()) for path in (a, b)]
    for state in progress:
        del state["seconds"], state["files"], state["lines"]
    assert progress[0] == progress[1]


def assert_equal_trees(a: Any, b: Any) -> None:
    """Nested containers with bit-equal tensors."""
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal_trees(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for one, other in zip(a, b):
            assert_equal_trees(one, other)
    else:
        assert a == b


def make_trainer(argv: list[str], objective: Any = None) -> Trainer:
    """The trainer of a command of the fixtures `pretrain`, `sft`, `dpo`…, to be looked at from within."""
    stage, given = argv[1], dict[str, list[str]]()
    for word in argv[2:]:
        if word.startswith("--"):
            given[word] = words = []
        else:
            words.append(word)
    run = Path(given.pop("--out")[0])
    run.mkdir(exist_ok=True)
    names = {"--tokenizer": "tokenizer", "--from": "init_from"}
    paths: dict[str, Any] = {names[flag]: given.pop(flag)[0] for flag in names if flag in given}
    if "--data" in given:
        paths["data"] = given.pop("--data")
    recipe = resolve(stage, [word for flag, words in given.items() for word in (flag, *words)], [], paths)
    changed = dataclasses.replace(STAGES[stage], **({"objective": lambda setup: objective} if objective else {}))
    setup = make_setup(recipe, run, SingleDevice(torch.device("cpu")), TrainingConsole(quiet=False), changed)
    return trainer_of(setup, changed)


# ----------------------------------------------------------------------------------- processes to be killed

_server = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
if os.name == "posix":
    _server.set_forkserver_preload(["minimind.stages.launch", "minimind.commands.train", "torch._dynamo"])


def start(
    argv: list[str], log: Path, die_at: int | None = None, environment: dict[str, str] | None = None
) -> BaseProcess:
    """`minimind argv` in a process of its own, its output in `log`: a real one, but forked with torch loaded.

    With `die_at` it kills itself at that many-th operation on files in the directory of `log`.
    """
    return start_function(_command, argv, log.parent, die_at, environment or {}, log=log)


def start_function(function: Callable[..., None], *arguments: Any, log: Path) -> BaseProcess:
    """A function of a module in a process of its own, its output in `log`."""
    process = _server.Process(target=_logged, args=(function, arguments, log))
    process.start()
    return process


def _logged(function: Callable[..., None], arguments: tuple, log: Path) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    function(*arguments)


def _command(argv: list[str], directory: Path, die_at: int | None, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    sys.argv = ["minimind", *argv]
    if die_at is not None:
        die_at_file_operation(directory, die_at)
    code = main(argv)
    sys.stderr.flush()
    sys.exit(code)


def die_at_file_operation(directory: Path, number: int) -> None:
    """From now on count the operations on files below `directory`; be killed at the given one."""
    left = number
    operations = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}

    def hook(event: str, arguments: tuple) -> None:
        nonlocal left
        path = str(arguments[0]) if event in operations else "/"
        # rmtree names what it removes relative to the directory it is in
        if path.startswith(str(directory)) or not path.startswith("/"):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), 9)

    sys.addaudithook(hook)
