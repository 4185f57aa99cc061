"""Where a training runs: one device, or several processes with one each. A short file for each way."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from minimind.train.strategies.ddp import DDP
from minimind.train.strategies.single import SingleDevice

T = TypeVar("T")


class Strategy(Protocol):
    """What the step and the loop ask of where they run.

    Every process makes the same steps, each on its share of every batch.
    """

    device: torch.device
    rank: int
    world: int

    @property
    def is_main(self) -> bool:
        """Whether this process speaks and writes for all."""

    def prepare(self, module: nn.Module) -> nn.Module:
        """Make a module computable here; every process starts from the same parameters."""

    def micro_batch(self, module: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Around forward and backward of a micro-batch; with the `last` of a step gradients are summed."""

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of the loss, which is this process's part of a sum over all."""

    def grad_norm(self, gradients: list[torch.Tensor]) -> torch.Tensor:
        """The norm of the whole gradient."""

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Update the parameters."""

    def state_dict(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """The optimizer's whole state, wherever its parts are; asked by all processes."""

    def load_state_dict(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""

    def save(self, write: Callable[[], object]) -> None:
        """Let one process write what is common to all; the others wait for it."""

    def total(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over all processes, without asking the device."""

    def sum(self, values: list[float]) -> torch.Tensor:
        """Sums over all processes, (len(values),) on the device in float64 (float32 on MPS)."""

    def gather(self, value: T) -> list[T]:
        """What each process has, in the order of their ranks; anything that pickles."""

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, whether any process has it: all must save or stop after the same step."""

    def barrier(self) -> None:
        """Wait until every process is here."""

    def close(self) -> None:
        """Leave the group of processes."""


def pick_strategy(device: torch.device) -> SingleDevice:
    """DDP where torchrun started several processes, else the device alone."""
    return DDP(device) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else SingleDevice(device)
