"""Short stories from a grammar of plots."""

from __future__ import annotations

from minimind.world.rng import Rng
from minimind.world.tables import stories_en, stories_zh
from minimind.world.tables.people import NAMES

GRAMMARS = {"en": stories_en, "zh": stories_zh}
MEN, WOMEN = {"he": "he", "him": "him", "his": "his"}, {"he": "she", "him": "her", "his": "her"}


def story(rng: Rng, lang: str, hero: str | None = None, animal: str | None = None) -> str:
    """A story of about six sentences, about the hero or the animal if one is given."""
    grammar = GRAMMARS[lang]
    plot = "hungry animal" if animal else rng.pick(tuple(grammar.PLOTS))
    names = [name for name in rng.several(NAMES[lang], 3) if name != hero]
    slots = {slot: rng.pick(values) for slot, values in grammar.SLOTS.items()}
    slots |= {"hero": hero or names[0], "friend": names[1]}
    if animal:
        slots["animal"] = animal
    slots |= WOMEN if NAMES[lang].index(slots["hero"]) % 2 else MEN
    beats = [rng.pick(beat).format(**slots) for beat in grammar.PLOTS[plot]]
    return (" " if lang == "en" else "").join(beats)
