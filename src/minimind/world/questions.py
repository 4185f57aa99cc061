"""The held-out questions, and the proof that training never holds one of them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping

from minimind.errors import UserError
from minimind.tokenizer.messages import Message
from minimind.world.rng import Rng
from minimind.world.sample import LANGUAGES, Question, Sample
from minimind.world.skills import SKILLS

__all__ = ["Question", "assert_disjoint", "questions"]


def questions(
    seed: int, per_skill: int = 200, skills: Mapping[str, Callable[..., Sample]] = SKILLS
) -> list[Question]:
    """`per_skill` different questions of each skill, half of them in each language.

    Raises UserError where the world has not so many; it has at least 400 of each skill.
    """
    chosen = []
    for skill, sample in skills.items():
        for at, lang in enumerate(LANGUAGES):
            rng = Rng(seed, "questions", skill, lang)
            seen: dict[str, Sample] = {}
            wanted = (per_skill + at) // 2
            for _ in range(50 * wanted):
                if len(seen) == wanted:
                    break
                one = sample(rng, lang, True)
                seen.setdefault(_key(one.messages[:-1]), one)
            if len(seen) < wanted:
                raise UserError(f"the world has no {wanted} {lang} questions of {skill}; ask for fewer per skill")
            chosen += [Question.of(one) for one in seen.values()]
    return chosen


def normal(text: str) -> str:
    """The text without differences of width, case and spacing."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _key(messages: Iterable[Message]) -> str:
    """What the model is asked: everything that the user and the tools said."""
    return "\n".join(normal(message["content"]) for message in messages if message["role"] in ("user", "tool"))


def assert_disjoint(
    held_out: list[Question], conversations: Iterable[list[Message]] = (), texts: Iterable[str] = ()
) -> None:
    """Raise AssertionError if a held-out question stands in training conversations or pretraining texts.

    A conversation holds a question when all that was said up to one of its answers is the question, or when the
    turn just before the answer alone is. A text holds it when the question's words stand anywhere in it, and do not
    begin a longer row of items (`copy: 3 1 2` is not in `copy: 3 1 2 4`).
    """
    keys = {_key(question.prompt) for question in held_out}
    for messages in conversations:
        for i, message in enumerate(messages):
            if message["role"] == "assistant":
                for key in (_key(messages[:i]), _key(messages[i - 1 : i])):
                    assert key not in keys, f"a held-out question is in a training conversation: {key}"
    blob = "\n".join(normal(line) for text in texts for line in text.splitlines())
    for key in keys:
        if key in blob:
            inside = re.search(rf"(?<![a-z0-9]){re.escape(key)}(?! ?\w)", blob)
            assert inside is None, f"a held-out question is in a pretraining text: {key}"
