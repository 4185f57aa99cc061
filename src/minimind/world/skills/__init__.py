"""The skills that are evaluated.

Each module's `sample(rng, lang, held_out)` makes one conversation and its right answer: for training, or
(held_out) from what is kept for evaluation only.
"""

from minimind.world.skills import arithmetic, facts, identity, recall, stopping, strings, tools, translation

SKILLS = {
    "identity": identity.sample,
    "facts": facts.sample,
    "translation": translation.sample,
    "arithmetic": arithmetic.sample,
    "strings": strings.sample,
    "recall": recall.sample,
    "tools": tools.sample,
    "stopping": stopping.sample,
}
