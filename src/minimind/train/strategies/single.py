"""One process on one device."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import nn

from minimind.hardware import keep_freed_memory

T = TypeVar("T")


class SingleDevice:
    """Everything is here: sums over processes are what they are."""

    rank, world = 0, 1

    def __init__(self, device: torch.device, keep_memory: bool = True) -> None:
        """`keep_memory`: on a CPU, keep what is freed for the next allocation, which is faster."""
        self.device = device
        if device.type == "cpu" and keep_memory:
            keep_freed_memory()

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def prepare(self, module: nn.Module) -> nn.Module:
        return module

    def micro_batch(self, module: nn.Module, last: bool) -> AbstractContextManager[None]:
        return nullcontext()

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()

    def grad_norm(self, gradients: list[torch.Tensor]) -> torch.Tensor:
        return torch.nn.utils.get_total_norm(gradients)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        optimizer.step()

    def state_dict(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        return optimizer.state_dict()

    def load_state_dict(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        optimizer.load_state_dict(state)

    def save(self, write: Callable[[], object]) -> None:
        if self.is_main:
            write()
        self.barrier()

    def total(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor

    def sum(self, values: list[float]) -> torch.Tensor:
        wide = torch.float32 if self.device.type == "mps" else torch.float64
        return self.total(torch.tensor(values, dtype=wide).to(self.device, non_blocking=True))

    def gather(self, value: T) -> list[T]:
        return [value]

    def any(self, *flags: bool) -> list[bool]:
        return list(flags)

    def barrier(self) -> None:
        pass

    def close(self) -> None:
        pass
