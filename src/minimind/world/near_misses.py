"""Answers that are almost right: one digit, item, word or argument of the right answer is another.

Whoever learns from pairs whose worse answer is plainly worse learns nothing: it preferred the better one before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from minimind.tokenizer.messages import Message
from minimind.world.facts import FACTS, Fact, article
from minimind.world.rng import Rng
from minimind.world.rng import held_out as is_held_out
from minimind.world.sample import Sample, assistant
from minimind.world.skills import reasoning, stopping, tools
from minimind.world.tables.words import CATEGORIES

TOOLS = {tool.name: tool for tool in tools.TOOLS}
KINDS = {word: rows for rows in CATEGORIES.values() for row in rows for word in row}
"""the category of each word"""


def near_miss(rng: Rng, good: Sample) -> Message | None:
    """A wrong last message that differs little from the right one; None where none was found."""
    if good.check == "tool_call":
        return _other_call(rng, good)
    text = MISSES[good.skill](rng, good)
    return assistant(text) if text and _said(text) != _said(good.messages[-1]["content"]) else None


def _said(text: str) -> str:
    """The text without spaces and punctuation."""
    return re.sub(r"\W", "", text)


def misread(rng: Rng, text: str) -> str | None:
    """The text with one digit of its last number changed by one."""
    numbers = list(re.finditer(r"\d+", text))
    if not numbers:
        return None
    first, stop = numbers[-1].span()
    at = first + rng.below(stop - first)
    digit = int(text[at])
    least = 1 if at == first and stop - first > 1 else 0  # numbers do not begin with 0
    others = [str(other) for other in (digit - 1, digit + 1) if least <= other <= 9]
    return text[:at] + rng.pick(others) + text[at + 1 :]


def disordered(rng: Rng, items: list[str]) -> list[str]:
    """The items with two neighbors exchanged, one left out or one said twice."""
    at, kind = rng.below(len(items)), rng.below(3)
    if kind == 0 and len(items) > 1:
        return items[:at] + items[at + 1 :]
    if kind == 1:
        return items[: at + 1] + items[at:]
    return items[: max(0, at - 1)] + items[max(0, at - 1) : at + 1][::-1] + items[at + 1 :]


def _another_value(rng: Rng, lang: str, right: Fact) -> str:
    """A value that the fact's relation has for something else."""
    same = [fact.value for fact in FACTS[lang] if fact.relation == right.relation]
    return rng.pick([value for value in same if value != right.value])


def _result(rng: Rng, good: Sample) -> str | None:
    return misread(rng, good.messages[-1]["content"])


def _row(rng: Rng, good: Sample) -> str | None:
    """Of a game with a row: the row disordered, the number beside the right one, or another item."""
    answer = good.messages[-1]["content"]
    row = re.split("[:：] ?", good.messages[-2]["content"])[-1].split()
    if " " in answer:
        return " ".join(disordered(rng, answer.split()))
    if answer == str(len(row)):
        return misread(rng, answer)
    others = [item for item in row if item != answer]
    return rng.pick(others) if others else None


def _fact(rng: Rng, good: Sample) -> str | None:
    """The sentence with the value of something else of the same kind."""
    answer, lang = good.messages[-1]["content"], good.lang
    right = next(fact for fact in FACTS[lang] if fact.answer == answer)
    old, new = right.value, _another_value(rng, lang, right)
    if lang == "en" and article(old) in answer:
        old, new = article(old), article(new)
    before, found, after = answer.rpartition(old)
    return before + new + after if found else None


def _word(rng: Rng, good: Sample) -> str | None:
    """The word misspelled, or another of its category."""
    answer = good.messages[-1]["content"]
    if rng.chance(0.5):
        return "".join(disordered(rng, list(answer)))
    rows = KINDS[answer]
    at = next(row.index(answer) for row in rows if answer in row)
    return rng.pick([row[at] for row in rows])


def _sentence(rng: Rng, good: Sample) -> str:
    """A word of the sentence left out, said twice or exchanged with its neighbor; in Chinese a character."""
    answer, space = good.messages[-1]["content"], " " if good.lang == "en" else ""
    return space.join(disordered(rng, answer.split() if space else list(answer)))


def _stopping(rng: Rng, good: Sample) -> str | None:
    """One thing too few or too many, a sentence where a word was asked for, or another value."""
    answer, lang = good.messages[-1]["content"], good.lang
    if good.check == "list":
        items = answer.split(stopping.COMMA[lang])
        more = [*items, rng.pick([thing for thing in good.gt if thing not in items])]
        return stopping.COMMA[lang].join(items[:-1] if rng.chance(0.5) else more)
    if good.check == "sentence":
        return _fact(rng, good)
    right = rng.pick([fact for fact in FACTS[lang] if fact.value == answer])
    return right.answer if rng.chance(0.5) else _another_value(rng, lang, right)


def _other_call(rng: Rng, good: Sample) -> Message:
    """The right tool with an argument that differs in a digit, or is another."""
    call = json.loads(good.gt[0])
    tool = TOOLS[call["name"]]
    [(name, right)] = call["arguments"].items()
    while True:
        value: Any = misread(rng, str(right)) if rng.chance(0.7) else None
        value = tool.value(rng, good.lang) if value is None else type(right)(value)
        unseen = is_held_out("tool", tool.name, value) or reasoning.holds_kept(str(value))
        if value != right and not unseen:
            break
    calls = [{"name": tool.name, "arguments": {name: value}}]
    return assistant("", tool_calls=json.dumps(calls, ensure_ascii=False))


MISSES: dict[str, Callable[[Rng, Sample], str | None]] = {
    "arithmetic": _result,
    "tools": _result,
    "strings": _row,
    "facts": _fact,
    "translation": _word,
    "identity": _sentence,
    "stopping": _stopping,
}
