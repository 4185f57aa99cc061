"""Reading run directories: what was trained, how far it came, how well.

A directory is a run when it has a `state.json`. Files are read while a training writes them and after it was
killed, so a line that was cut short is passed over and a status "running" without its process is "interrupted".
"""

from __future__ import annotations

import json
import os
import socket
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from minimind.config import RENAMED, flatten
from minimind.errors import UserError
from minimind.util.json_files import loads, read_json_lines
from minimind.util.plain_yaml import PlainLoader
from minimind.util.suggest import did_you_mean
from minimind.util.system import is_alive as process_is_alive
from minimind.util.units import date_text, duration, number_text, size_text


@dataclass(frozen=True)
class Run:
    """One run directory, as it was when it was read."""

    name: str
    path: Path
    state: dict[str, Any]
    recipe: dict[str, Any]
    """settings by key: `model.hidden_size`"""
    environment: dict[str, Any]
    training: list[dict[str, Any]]
    """lines of metrics.jsonl about training, by step"""
    evaluations: list[dict[str, Any]]
    """lines of metrics.jsonl with an "eval", by step"""

    @property
    def stage(self) -> str:
        return str(self.state.get("stage") or self.recipe.get("stage", "?"))

    @property
    def data(self) -> list[str]:
        """The files that it was trained on."""
        files = self.recipe.get("data")
        return [str(file) for file in files] if isinstance(files, list) else []

    @property
    def status(self) -> str:
        """running, stopped, finished, failed, or: interrupted (its process is gone), damaged (no state)."""
        status = str(self.state.get("status", "damaged"))
        return "interrupted" if status == "running" and not is_alive(self.state) else status

    @property
    def last(self) -> dict[str, Any]:
        """The newest line about training; empty before the first."""
        return self.training[-1] if self.training else {}

    @property
    def measured(self) -> list[str]:
        """The keys of metrics.jsonl that have figures: of training, then `eval.…` of evaluations."""
        keys = [key for line in self.training for key in line]
        keys += [f"eval.{key}" for line in self.evaluations for key in line["eval"]]
        return list(dict.fromkeys(keys))

    def summary(self) -> dict[str, Any]:
        """What a list of runs shows; unknown values are None."""
        bits, scores = (
            [line["eval"][name] for line in self.evaluations if name in line["eval"]]
            for name in ("bits_per_byte", "score")
        )
        rates = [line["tokens_per_second"] for line in self.training if "tokens_per_second" in line]
        return {
            "name": self.name,
            "path": str(self.path),
            "stage": self.stage,
            "status": self.status,
            "steps": self.last.get("step", self.state.get("step", 0)),
            "total_steps": self.state.get("total_steps"),
            "tokens": self.last.get("tokens", self.state.get("tokens", 0)),
            "loss": self.last.get("loss"),
            "bits_per_byte": bits[-1] if bits else None,
            "best_bits_per_byte": min(bits, default=None),
            "reward": self.last.get("reward"),
            "score": scores[-1] if scores else None,
            "best_score": max(scores, default=None),
            "tokens_per_second": statistics.median(rates) if rates else None,
            "seconds": self.last.get("elapsed"),
            "size_bytes": size_of(self.path),
            "started": self.state.get("started"),
        }


def readable(summary: dict[str, Any]) -> dict[str, Any]:
    """The values of a summary in the units of a person, under names that fit them."""
    units = {"seconds": ("time", duration), "size_bytes": ("size", size_text), "started": ("started", date_text)}
    shown: dict[str, Any] = {}
    for key, value in summary.items():
        name, write = units.get(key, (key.replace("_", " "), None))
        shown[name] = write(value) if write and value is not None else value
    return shown


def read_run(path: Path, name: str = "") -> Run:
    """The run in a directory, by default named after it. UserError if it is none."""
    if not (path / "state.json").is_file():
        raise UserError(f"{path} is no run directory: it has no state.json; `minimind runs list` names the runs")
    lines, recipe = read_json_lines(path / "metrics.jsonl"), flatten(read_mapping(path / "recipe.yaml"))
    evaluated = [line for line in lines if isinstance(line.get("eval"), dict)]
    state = read_mapping(path / "state.json")
    return Run(
        name=name or path.resolve().name,
        path=path,
        state={key: value for key, value in state.items() if key not in COUNTED or is_figure(value)},
        recipe={RENAMED.get(key, key): value for key, value in recipe.items()},
        environment=read_mapping(path / "environment.json"),
        training=in_order([figures(line) for line in lines if "eval" not in line]),
        evaluations=in_order([figures(line) | {"eval": figures(line["eval"])} for line in evaluated]),
    )


def find_runs(directory: Path) -> list[Run]:
    """All runs in and below a directory, the last started first; their names are paths from there."""
    runs = []
    for folder, children, files in os.walk(directory):
        if "state.json" in files:
            children.clear()  # a run holds no runs
            path = Path(folder)
            name = path.relative_to(directory).as_posix()
            runs.append(read_run(path, "" if name == "." else name))
    return sorted(runs, key=lambda run: run.state.get("started") or 0, reverse=True)


def default_directory() -> Path:
    """Where runs lie if nothing else is said: $MINIMIND_RUNS, or `runs` here."""
    return Path(os.environ.get("MINIMIND_RUNS") or "runs")


def named_run(name: str) -> Run:
    """The run at a path, or of that name in the default directory. UserError with the nearest name."""
    for path in (Path(name), default_directory() / name):
        if (path / "state.json").is_file():
            return read_run(path, name)
    names = [run.name for run in find_runs(default_directory())]
    advice = did_you_mean(name, names, "`minimind runs list` names the runs")
    raise UserError(f"no run {name}: neither a run directory nor a name in {default_directory()}/; {advice}")


def differences(runs: list[Run]) -> dict[str, list[Any]]:
    """The settings in which runs differ: key -> one value per run (None where a run does not have it)."""
    keys = {key: None for run in runs for key in run.recipe}  # a dict keeps their order
    values = {key: [run.recipe.get(key) for run in runs] for key in keys}
    return {key: row for key, row in values.items() if any(value != row[0] for value in row)}


# -------------------------------------------------------------------------------------------------- files


COUNTED = ("step", "total_steps", "tokens", "seconds", "started", "ended")  # in a state: figures, or damaged
LARGEST = 1e100  # what damage makes of a figure may be any number; beyond this nothing can be drawn or added


def is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not abs(value) > LARGEST


def figures(line: dict[str, Any]) -> dict[str, Any]:
    """What a line of metrics says in numbers; NaN is one: the loss of a training that diverged."""
    return {key: value for key, value in line.items() if is_figure(value)}


@dataclass(frozen=True)
class Sample:
    """What the model said to a prompt at an evaluation."""

    step: int
    messages: list[dict[str, Any]]
    """the prompt's, then all that was said: several turns where an environment answered"""
    earned: dict[str, float]
    """the reward of the answer, then its parts; empty where answers are not judged"""

    @property
    def prompt(self) -> str:
        """What the user said."""
        return "\n".join(_text(one) for one in self.messages[: self._asked] if one.get("role") != "assistant")

    @property
    def answer(self) -> str:
        return "\n".join(map(_text, self.messages[self._asked :]))

    @property
    def caption(self) -> str:
        return " · ".join(
            [f"step {self.step}", *(f"{name} {number_text(value)}" for name, value in self.earned.items())]
        )

    @property
    def _asked(self) -> int:
        """How many messages are the prompt's."""
        users = [at for at, one in enumerate(self.messages) if one.get("role") == "user"]
        return users[-1] + 1 if users else len(self.messages) - 1


def _text(message: dict[str, Any]) -> str:
    """Thinking, text and calls of a message."""
    thinking, calls = message.get("reasoning_content"), message.get("tool_calls")
    parts = [thinking and f"<think>{thinking}</think>", message.get("content")]
    parts += [calls if isinstance(calls, str) else json.dumps(calls, ensure_ascii=False)] if calls else []
    return "\n".join(str(part) for part in parts if part)


def read_samples(run: Run) -> list[Sample]:
    """What the model said at its evaluations; damaged lines are passed over."""
    samples = []
    for line in read_json_lines(run.path / "samples.jsonl"):
        messages = line.get("conversations")
        if isinstance(messages, list) and messages and all(isinstance(one, dict) for one in messages):
            step, parts = line.get("step"), line.get("parts")
            earned = figures({"reward": line.get("reward"), **(parts if isinstance(parts, dict) else {})})
            samples.append(Sample(step if isinstance(step, int) else 0, messages, earned))
    return samples


def in_order(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line per step: a training that went back to a checkpoint replaces what it had written after it."""
    kept: list[dict[str, Any]] = []
    for line in lines:
        if isinstance(line.get("step"), int):
            while kept and kept[-1]["step"] >= line["step"]:
                kept.pop()
            kept.append(line)
    return kept


def read_mapping(path: Path) -> dict[str, Any]:
    """A JSON or YAML file with a mapping; empty if it is missing, damaged or just being written."""
    try:
        text = path.read_text(encoding="utf-8")
        content = loads(text) if path.suffix == ".json" else yaml.load(text, PlainLoader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def size_of(directory: Path) -> int:
    """Bytes of all files below a directory; one that a training just removed counts nothing."""
    total = 0
    for folder, _, files in os.walk(directory):
        for file in files:
            try:
                total += os.lstat(os.path.join(folder, file)).st_size
            except FileNotFoundError:
                continue
    return total


def is_alive(state: dict[str, Any]) -> bool:
    """Whether the process that wrote a state still runs; of another machine's we cannot know, and say yes."""
    pid = state.get("pid")
    if state.get("host") != socket.gethostname() or not isinstance(pid, int) or not 0 < pid < 2**31:
        return True
    return process_is_alive(pid)
