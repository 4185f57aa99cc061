"""One process per device, each with the whole model (PyTorch's DistributedDataParallel), started by torchrun."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from minimind.errors import WorkFailed
from minimind.train.strategies.single import SingleDevice, T
from minimind.util.system import end_with_parent


class DDP(SingleDevice):
    """Gradients are summed over all processes once a step, while the last backward pass still runs."""

    def __init__(self, device: torch.device, keep_memory: bool = True) -> None:
        super().__init__(device, keep_memory)
        self.rank, self.world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        if not dist.is_initialized():
            if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
                end_with_torchrun()
            if device.type == "cuda":
                torch.cuda.set_device(device)
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")

    def prepare(self, module: nn.Module) -> nn.Module:
        return nn.parallel.DistributedDataParallel(module, broadcast_buffers=False)  # they are equal everywhere

    def micro_batch(self, module: Any, last: bool) -> AbstractContextManager[None]:
        return nullcontext() if last else module.no_sync()

    def backward(self, loss: torch.Tensor) -> None:
        (loss * self.world).backward()  # for DDP averages

    def total(self, tensor: torch.Tensor) -> torch.Tensor:
        self._together(dist.all_reduce, tensor)
        return tensor

    def gather(self, value: T) -> list[T]:
        values: list[Any] = [None] * self.world
        self._together(dist.all_gather_object, values, value)
        return values

    def any(self, *flags: bool) -> list[bool]:
        return [count > 0 for count in self.sum([float(flag) for flag in flags]).tolist()]

    def barrier(self) -> None:
        self._together(dist.barrier)

    def _together(self, operation: Callable[..., Any], *arguments: Any) -> None:
        try:
            operation(*arguments)
        except RuntimeError:
            raise WorkFailed("another process of this training has ended; it said why") from None

    def close(self) -> None:
        if dist.is_initialized():
            gc.collect()  # the wrapped module refers to itself, and to the group: neither is to outlive the other
            dist.destroy_process_group()


def end_with_torchrun() -> None:
    """Let this process end soon after the torchrun that started it; WorkFailed where that has been killed already.

    Processes meet at torchrun's address, and would wait there for half an hour.
    """
    end_with_parent()
    try:
        socket.create_connection((os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])), 30).close()
    except OSError as error:
        raise WorkFailed(f"torchrun, which started this process, does not answer ({error})") from None
