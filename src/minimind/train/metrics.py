"""What a training says of itself: `metrics.jsonl` and a line on the console."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from minimind.data.batches.batch import Batch
from minimind.data.batches.loader import BatchSource
from minimind.hardware import peak_memory_gb, synchronize
from minimind.train.checkpoint import Progress
from minimind.train.step import StepResult, TrainStep
from minimind.util.files import whole_file


class StepLog:
    """The steps since the last line of metrics.jsonl; their values stay on the device until one is written."""

    def __init__(self, file: JsonLines, flops_per_token: float, matmul_rate: float) -> None:
        self.file, self.flops_per_token, self.matmul_rate = file, flops_per_token, matmul_rate
        self.clear()

    def clear(self) -> None:
        self.results: list[StepResult] = []
        self.tokens = self.positions = 0
        self.seconds = 0.0

    def add(self, result: StepResult, batch: Batch, seconds: float) -> None:
        self.results.append(result)
        self.tokens += batch.num_tokens
        self.positions += batch.tokens.numel()
        self.seconds += seconds

    def write(
        self, progress: Progress, step: TrainStep, epoch: float, data_seconds: float, source: BatchSource
    ) -> tuple[StepValues, dict[str, Any]]:
        """Bring `progress` up to date and write a line; returns the steps' values and the line.

        epoch         passes over the data so far
        data_seconds  what the steps waited for their batches
        source        of the batches, which may have something to say of them
        """
        device, world, count = step.strategy.device, step.strategy.world, len(self.results)
        start = time.perf_counter()
        synchronize(device)
        self.seconds += time.perf_counter() - start  # the wait is time of the steps
        values, seconds = StepValues.of(self.results), self.seconds
        elapsed = seconds + data_seconds
        tokens, positions = (int(x) for x in step.strategy.sum([self.tokens, self.positions]).tolist())
        progress.tokens += tokens
        progress.seconds += elapsed
        rate = tokens / max(seconds, 1e-9)
        line = {
            "step": progress.step,
            "tokens": progress.tokens,
            **values.means(step.terms, step.metrics),
            **{name: value for one in step.auxiliaries for name, value in one.metrics().items()},
            **source.metrics(seconds, count),
            "lr": step.optimizers[0].param_groups[0]["lr"],
            "tokens_per_second": rate,
            "padding": 1 - tokens / positions,
            "mfu": rate / world * self.flops_per_token / self.matmul_rate,
            "memory_gb": peak_memory_gb(device),
            "data_time": data_seconds / max(elapsed, 1e-9),
            "epoch": epoch,
            "elapsed": progress.seconds,
        }
        self.file.write(**line)
        self.clear()
        return values, {**line, "seconds_left": (progress.total_steps - progress.step) * elapsed / count}


@dataclass(frozen=True)
class StepValues:
    """Of each step the terms of its loss, its gradient's norm, and the sums, then the units, of its metrics."""

    losses: list[list[float]]
    norms: list[float]
    metrics: list[list[float]]

    @classmethod
    def of(cls, results: list[StepResult]) -> StepValues:
        """Read them from the device, in one go."""
        rows = torch.stack([torch.cat([r.losses, r.norm[None], r.metrics.flatten()]) for r in results]).tolist()
        terms = len(results[0].losses)
        losses, norms, metrics = zip(*((row[:terms], row[terms], row[terms + 1 :]) for row in rows))
        return cls(list(losses), list(norms), list(metrics))

    def finite(self, adapts_scale: bool) -> list[bool]:
        """Whether each step was made. By overflowing gradients fp16's loss scale finds its size: while it does, a
        finite loss is enough."""
        pairs = zip(self.losses, self.norms)
        return [math.isfinite(sum(terms) if adapts_scale else norm) for terms, norm in pairs]

    def means(self, terms: list[str], metrics: list[str]) -> dict[str, float]:
        """Over the steps made: of terms and norm by step, of metrics by unit; and how many steps were skipped."""
        good = [step for step, norm in enumerate(self.norms) if math.isfinite(norm)]
        columns = zip(*([*self.losses[step], self.norms[step]] for step in good))
        means = [sum(column) / len(good) for column in columns] if good else [math.nan] * (len(terms) + 1)
        skipped = len(self.norms) - len(good)
        totals = [sum(column) for column in zip(*(self.metrics[step] for step in good))]
        looked_at = {
            name: totals[place] / totals[place + len(metrics)]
            if totals and totals[place + len(metrics)]
            else math.nan
            for place, name in enumerate(metrics)
        }
        return {
            **dict(zip([*terms, "grad_norm"], means)),
            **looked_at,
            **({"bad_steps": skipped} if skipped else {}),
        }


class JsonLines:
    """One JSON object a line. A run that resumes at a checkpoint first drops what was written after it.

    What is not a number or not finite is null: JSON knows neither.
    """

    def __init__(
        self, path: Path | None, step: int, mark: dict[str, Any] | None = None, say: Callable[[str], None] = print
    ) -> None:
        """Without a path (in all processes but one) nothing is written.

        step  of the checkpoint; -1 for a new run
        mark  what `mark` was then, where it was recorded
        say   is told what is damaged
        """
        self._file = None
        self._size, self._sha256 = 0, hashlib.sha256()
        if path is None:
            return
        data = path.read_bytes() if path.exists() else b""
        if data and not data.endswith(b"\n"):  # a kill or a power cut
            say(f"{path} ends inside a line, which was dropped")
        kept, damaged, last_step = [], 0, math.inf if mark else step
        for line in data[: mark["bytes"] if mark else None].split(b"\n")[:-1]:
            try:
                if json.loads(line)["step"] <= last_step:
                    kept.append(line + b"\n")
            except (ValueError, LookupError, TypeError):
                damaged += 1
        if damaged:
            say(f"{path}: {damaged} damaged lines were dropped")
        self._count(b"".join(kept))
        if mark and not damaged and mark != self.mark:
            say(f"{path} is not what was written up to step {step}: what it says of those steps may be wrong")
        with whole_file(path) as partial:
            partial.write_bytes(b"".join(kept))
        self._file = path.open("a", encoding="utf-8", newline="\n")

    def write(self, **values: Any) -> None:
        if self._file:
            line = json.dumps(_plain(values), ensure_ascii=False) + "\n"
            self._file.write(line)
            self._file.flush()
            self._count(line.encode())

    def _count(self, written: bytes) -> None:
        self._size += len(written)
        self._sha256.update(written)

    @property
    def mark(self) -> dict[str, Any]:
        """Size and checksum of all that is in the file now."""
        return {"bytes": self._size, "sha256": self._sha256.hexdigest()}

    def sync(self) -> None:
        """Bring the lines to the disk: a checkpoint is to find them there."""
        if self._file:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        if self._file:
            self._file.close()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
