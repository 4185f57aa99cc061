"""Chains of tool calls: what one tool answers, the next is asked with.

The tools are those of `tools`, one call of which a model knows from there. What they answer here is decided by the
question that they are called for: in one question a thing has one price, in the next another, so nothing can be
known without a call. What is kept for evaluation is a pair of arguments; each of the two is trained on with others.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from minimind.world.rng import Rng
from minimind.world.rng import held_out as is_held_out
from minimind.world.sample import Sample, assistant, user
from minimind.world.skills.reasoning import is_kept
from minimind.world.skills.tools import SCHEMAS, TOOLS, MockTool
from minimind.world.tables.people import NAMES

BY_NAME = {tool.name: tool for tool in TOOLS}
Call = tuple[MockTool, Any, dict[str, Any]]
"""a tool, its argument and its result"""


@dataclass(frozen=True)
class Kind:
    """A kind of chain.

    asked   by language the wordings, with the arguments `a` and `b`
    a, b    the tool whose argument it is, or how it is drawn
    calls   each tool with its argument, made of `a`, `b` and the results so far: `0[price]` is the first one's
    """

    asked: dict[str, tuple[str, ...]]
    a: str
    b: str | Callable[[Rng, str], Any]
    calls: tuple[tuple[str, str], ...]


def _times(rng: Rng, lang: str) -> int:
    return rng.between(2, 99)


KINDS = {
    "price_times": Kind(
        {
            "en": (
                'How much does "{a}" cost * {b}?',
                'What does "{a}" cost * {b}?',
                'How much does "{a}" cost? Calculate that * {b}.',
            ),
            "zh": ("“{a}”多少钱？乘以 {b} 等于多少？", "“{a}”多少钱乘以 {b}？", "“{a}” * {b} 多少钱？"),
        },
        *("get_price", _times),
        (("get_price", "{a}"), ("calculate", "{0[price]} * {b}")),
    ),
    "price_sum": Kind(
        {
            "en": (
                'How much does "{a}" cost + "{b}"?',
                'How much does "{a}" + "{b}" cost?',
                'How much is "{a}" + "{b}"?',
            ),
            "zh": (
                "“{a}”多少钱 + “{b}”多少钱？",
                "“{a}”多少钱？加“{b}”等于多少？",
                "“{a}”多少钱？“{b}”多少钱？加起来等于多少？",
            ),
        },
        *("get_price", "get_price"),
        (("get_price", "{a}"), ("get_price", "{b}"), ("calculate", "{0[price]} + {1[price]}")),
    ),
    "dice_times": Kind(
        {
            "en": (
                "Roll a die with {a} sides. How much is that * {b}?",
                "Throw a die with {a} sides. Calculate that * {b}.",
                "I need a roll of a die with {a} sides * {b}.",
            ),
            "zh": (
                "掷一个 {a} 面的骰子。乘以 {b} 等于多少？",
                "扔一个 {a} 面骰子，乘以 {b} 等于多少？",
                "帮我掷 {a} 面的骰子，乘以 {b} 等于多少？",
            ),
        },
        *("roll_dice", _times),
        (("roll_dice", "{a}"), ("calculate", "{0[value]} * {b}")),
    ),
    "time_alarm": Kind(
        {
            "en": (
                "Tell me the time in {a}. Wake up {b} at that time.",
                "What time is it in {a}? Set an alarm for {b} then.",
                "I need an alarm for {b} at the time in {a}.",
            ),
            "zh": (
                "查一下{a}的时间。请在这时叫醒{b}。",
                "{a}现在几点？请在这时叫醒{b}。",
                "请在{a}现在的时间叫醒{b}。",
            ),
        },
        *("get_time", lambda rng, lang: rng.pick(NAMES[lang])),
        (("get_time", "{a}"), ("set_alarm", "{0[time]}")),
    ),
}


def respond(tool: MockTool, question: str, lang: str, argument: Any) -> dict[str, Any]:
    """What the tool answers whoever was asked this question: a pure function."""
    return tool.result(Rng("response", question, tool.name, str(argument)), lang, argument)


def sample(kind: str, rng: Rng, lang: str, held_out: bool = False) -> Sample:
    """A chain of this kind: for training, or from what is kept for evaluation."""
    made = KINDS[kind]
    while True:
        a = BY_NAME[made.a].value(rng, lang)
        b = BY_NAME[made.b].value(rng, lang) if isinstance(made.b, str) else made.b(rng, lang)
        if a != b and is_held_out("chain", kind, a, b) == held_out:
            question = rng.pick(made.asked[lang]).format(a=a, b=b)
            calls = _calls(made, question, lang, a, b)
            if not any(_gives_away(tool, argument) for tool, argument, _ in calls):
                return _sample(kind, rng, lang, question, calls)


def _calls(kind: Kind, question: str, lang: str, a: Any, b: Any) -> list[Call]:
    calls: list[Call] = []
    for name, form in kind.calls:
        tool, text = BY_NAME[name], form.format(*(result for _, _, result in calls), a=a, b=b)
        argument = int(text) if tool.argument[1] == "integer" else text
        calls.append((tool, argument, respond(tool, question, lang, argument)))
    return calls


def _gives_away(tool: MockTool, argument: Any) -> bool:
    """Whether the call is one that other skills keep for evaluation: of this tool, or of a sum."""
    if tool.name == "calculate" and " + " in argument:
        x, y = map(int, argument.split(" + "))
        if is_kept(x, "+", y):
            return True
    return is_held_out("tool", tool.name, argument)


def _sample(kind: str, rng: Rng, lang: str, question: str, calls: list[Call]) -> Sample:
    offered = list(dict.fromkeys(SCHEMAS[tool.name] for tool, _, _ in calls))
    schemas = ", ".join(rng.several(offered, len(offered)))
    tool, argument, result = calls[-1]
    answer = assistant(tool.answers[lang].format(a=argument, **result))
    messages = [{"role": "system", "content": "", "tools": f"[{schemas}]"}, user(question), answer]
    as_text = json.JSONEncoder(ensure_ascii=False).encode
    texts = [
        (as_text({"name": tool.name, "arguments": {tool.argument[0]: argument}}), as_text(result))
        for tool, argument, result in calls
    ]
    return Sample(kind, lang, messages, [str(value) for value in result.values()], check="states", calls=texts)


SKILLS: dict[str, Callable[..., Sample]] = {kind: partial(sample, kind) for kind in KINDS}
