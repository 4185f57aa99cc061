"""Conversations to fine-tune on: every skill, small talk, stories, thinking, tools, in one or several turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from minimind.world.rng import Draw
from minimind.world.sample import LANGUAGES, Message, Sample, assistant, user
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


def told_story(draw: Draw, lang: str) -> Sample:
    """A request for a story, about anything, a person or an animal, and the story."""
    about = draw.pick(("any", "hero", "animal"))
    values = {"any": ("",), "hero": NAMES[lang], "animal": (EN if lang == "en" else ZH)["animal"]}
    x = draw.pick(values[about])
    text = story(draw, lang, **({} if about == "any" else {about: x}))
    question = draw.pick(STORY[lang][about]).format(x=x)
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


def several_turns(draw: Draw, lang: str) -> Sample:
    """Two to four turns about different things."""
    parts = [draw.weighted(TURNS)(draw, lang) for _ in range(draw.between(2, 4))]
    return Sample("mixed", lang, [message for part in parts for message in part.messages], parts[-1].gt)


# How often each kind of conversation comes. Arithmetic and rows of items need the most practice.
KINDS: dict[Callable[..., Sample], float] = {
    arithmetic.sample: 20,
    arithmetic.reasoned: 3,
    strings.sample: 20,
    strings.reasoned: 2,
    facts.sample: 12,
    translation.sample: 8,
    recall.sample: 12,
    tools.sample: 6,
    tools.unneeded: 1,
    identity.sample: 3,
    stopping.sample: 15,
    several_turns: 6,
    smalltalk.sample: 2,
    told_story: 2,
}


def conversations(seed: int) -> Iterator[dict[str, Any]]:
    """An endless stream of `{"conversations": […]}`."""
    draw = Draw(seed, "conversations")
    while True:
        lang = draw.pick(LANGUAGES)
        messages: list[Message] = draw.weighted(KINDS)(draw, lang).messages
        if messages[0]["role"] != "system" and draw.chance(0.1):
            messages = [{"role": "system", "content": draw.pick(SYSTEM[lang])}, *messages]
        yield {"conversations": messages}
