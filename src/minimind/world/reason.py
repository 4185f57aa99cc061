"""Conversations to learn reasoning from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from minimind.world.chats import conversations
from minimind.world.rng import Rng
from minimind.world.sample import LANGUAGES, Sample
from minimind.world.skills import reasoning

KINDS: dict[Callable[..., Sample], float] = {reasoning.three_digits: 0.6, reasoning.two_steps: 0.4}
REPLAY = 0.5
"""share of other conversations, so that what a model knows already is not forgotten"""


def reasoned(seed: int) -> Iterator[dict[str, Any]]:
    """An endless stream of `{"conversations": […]}`, most of them with thinking."""
    rng = Rng(seed, "reason")
    others = (one for one in conversations(seed) if not reasoning.holds_kept(str(one)))
    while True:
        if rng.chance(REPLAY):
            yield next(others)
        else:
            yield {"conversations": rng.weighted(KINDS)(rng, rng.pick(LANGUAGES)).messages}
