"""Who the model is: one true answer per thing asked, many ways to ask."""

from __future__ import annotations

from minimind.world.rng import Draw
from minimind.world.sample import Sample, assistant, user
from minimind.world.skills.openings import opening
from minimind.world.tables.identity import IDENTITY


def sample(draw: Draw, lang: str, held_out: bool = False) -> Sample:
    answer, asked, kept = draw.pick(IDENTITY[lang])
    question = opening(draw, lang) + draw.pick(kept if held_out else asked)
    return Sample("identity", lang, [user(question), assistant(answer)], [answer], check="exact")
