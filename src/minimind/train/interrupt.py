"""Ctrl-C and SIGTERM as a wish that the loop grants at the next whole step."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class Interrupt:
    """In a `with` block, the first signal sets `signal`; a second Ctrl-C stops at once as usual."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __enter__(self) -> Interrupt:
        self._previous = {}
        if threading.current_thread() is threading.main_thread():  # only there may handlers be set
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._remember)
        return self

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
