"""Tools that no training of the world ever offers: can a model call what it reads of for the first time?"""

from __future__ import annotations

import json

from minimind.tokenizer.messages import Message
from minimind.world.rng import Rng
from minimind.world.skills.tools import TOOLS, MockTool
from minimind.world.tables.animals import ANIMALS
from minimind.world.tables.geography import COUNTRIES
from minimind.world.tables.people import NAMES

NEW_TOOLS = (
    MockTool(
        "get_population",
        "Population of a country",
        ("country", "string"),
        lambda rng, lang: rng.pick(COUNTRIES)[1 if lang == "zh" else 0],
        lambda rng, lang, a: {"millions": rng.between(2, 99)},
        {
            "en": ("What is the population of {a}?", "How many people live in {a}?"),
            "zh": ("{a}有多少人口？", "查一下{a}的人口。"),
        },
        {"en": "{a} has {millions} million people.", "zh": "{a}有 {millions} 百万人。"},
    ),
    MockTool(
        "get_rain",
        "Rain in a city",
        ("city", "string"),
        lambda rng, lang: rng.pick(COUNTRIES)[3 if lang == "zh" else 2],
        lambda rng, lang, a: {"millimeters": rng.between(11, 99)},
        {
            "en": ("How much rain falls in {a}?", "Tell me how much it rains in {a}."),
            "zh": ("{a}下多少雨？", "查一下{a}的雨量。"),
        },
        {"en": "{millimeters} millimeters of rain fall in {a}.", "zh": "{a}的雨量是 {millimeters} 毫米。"},
    ),
    MockTool(
        "find_room",
        "Room of a person",
        ("name", "string"),
        lambda rng, lang: rng.pick(NAMES[lang]),
        lambda rng, lang, a: {"room": rng.between(11, 99)},
        {
            "en": ("In which room is {a}?", "Find the room of {a}."),
            "zh": ("{a}在哪个房间？", "查一下{a}的房间。"),
        },
        {"en": "{a} is in room {room}.", "zh": "{a}在 {room} 号房间。"},
    ),
    MockTool(
        "get_speed",
        "Speed of an animal",
        ("animal", "string"),
        lambda rng, lang: rng.pick(ANIMALS)[1 if lang == "zh" else 0],
        lambda rng, lang, a: {"speed": rng.between(2, 99)},
        {
            "en": ("How fast is the {a}?", "Tell me the speed of the {a}."),
            "zh": ("{a}跑多快？", "查一下{a}的速度。"),
        },
        {"en": "The speed of the {a} is {speed}.", "zh": "{a}的速度是 {speed}。"},
    ),
    MockTool(
        "book_table",
        "Book a table for some people",
        ("people", "integer"),
        lambda rng, lang: rng.between(2, 40),
        lambda rng, lang, a: {"table": rng.between(41, 99)},
        {
            "en": ("Book a table for {a} people.", "I need a table for {a} people."),
            "zh": ("订一张 {a} 人的桌子。", "我要 {a} 个人的桌子。"),
        },
        {"en": "Table {table} is booked.", "zh": "订好了 {table} 号桌。"},
    ),
    MockTool(
        "start_timer",
        "Start a timer of some minutes",
        ("minutes", "integer"),
        lambda rng, lang: rng.between(2, 90),
        lambda rng, lang, a: {"timer": rng.between(101, 999)},
        {
            "en": ("Start a timer of {a} minutes.", "Count down {a} minutes."),
            "zh": ("开始 {a} 分钟的计时。", "倒计时 {a} 分钟。"),
        },
        {"en": "Timer {timer} is running.", "zh": "{timer} 号计时器开始了。"},
    ),
)


def offer(rng: Rng) -> tuple[MockTool, Message]:
    """One of the tools, and a system message that offers it beside one that a model may know."""
    tool = rng.pick(NEW_TOOLS)
    schemas = [one.schema for one in rng.several([tool, rng.pick(TOOLS)], 2)]
    return tool, {"role": "system", "content": "", "tools": json.dumps(schemas)}


def called(rng: Rng, lang: str) -> list[Message]:
    """A tool is asked for, called, and its response put into words."""
    tool, system = offer(rng)
    value = tool.value(rng, lang)
    result = tool.result(rng, lang, value)
    return [system, *tool.asked(rng, lang, value), *tool.answered(lang, value, result)]
