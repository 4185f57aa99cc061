"""Conversations to fine-tune on: every skill, small talk, stories, thinking, tools, in one or several turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from minimind.tokenizer.messages import Message
from minimind.world.rng import Rng
from minimind.world.sample import LANGUAGES, Sample, assistant, user
from minimind.world.skills import (
    arithmetic,
    facts,
    identity,
    recall,
    smalltalk,
    stopping,
    strings,
    tools,
    translation,
)
from minimind.world.stories import story
from minimind.world.tables.people import NAMES
from minimind.world.tables.stories_en import SLOTS as EN
from minimind.world.tables.stories_zh import SLOTS as ZH

SYSTEM = {
    "en": ("You are MiniMind, a helpful assistant.", "You are a helpful assistant.", "Answer briefly and truly."),
    "zh": ("你是 MiniMind，一个乐于助人的助手。", "你是一个有用的助手。", "请简短而真实地回答。"),
}
STORY = {
    "en": {
        "any": ("Tell me a story.", "Tell me a short story.", "Can you tell a story?", "I want to hear a story."),
        "hero": ("Tell me a story about {x}.", "A short story about {x}, please.", "Write a story about {x}."),
        "animal": (
            "Tell me a story about a {x}.",
            "A short story with a {x}, please.",
            "Write a story about a {x}.",
        ),
    },
    "zh": {
        "any": ("给我讲个故事。", "讲一个小故事吧。", "你会讲故事吗？", "我想听故事。"),
        "hero": ("讲一个关于{x}的故事。", "写一个{x}的小故事。", "我想听{x}的故事。"),
        "animal": ("讲一个关于{x}的故事。", "写一个{x}的小故事。", "我想听{x}的故事。"),
    },
}


def told_story(rng: Rng, lang: str) -> Sample:
    """A request for a story, about anything, a person or an animal, and the story."""
    about = rng.pick(("any", "hero", "animal"))
    values = {"any": ("",), "hero": NAMES[lang], "animal": (EN if lang == "en" else ZH)["animal"]}
    x = rng.pick(values[about])
    text = story(rng, lang, **({} if about == "any" else {about: x}))
    question = rng.pick(STORY[lang][about]).format(x=x)
    return Sample("story", lang, [user(question), assistant(text)], [text])


# What may stand in a conversation of several turns.
TURNS: dict[Callable[..., Sample], float] = {
    arithmetic.sample: 4,
    strings.sample: 4,
    facts.sample: 4,
    translation.sample: 3,
    identity.sample: 1,
    stopping.sample: 1,
    smalltalk.sample: 2,
}


def several_turns(rng: Rng, lang: str) -> Sample:
    """Two to four turns about different things."""
    parts = [rng.weighted(TURNS)(rng, lang) for _ in range(rng.between(2, 4))]
    return Sample("mixed", lang, [message for part in parts for message in part.messages], parts[-1].gt)


# How often each kind of conversation comes. Arithmetic, rows of items and stopping need the most practice.
KINDS: dict[Callable[..., Sample], float] = {
    arithmetic.sample: 20,
    arithmetic.reasoned: 3,
    strings.sample: 20,
    strings.reasoned: 2,
    facts.sample: 12,
    translation.sample: 8,
    recall.sample: 12,
    tools.sample: 7,
    tools.unneeded: 1,
    identity.sample: 3,
    stopping.sample: 18,
    several_turns: 6,
    smalltalk.sample: 2,
    told_story: 2,
}


def conversations(seed: int) -> Iterator[dict[str, Any]]:
    """An endless stream of `{"conversations": […]}`, each drawn by itself, whatever the others are."""
    for number in count():
        rng = Rng(seed, "conversations", number)
        lang = rng.pick(LANGUAGES)
        messages: list[Message] = rng.weighted(KINDS)(rng, lang).messages
        if messages[0]["role"] != "system" and rng.chance(0.1):
            messages = [{"role": "system", "content": rng.pick(SYSTEM[lang])}, *messages]
        yield {"conversations": messages}
