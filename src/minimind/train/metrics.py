"""What a training says of itself: `metrics.jsonl` and a line on the console."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from minimind import system
from minimind.data.cache import write_atomically
from minimind.model import ModelConfig
from minimind.model.count import active_parameters

EMULATED = 5e9  # operations per second: a processor with instructions for a type does more


def flops_per_token(config: ModelConfig, row_length: int) -> float:
    """Floating-point operations of forward and backward per position.

    6 for each parameter that it is multiplied by (Kaplan et al. 2020, arXiv:2001.08361) and 12·L·H·C·T/2 for causal
    attention over a full row. An untied input embedding is looked up, not multiplied.
    """
    parameters = active_parameters(config)
    if not config.tie_word_embeddings:
        parameters -= config.vocab_size * config.hidden_size
    attention = config.num_hidden_layers * config.num_attention_heads * config.channels * row_length
    return 6.0 * parameters + 6.0 * attention


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of a large matrix product here and now: what MFU is a share of."""
    if device.type == "cuda":
        return product_rate(8192, 8192, 8192, device, dtype)
    small = product_rate(256, 256, 256, device, dtype)
    # Where a type is emulated, a large product would take seconds, and is no faster per operation.
    return small if small < EMULATED else product_rate(1024, 1024, 1024, device, dtype)


def rates_on_one_thread(dtypes: Sequence[torch.dtype]) -> list[float]:
    """Floating-point operations per second of a matrix product in each type on this CPU.

    On one thread and in turn, so that other work on the machine does not decide: threads that wait for one another
    are slowed down by any amount.
    """
    threads, device = torch.get_num_threads(), torch.device("cpu")
    torch.set_num_threads(1)
    try:
        rounds = [[product_rate(256, 256, 256, device, dtype) for dtype in dtypes] for _ in range(4)]
    finally:
        torch.set_num_threads(threads)
    return [max(rates) for rates in zip(*rounds)]


def product_rate(rows: int, inner: int, columns: int, device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of a product (rows, inner) @ (inner, columns)."""
    a = torch.randn(rows, inner, device=device).to(dtype)
    b = torch.randn(inner, columns, device=device).to(dtype)
    best = 0.0
    for _ in range(4):  # the first is a warm-up; noise only ever slows down
        synchronise(device)
        start = time.perf_counter()
        a @ b
        synchronise(device)
        best = max(best, 2 * rows * inner * columns / (time.perf_counter() - start))
    return best


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def peak_memory_gb(device: torch.device) -> float:
    """Largest memory so far in 10⁹ bytes: of the device, or of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return system.peak_memory() / 1e9


def forget_peak_memory(device: torch.device) -> None:
    """Let `peak_memory_gb` begin anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        system.forget_peak_memory()


@dataclass
class Window:
    """Steps since the last line of metrics; their losses and norms are still on the device."""

    losses: list[torch.Tensor] = field(default_factory=list)
    norms: list[torch.Tensor] = field(default_factory=list)
    tokens: int = 0
    positions: int = 0
    seconds: float = 0.0
    data_seconds: float = 0.0

    def read(self, device: torch.device) -> tuple[list[list[float]], list[float]]:
        """Each step's terms of the loss, and norms, once the device has finished; the wait is time of the steps."""
        start = time.perf_counter()
        synchronise(device)
        self.seconds += time.perf_counter() - start
        rows = torch.cat([torch.stack(self.losses), torch.stack(self.norms)[:, None]], 1).tolist()
        return [row[:-1] for row in rows], [row[-1] for row in rows]


def averages(names: list[str], losses: list[list[float]], norms: list[float]) -> dict[str, float]:
    """Means of the terms of the loss and of the gradient norm over the steps made; how many were skipped."""
    good = [[*terms, norm] for terms, norm in zip(losses, norms) if math.isfinite(norm)]
    means = [sum(values) / len(good) for values in zip(*good)] if good else [math.nan] * (len(names) + 1)
    bad = {"bad_steps": len(norms) - len(good)} if len(good) < len(norms) else {}
    return {**dict(zip([*names, "grad_norm"], means)), **bad}


class JsonLines:
    """One JSON object a line. A run that goes on from step n first drops what was written after n.

    What is not a number or not finite is null: JSON knows neither.
    """

    def __init__(self, path: Path | None, step: int) -> None:
        """`step` is -1 for a run that begins. Without a path (in all processes but one) nothing is written."""
        self._file = None
        if path is None:
            return
        kept = []
        if path.exists():
            for line in path.read_text(encoding="utf-8").split("\n"):
                try:
                    if json.loads(line)["step"] <= step:
                        kept.append(line + "\n")
                except ValueError:
                    break  # a line cut short by a kill
        write_atomically(path, "".join(kept))
        self._file = path.open("a", encoding="utf-8")

    def write(self, **values: Any) -> None:
        if self._file:
            self._file.write(json.dumps(_plain(values), ensure_ascii=False) + "\n")
            self._file.flush()

    def close(self) -> None:
        if self._file:
            self._file.close()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
