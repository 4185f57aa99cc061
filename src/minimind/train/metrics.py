"""What a training says of itself: `metrics.jsonl` and a line on the console."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from minimind.hardware import synchronize
from minimind.util.files import write_text


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
        synchronize(device)
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
        write_text(path, "".join(kept))
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
