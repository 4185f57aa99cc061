"""What a chat template may do: how much work and how much text, counted while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jinja2
from jinja2.utils import Cycler, Namespace

MOST_WORK = 2**26
MOST_LENGTH = 2**22
WORK_PER_CHARACTER = 64
LENGTH_PER_CHARACTER = 8
STEP = 64  # of work: a round of a loop
CALL = 512  # of work: as much time as eight rounds
ITEM = 16  # of weight: what an item adds to the characters in it
MOST_BITS = 2**16  # of a whole number
MOST_DEPTH = 200  # of lists in lists


class TooMuch(jinja2.TemplateError):
    """The template goes beyond its bounds."""


class Allowance:
    """What a template may still do, for a conversation of the weight `given` that is rendered so many `times`."""

    def __init__(self, given: int, times: int = 1) -> None:
        self.work = MOST_WORK + WORK_PER_CHARACTER * given * times
        self.length = MOST_LENGTH + LENGTH_PER_CHARACTER * given
        self.written = 0

    def spend(self, work: int) -> None:
        self.work -= work
        if self.work < 0:
            raise TooMuch("it takes too much work")

    def hold(self, length: int) -> None:
        if length > self.length:
            raise TooMuch(f"something is longer than {self.length:,} characters")

    def write(self, length: int) -> None:
        self.written += length
        self.hold(self.written)


_allowance: ContextVar[Allowance] = ContextVar("allowance")


def current() -> Allowance:
    """That of the rendering under way."""
    return _allowance.get()


@contextmanager
def allowing(allowance: Allowance) -> Iterator[None]:
    """Render with this allowance in the block."""
    token = _allowance.set(allowance)
    try:
        yield
    finally:
        _allowance.reset(token)


def weigh(value: Any, most: float = float("inf")) -> int:
    """About how many characters a value is when it is written out; TooMuch above `most`, or nested too deep."""
    weight, depth, level = 0, 0, [value]
    while level:
        inner: list[Any] = []
        for item in level:
            weight += ITEM
            if isinstance(item, str):
                weight += len(item)
            elif isinstance(item, int):
                if item.bit_length() > MOST_BITS:
                    raise TooMuch("a number has thousands of digits")
            elif isinstance(item, dict):
                inner.extend(item)
                inner.extend(item.values())
            elif isinstance(item, _COLLECTIONS):
                inner.extend(item)
            elif isinstance(item, range):
                weight += ITEM * len(item)
            elif isinstance(item, Cycler):
                inner.extend(item.items)
            elif isinstance(item, Namespace):
                inner.append(item._Namespace__attrs)
            if weight + len(inner) > most:
                raise TooMuch(f"something is longer than {most:,} characters")
        depth += 1
        if depth > MOST_DEPTH:
            raise TooMuch(f"lists are nested more than {MOST_DEPTH} deep")
        level = inner
    return weight


_COLLECTIONS: tuple = (list, tuple, set, frozenset, type({}.keys()), type({}.values()), type({}.items()))


def bounded(value: Any) -> Any:
    """The value, once it is paid for."""
    allowance = _allowance.get()
    if type(value) is str:  # most are, so this is the short way
        weight = ITEM + len(value)
        allowance.hold(weight)
    else:
        weight = weigh(value, allowance.length)
    allowance.spend(weight)
    return value


def step(written: int) -> None:
    """Begin a round of a loop, or write so many characters of the template's own."""
    allowance = _allowance.get()
    allowance.spend(STEP + written)
    allowance.write(written)


def tested(value: Any) -> Any:
    """The condition of a loop's filter, which is asked once for each item."""
    _allowance.get().spend(STEP)
    return value
