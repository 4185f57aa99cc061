"""Who the model is: one true answer per thing asked, many ways to ask."""

from __future__ import annotations

from minimind.world.rng import Rng
from minimind.world.sample import Sample, assistant, user
from minimind.world.skills.openings import opening
from minimind.world.tables.identity import IDENTITY


def sample(rng: Rng, lang: str, held_out: bool = False) -> Sample:
    answer, questions, kept = rng.pick(IDENTITY[lang])
    question = opening(rng, lang) + rng.pick(kept if held_out else questions)
    return Sample("identity", lang, [user(question), assistant(answer)], [answer], check="exact")
