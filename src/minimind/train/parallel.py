"""The seam between the loop and where it runs: one device, or one process per device (DDP).

Started by torchrun, every process trains on its rows of each step and gradients are summed over all.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from minimind.data.batches.batch import Batch
from minimind.errors import WorkFailed
from minimind.hardware import keep_freed_memory
from minimind.model import Transformer
from minimind.model.moe import Routing
from minimind.train.objective import Objective
from minimind.train.router import Routers


class _Step(nn.Module):
    """The objective as a module, so that DDP sees all use of the parameters in one forward."""

    def __init__(self, model: Transformer, objective: Objective, routers: Routers | None) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.routers = routers

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        if self.routers is None:
            return self.objective(self.model, batch)
        routings: list[Routing] = []
        return self.objective(self.model, batch, routings) | self.routers.terms(routings, batch)


class Strategy:
    """One device, alone or as one of several processes."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cpu":
            keep_freed_memory()
        self.rank = int(os.environ.get("RANK", "0"))
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        if self.world > 1 and not dist.is_initialized():
            if device.type == "cuda":
                torch.cuda.set_device(device)
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def prepare(self, model: Transformer, objective: Objective, routers: Routers | None = None) -> None:
        """Make the model's objective computable here; every process starts from the same parameters."""
        step = _Step(model, objective, routers)
        self._step: Any = nn.parallel.DistributedDataParallel(step) if self.world > 1 else step

    def forward_backward(
        self, batch: Batch, divisors: dict[str, torch.Tensor], scale: torch.Tensor, last: bool
    ) -> torch.Tensor:
        """Add the gradient of scale · Σ term / divisor for one micro-batch; returns the unscaled terms, (terms,).

        With the last micro-batch of a step gradients are summed over all processes. DDP averages, hence
        the factor `world`.
        """
        waits = self.world > 1 and not last
        with self._step.no_sync() if waits else contextlib.nullcontext():
            terms = self._step(batch)
            losses = torch.stack([terms[name] / divisor for name, divisor in divisors.items()])
            (losses.sum() * scale * self.world).backward()
        return losses.detach()

    def sum(self, values: list[float]) -> torch.Tensor:
        """Sums over all processes, (len(values),) on the device in float64 (float32 on MPS)."""
        wide = torch.float32 if self.device.type == "mps" else torch.float64
        return self.total(torch.tensor(values, dtype=wide).to(self.device, non_blocking=True))

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over all processes, without asking the device."""
        self._together(dist.all_reduce, value)
        return value

    def barrier(self) -> None:
        """Wait until every process is here."""
        self._together(dist.barrier)

    def _together(self, operation: Callable[..., Any], *arguments: Any) -> None:
        if self.world > 1:
            try:
                operation(*arguments)
            except RuntimeError:
                raise WorkFailed("another process of this training has ended; it said why") from None

    def close(self) -> None:
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()
