"""Tool use over several turns: questions to practice it by, and conversations that show it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from minimind.world.chats import conversations
from minimind.world.rng import Rng
from minimind.world.sample import LANGUAGES, Sample, assistant
from minimind.world.skills.chains import SKILLS

REPLAY = 0.5
"""share of other conversations among those that show chains, so that what a model knows already is not forgotten"""


def agent_prompts(seed: int) -> Iterator[dict[str, Any]]:
    """An endless stream of questions in the published schema for agents: the tools on the system message, the last
    turn empty, and in `gt` what the answer must state; `source` is the kind of chain."""
    for number in count():
        one = _sample(Rng(seed, "agent", number))
        yield {"conversations": [*one.messages[:-1], assistant("")], "gt": one.gt, "source": one.skill}


def agent_conversations(seed: int) -> Iterator[dict[str, Any]]:
    """An endless stream of `{"conversations": […]}`, half of them chains of calls."""
    others = conversations(seed)
    for number in count():
        rng = Rng(seed, "agent conversations", number)
        yield next(others) if rng.chance(REPLAY) else {"conversations": _sample(rng).demonstration}


def _sample(rng: Rng) -> Sample:
    return SKILLS[rng.pick(list(SKILLS))](rng, rng.pick(LANGUAGES))
