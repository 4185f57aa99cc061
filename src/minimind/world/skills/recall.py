"""Things the user says about themselves, asked for some turns later.

Two things are told at once; which two values come together is what is kept for evaluation.
"""

from __future__ import annotations

from minimind.tokenizer.messages import Message
from minimind.world.facts import article
from minimind.world.rng import Rng
from minimind.world.rng import held_out as is_held_out
from minimind.world.sample import Sample, assistant, user
from minimind.world.skills import arithmetic, facts, smalltalk, translation
from minimind.world.tables.geography import COUNTRIES
from minimind.world.tables.people import NAMES, PETS
from minimind.world.tables.words import CATEGORIES


def _values(lang: str) -> dict[str, tuple[str, ...]]:
    at = 1 if lang == "zh" else 0
    listed = {names[0]: tuple(row[at] for row in rows) for names, rows in CATEGORIES.items()}
    return {
        "name": tuple(NAMES[lang]),
        "pet": tuple(PETS[lang]),
        "colour": listed["colours"],
        "number": tuple(str(n) for n in range(10, 100)),
        "city": tuple(row[2 + at] for row in COUNTRIES),
        "fruit": listed["fruits"],
        "job": listed["jobs"],
    }


VALUES = {lang: _values(lang) for lang in ("en", "zh")}

# what is told, how it is asked for, the answer
TALK: dict[str, dict[str, tuple[tuple[str, ...], tuple[str, ...], str]]] = {
    "en": {
        "name": (
            ("my name is {v}", "I am called {v}", "you can call me {v}"),
            ("What is my name?", "Do you remember my name?", "What am I called?"),
            "Your name is {v}.",
        ),
        "pet": (
            ("my pet is called {v}", "the name of my pet is {v}", "I have a pet called {v}"),
            ("What is my pet called?", "What is the name of my pet?", "Do you remember the name of my pet?"),
            "Your pet is called {v}.",
        ),
        "colour": (
            ("my favourite colour is {v}", "the colour I like best is {v}", "I like the colour {v} best"),
            (
                "What is my favourite colour?",
                "Which colour do I like best?",
                "Do you remember my favourite colour?",
            ),
            "Your favourite colour is {v}.",
        ),
        "number": (
            ("my lucky number is {v}", "the number {v} brings me luck", "I have the lucky number {v}"),
            ("What is my lucky number?", "Which number brings me luck?", "Do you remember my lucky number?"),
            "Your lucky number is {v}.",
        ),
        "city": (
            ("I live in {v}", "my home is in {v}", "the city I live in is {v}"),
            ("Where do I live?", "Which city do I live in?", "Do you remember where I live?"),
            "You live in {v}.",
        ),
        "fruit": (
            (
                "my favourite fruit is the {v}",
                "the fruit I like best is the {v}",
                "of all fruits I like the {v} best",
            ),
            ("What is my favourite fruit?", "Which fruit do I like best?", "Do you remember my favourite fruit?"),
            "Your favourite fruit is the {v}.",
        ),
        "job": (
            ("I work as {a}", "my job is {v}", "I have the job of {v}"),
            ("What is my job?", "What do I work as?", "Do you remember my job?"),
            "Your job is {v}.",
        ),
    },
    "zh": {
        "name": (
            ("我叫{v}", "我的名字是{v}", "你可以叫我{v}"),
            ("我叫什么名字？", "我叫什么？", "你还记得我的名字吗？"),
            "你叫{v}。",
        ),
        "pet": (
            ("我的宠物叫{v}", "我有一只宠物叫{v}", "我家宠物的名字是{v}"),
            ("我的宠物叫什么？", "我家宠物叫什么名字？", "你还记得我的宠物叫什么吗？"),
            "你的宠物叫{v}。",
        ),
        "colour": (
            ("我最喜欢的颜色是{v}", "颜色里我最喜欢{v}", "我最爱{v}这种颜色"),
            ("我最喜欢什么颜色？", "我最喜欢的颜色是什么？", "你还记得我喜欢的颜色吗？"),
            "你最喜欢的颜色是{v}。",
        ),
        "number": (
            ("我的幸运数字是{v}", "数字{v}给我带来好运", "{v}是我的幸运数字"),
            ("我的幸运数字是多少？", "哪个数字给我带来好运？", "你还记得我的幸运数字吗？"),
            "你的幸运数字是{v}。",
        ),
        "city": (
            ("我住在{v}", "我的家在{v}", "我家住{v}"),
            ("我住在哪里？", "我的家在哪座城市？", "你还记得我住在哪里吗？"),
            "你住在{v}。",
        ),
        "fruit": (
            ("我最喜欢的水果是{v}", "水果里我最爱吃{v}", "我最爱吃的水果是{v}"),
            ("我最喜欢什么水果？", "我最爱吃的水果是什么？", "你还记得我喜欢的水果吗？"),
            "你最喜欢的水果是{v}。",
        ),
        "job": (
            ("我是一名{v}", "我的职业是{v}", "我的工作是当{v}"),
            ("我的职业是什么？", "我做什么工作？", "你还记得我的职业吗？"),
            "你的职业是{v}。",
        ),
    },
}
JOIN = {
    "en": ("{0} and {1}.", "{0}, and {1}.", "Hello, {0} and {1}."),
    "zh": ("{0}，{1}。", "{0}，而且{1}。", "你好，{0}，{1}。"),
}
NOTED = {"en": "OK, I will remember that.", "zh": "好的，我记住了。"}
BETWEEN = {facts: 3, translation: 2, arithmetic: 2, smalltalk: 2}


def pairs_to_tell(rng: Rng, lang: str, kept: bool = False) -> list[tuple[str, str]]:
    """Two different (what, value) pairs that are told together."""
    while True:
        pairs = [(what, rng.pick(VALUES[lang][what])) for what in rng.several(tuple(VALUES[lang]), 2)]
        if is_held_out("told", *sorted(f"{what}={value}" for what, value in pairs)) == kept:
            return pairs


def tell(rng: Rng, lang: str, pairs: list[tuple[str, str]]) -> str:
    """One sentence that tells both."""
    said = [rng.pick(TALK[lang][what][0]).format(v=value, a=article(value)) for what, value in pairs]
    sentence = rng.pick(JOIN[lang]).format(*said)
    return sentence[0].upper() + sentence[1:]


def sample(rng: Rng, lang: str, held_out: bool = False) -> Sample:
    pairs = pairs_to_tell(rng, lang, held_out)
    messages: list[Message] = [user(tell(rng, lang, pairs)), assistant(NOTED[lang])]
    for _ in range(rng.between(1, 2)):
        messages += rng.weighted(BETWEEN).sample(rng, lang).messages
    what, value = rng.pick(pairs)
    _, questions, form = TALK[lang][what]
    answer = form.format(v=value)
    messages += [user(rng.pick(questions)), assistant(answer)]
    return Sample("recall", lang, messages, [answer, value])
