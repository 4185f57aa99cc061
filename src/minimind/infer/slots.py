"""Where the keys and values of an active request are: in a cache of its own during prefill, then in a slot.

A slot is a row in a group of slots of one length, which attend together. A request that outgrows its slot moves to
one twice as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from minimind.infer.network import Network
from minimind.infer.request import Request
from minimind.model.kv_cache import KVCache

SHORTEST = 64  # positions of a slot


@dataclass(eq=False)
class Prefill:
    """A request whose prompt is not whole in its cache yet: `done` positions are."""

    request: Request
    cache: KVCache
    done: int


class SlotGroup:
    """Slots of `length` positions: requests[i] has row i of the cache. Without any request there is no cache."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.cache: KVCache | None = None
        self.requests: list[Request] = []

    def add(self, request: Request, memory: torch.Tensor, network: Network) -> None:
        """memory  (L, positions, 2, K, C): the keys and values of the request so far"""
        row = len(self.requests)
        if self.cache is None:
            self.cache = network.cache(1, self.length)
        elif row == self.cache.rows:
            self.cache = self.cache.grown(2 * row)
        self.cache.memory[:, row, : memory.shape[1]] = memory
        self.requests.append(request)

    def memory(self, row: int) -> torch.Tensor:
        """(L, positions, 2, K, C): what row `row` holds; the next step adds the last token's."""
        assert self.cache is not None
        return self.cache.memory[:, row, : self.requests[row].length - 1]

    def clear(self, row: int) -> None:
        """Forget what may be no numbers: a masked position counts 0 times, and 0 times NaN is NaN."""
        assert self.cache is not None
        self.cache.memory[:, row].zero_()

    def remove(self, row: int) -> None:
        """The last row moves into its place."""
        if row < len(self.requests) - 1:
            last = self.memory(len(self.requests) - 1)
            assert self.cache is not None
            self.cache.memory[:, row, : last.shape[1]] = last
            self.requests[row] = self.requests[-1]
        self.requests.pop()
        if not self.requests:
            self.cache = None


class Slots:
    """The slots of all requests that decode, the group of the shortest first; none is longer than the context."""

    def __init__(self, context: int) -> None:
        self.context = context
        self.groups: list[SlotGroup] = []

    @property
    def requests(self) -> list[Request]:
        return [request for group in self.groups for request in group.requests]

    def add(self, request: Request, memory: torch.Tensor, network: Network) -> None:
        """Give a request one of the shortest slots that its next token fits into; `memory` as in SlotGroup."""
        while not self.groups or self.groups[-1].length < request.length:
            length = 2 * self.groups[-1].length if self.groups else SHORTEST
            self.groups.append(SlotGroup(min(length, self.context)))
        next(group for group in self.groups if group.length >= request.length).add(request, memory, network)

    def move_grown(self, network: Network) -> None:
        """Move requests that outgrew their slots to longer ones."""
        for group in list(self.groups):
            for row in reversed(range(len(group.requests))):
                if (request := group.requests[row]).length > group.length:
                    self.add(request, group.memory(row), network)
                    group.remove(row)

    def remove(self, leaves: Callable[[Request], bool]) -> Iterator[tuple[Request, torch.Tensor]]:
        """Take requests out, one after the other, each with a copy of its keys and values."""
        for group in self.groups:
            for row in reversed(range(len(group.requests))):
                if leaves(request := group.requests[row]):
                    memory = group.memory(row).clone()
                    if request.error is not None:
                        group.clear(row)
                    group.remove(row)
                    yield request, memory
