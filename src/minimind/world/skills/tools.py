"""Calling tools: choose the tool, fill in its argument, then say what it answered.

Tools have one argument and short schemas, since every conversation carries them whole. What is kept for evaluation
is an argument (a tenth of each tool's values), so a kept argument is never seen with its tool in training.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minimind.tokenizer.messages import Message
from minimind.world.rng import Rng
from minimind.world.rng import held_out as is_held_out
from minimind.world.sample import Sample, assistant, user
from minimind.world.skills import facts
from minimind.world.tables.geography import COUNTRIES
from minimind.world.tables.people import NAMES
from minimind.world.tables.words import CATEGORIES

WEATHER = {
    "en": ("sunny", "cloudy", "rainy", "snowy", "windy", "foggy"),
    "zh": ("晴", "多云", "下雨", "下雪", "刮风", "有雾"),
}
OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "*": operator.mul,
    "+": operator.add,
    "-": operator.sub,
    "/": operator.truediv,
}
GOODS = ("fruits", "vegetables", "foods", "drinks", "pieces of clothing", "pieces of furniture", "things at school")


def _clock(rng: Rng) -> str:
    return f"{rng.between(0, 23):02d}:{rng.between(0, 59):02d}"


def _city(rng: Rng, lang: str) -> str:
    return rng.pick(COUNTRIES)[3 if lang == "zh" else 2]


def _goods(rng: Rng, lang: str) -> str:
    rows = [row for names, rows in CATEGORIES.items() if names[0] in GOODS for row in rows]
    return rng.pick(rows)[1 if lang == "zh" else 0]


@dataclass(frozen=True)
class MockTool:
    """A tool that the model learns to call: `value` draws its argument (a name and a JSON type), `result` what it
    returns for one; `requests` and `answers` name the argument `a` and the returned fields."""

    name: str
    description: str
    argument: tuple[str, str]
    value: Callable[[Rng, str], Any]
    result: Callable[[Rng, str, Any], dict[str, Any]]
    requests: dict[str, tuple[str, ...]]
    answers: dict[str, str]

    @property
    def schema(self) -> dict[str, Any]:
        name, kind = self.argument
        parameters = {"type": "object", "properties": {name: {"type": kind}}}
        function = {"name": self.name, "description": self.description, "parameters": parameters}
        return {"type": "function", "function": function}

    def asked(self, rng: Rng, lang: str, value: Any) -> list[Message]:
        """The messages in which it is asked for with an argument, and called."""
        call = json.dumps([{"name": self.name, "arguments": {self.argument[0]: value}}], ensure_ascii=False)
        return [user(rng.pick(self.requests[lang]).format(a=value)), assistant("", tool_calls=call)]

    def answered(self, lang: str, value: Any, result: dict[str, Any]) -> list[Message]:
        """The messages in which it responds, and the model puts that into words."""
        response = {"role": "tool", "content": json.dumps(result, ensure_ascii=False)}
        return [response, assistant(self.answers[lang].format(a=value, **result))]


def whole(rng: Rng, low: int, high: int) -> str:
    """A whole number of `low` to `high` digits, each length as often as another."""
    digits = rng.between(low, high)
    return str(rng.between(10 ** (digits - 1), 10**digits - 1))


def _expression(rng: Rng, lang: str) -> str:
    """Two numbers and an operator, mostly `*`; of a sum or difference the second is above 99, since a tenth of the
    smaller ones is kept for evaluation. (A tenth of the longer ones is kept from whoever learns to reason: see
    world/reason.py.)"""
    sign = rng.weighted({"*": 6, "+": 2, "-": 2, "/": 1})
    x, y = whole(rng, 1, 5), whole(rng, 3 if sign in "+-" else 1, 4)
    if rng.chance(0.1):
        x += f".{rng.between(1, 9)}"
    return f"{x} {sign} {y}" if rng.chance(0.8) else f"{x}{sign}{y}"


def _calculate(rng: Rng, lang: str, expression: str) -> dict[str, Any]:
    """The result as the built-in `calculate` gives it: of a fraction at most twelve digits."""
    x, sign, y = re.split(r" ?([*/+-]) ?", expression)
    value = OPERATORS[sign](float(x) if "." in x else int(x), int(y))
    if isinstance(value, float):
        value = float(f"{value:.12g}")
    return {"result": int(value) if value == int(value) else value}


TOOLS = (
    MockTool(
        "get_weather",
        "Weather of a city",
        ("city", "string"),
        _city,
        lambda rng, lang, a: {"weather": rng.pick(WEATHER[lang]), "degrees": rng.between(-12, 39)},
        {
            "en": (
                "What is the weather in {a}?",
                "How is the weather in {a} today?",
                "Tell me the weather in {a}.",
            ),
            "zh": ("{a}的天气怎么样？", "今天{a}天气如何？", "查一下{a}的天气。"),
        },
        {"en": "It is {weather} in {a}, {degrees} degrees.", "zh": "{a}天气{weather}，{degrees} 度。"},
    ),
    MockTool(
        "get_time",
        "Time in a city",
        ("city", "string"),
        _city,
        lambda rng, lang, a: {"time": _clock(rng)},
        {
            "en": ("What time is it in {a}?", "Tell me the time in {a}.", "How late is it in {a} now?"),
            "zh": ("{a}现在几点？", "查一下{a}的时间。", "现在{a}是什么时间？"),
        },
        {"en": "It is {time} in {a}.", "zh": "{a}现在是 {time}。"},
    ),
    MockTool(
        "calculate",
        "Work out an expression",
        ("expression", "string"),
        _expression,
        _calculate,
        {
            "en": ("What is {a}?", "Calculate {a}.", "How much is {a}?"),
            "zh": ("{a} 等于多少？", "计算 {a}。", "算一算 {a}。"),
        },
        {"en": "{a} = {result}", "zh": "{a} = {result}"},
    ),
    MockTool(
        "get_price",
        "Price of a thing",
        ("item", "string"),
        _goods,
        lambda rng, lang, a: {"price": int(whole(rng, 1, 5))},
        {
            "en": ('What is the price of "{a}"?', 'How much does "{a}" cost?', 'Tell me the price of "{a}".'),
            "zh": ("“{a}”多少钱？", "“{a}”的价格是多少？", "查一下“{a}”的价格。"),
        },
        {"en": 'The price of "{a}" is {price}.', "zh": "“{a}”的价格是 {price}。"},
    ),
    MockTool(
        "set_alarm",
        "Set an alarm",
        ("time", "string"),
        lambda rng, lang: _clock(rng),
        lambda rng, lang, a: {"alarm": a, "id": int(whole(rng, 2, 5))},
        {
            "en": ("Set an alarm for {a}.", "Wake me up at {a}.", "I need an alarm at {a}."),
            "zh": ("设一个 {a} 的闹钟。", "请在 {a} 叫醒我。", "我要一个 {a} 的闹钟。"),
        },
        {"en": "Alarm {id} is set for {alarm}.", "zh": "{id} 号闹钟设在 {alarm}。"},
    ),
    MockTool(
        "find_phone",
        "Phone number of a person",
        ("name", "string"),
        lambda rng, lang: rng.pick(NAMES[lang]),
        lambda rng, lang, a: {"phone": whole(rng, 4, 11)},
        {
            "en": ("What is the phone number of {a}?", "Find the phone number of {a}.", "How can I call {a}?"),
            "zh": ("{a}的电话号码是多少？", "查一下{a}的电话。", "我怎么打电话给{a}？"),
        },
        {"en": "The phone number of {a} is {phone}.", "zh": "{a}的电话号码是 {phone}。"},
    ),
    MockTool(
        "roll_dice",
        "Roll a die",
        ("sides", "integer"),
        lambda rng, lang: rng.between(4, 999),
        lambda rng, lang, a: {"value": rng.between(1, a)},
        {
            "en": (
                "Roll a die with {a} sides.",
                "Throw a die with {a} sides.",
                "I need a roll of a die with {a} sides.",
            ),
            "zh": ("掷一个 {a} 面的骰子。", "扔一个 {a} 面骰子。", "帮我掷 {a} 面的骰子。"),
        },
        {"en": "The die shows {value}.", "zh": "骰子掷出了 {value}。"},
    ),
)
# Whose results vary the most is asked for the most.
ASKED = (*TOOLS, *[tool for tool in TOOLS if tool.name == "calculate"] * 2)
SCHEMAS = {tool.name: json.dumps(tool.schema) for tool in TOOLS}


def offer(rng: Rng, tool: MockTool, others: int) -> dict[str, str]:
    """A system message that offers the tool among others (none or one)."""
    offered = [tool, *rng.several([other for other in TOOLS if other is not tool], others)]
    schemas = ", ".join(SCHEMAS[one.name] for one in rng.several(offered, len(offered)))
    return {"role": "system", "content": "", "tools": f"[{schemas}]"}


def _request(rng: Rng, lang: str, tool: MockTool, kept: bool) -> tuple[Any, list[Message]]:
    """An argument of the tool, and the messages in which it is asked for and called."""
    while True:
        value = tool.value(rng, lang)
        if is_held_out("tool", tool.name, value) == kept:
            break
    return value, tool.asked(rng, lang, value)


def _call(rng: Rng, lang: str, kept: bool) -> Sample:
    """Two tools are offered; the conversation ends with the call."""
    tool = rng.pick(ASKED)
    _, asked = _request(rng, lang, tool, kept)
    call = json.dumps(json.loads(asked[-1]["tool_calls"])[0], ensure_ascii=False)
    return Sample("tools", lang, [offer(rng, tool, others=1), *asked], [call], check="tool_call")


def _answer(rng: Rng, lang: str, kept: bool) -> Sample:
    """One tool is offered, called, and its response put into words, all of whose values the answer must state; half
    of the time that is the second question."""
    tool = rng.pick(ASKED)
    messages = [offer(rng, tool, others=0)]
    for held_out in (False, kept) if rng.chance(0.5) else (kept,):
        value, asked = _request(rng, lang, tool, held_out)
        result = tool.result(rng, lang, value)
        messages += [*asked, *tool.answered(lang, value, result)]
    answer = messages[-1]["content"]
    stated = [str(one) for one in {"argument": value, **result}.values() if str(one) in answer]
    return Sample("tools", lang, messages, stated, check="states")


def sample(rng: Rng, lang: str, held_out: bool = False) -> Sample:
    return rng.pick((_call, _answer))(rng, lang, held_out)


def unneeded(rng: Rng, lang: str) -> Sample:
    """A tool is offered, but the question needs none (training only)."""
    plain = facts.sample(rng, lang)
    return Sample("tools", lang, [offer(rng, rng.pick(TOOLS), others=0), *plain.messages], plain.gt)
