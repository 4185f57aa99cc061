"""Facts of the world, asked in many ways."""

from __future__ import annotations

from minimind.world.facts import FACTS
from minimind.world.rng import Rng
from minimind.world.sample import Sample, assistant, user
from minimind.world.skills.openings import opening


def sample(rng: Rng, lang: str, held_out: bool = False) -> Sample:
    fact = rng.pick(FACTS[lang])
    question = opening(rng, lang) + rng.pick(fact.held_out if held_out else fact.questions)
    return Sample("facts", lang, [user(question), assistant(fact.answer)], [fact.answer, fact.value])
