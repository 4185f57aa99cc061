"""Arithmetic beyond what a small model can do in its head, with the steps that lead there.

Sums and differences of three-digit numbers, and two of them in a row. A family is as in `arithmetic`: x + y = t
and its relatives. A tenth of the families is kept for evaluation; a problem of two steps is kept where one of them
is, so nothing that is trained on uses a kept family, in the question or in the thinking.
"""

from __future__ import annotations

import re

from minimind.world.rng import Rng
from minimind.world.rng import held_out as is_held_out
from minimind.world.sample import Sample, assistant, user
from minimind.world.skills.arithmetic import ASKED, THINGS
from minimind.world.tables import listed
from minimind.world.tables.people import NAMES

PLACES = {"en": ("Ones", "Tens", "Hundreds"), "zh": ("个位", "十位", "百位")}
# After a place, after its digit, what is carried and borrowed, the result.
WORDS = {
    "en": (": ", ". ", ", carry 1", ", borrow 1", "So it is {}."),
    "zh": ("：", "。", "，进一", "，借一", "所以是 {}。"),
}
TWICE = {
    "en": listed("""
        What is {a}?; {a} = ?; Calculate {a}.; How much is {a}?; Work out {a}.; Find {a}.
    """),
    "zh": listed("""
        {a} 等于多少？; {a} = ?; 计算 {a}。; 算一算 {a}。; {a} 是多少？; 求 {a}。
    """),
}
STORIES = {
    ("en", "+"): ("gets {y} more", "finds {y} more"),
    ("en", "-"): ("gives away {y}", "loses {y}"),
    ("zh", "+"): ("又得到 {y} {things[0]}", "又找到 {y} {things[0]}"),
    ("zh", "-"): ("送出 {y} {things[0]}", "弄丢 {y} {things[0]}"),
}
TOLD = {
    "en": "{name} has {x} {things}, {first} and then {second}. How many {things} does {name} have now?",
    "zh": "{name}有 {x} {things}，{first}，然后{second}，现在有多少{things}？",
}

THREE_DIGITS = re.compile(r"(?<!\d)(\d{3,}) ?([+-]) ?(\d{3,})")

Step = tuple[int, str, int]
"""x, operator, y"""


def is_kept(x: int, operator: str, y: int) -> bool:
    """Whether x + y or x − y belongs to a family kept for evaluation."""
    family = (x, y) if operator == "+" else (y, x - y)
    return is_held_out("sum", *sorted(family))


def holds_kept(text: str) -> bool:
    """Whether a sum or difference of a kept family stands in the text."""
    return any(is_kept(int(x), operator, int(y)) for x, operator, y in THREE_DIGITS.findall(text))


def result(x: int, operator: str, y: int) -> int:
    return x + y if operator == "+" else x - y


def worked(x: int, operator: str, y: int, lang: str) -> str:
    """One step digit by digit, from the right, as it is done on paper. Only digits are added."""
    colon, stop, carry, borrow, so = WORDS[lang]
    said, over = [], 0  # what is carried over, or borrowed
    for at, place in enumerate(PLACES[lang]):
        a, b = x // 10**at % 10, y // 10**at % 10
        if operator == "+":
            left, digit = f"{a} + {b}" + " + 1" * over, a + b + over
            over = int(digit > 9 and at < 2)
            note = carry * over
        else:
            borrowed = int(a - over < b)
            left, digit = f"{a + 10 * borrowed}" + " - 1" * over + f" - {b}", a + 10 * borrowed - over - b
            over, note = borrowed, borrow * borrowed
        said.append(f"{place}{colon}{left} = {digit}{note}{stop}")
    return "".join(said) + so.format(result(x, operator, y))


def _step(rng: Rng, x: int | None = None) -> Step:
    """With three-digit x (unless given) and y, and no negative result."""
    operator = "+" if rng.chance(0.5) else "-"
    first, y = rng.between(100, 999) if x is None else x, rng.between(100, 999)
    if operator == "-" and first < y:
        first, y = (y, first) if x is None else (first, rng.between(100, first))
    return first, operator, y


def three_digits(rng: Rng, lang: str, held_out: bool = False) -> Sample:
    """One step."""
    while is_kept(*(step := _step(rng))) != held_out:
        pass
    x, operator, y = step
    wording = rng.pick(ASKED[lang, operator])
    question = wording.format(x=x, y=y, name=rng.pick(NAMES[lang]), things=rng.pick(THINGS[lang]))
    thought, answer = worked(*step, lang), f"{x} {operator} {y} = {result(*step)}"
    messages = [user(question), assistant(answer, reasoning_content=thought)]
    return Sample("three_digits", lang, messages, [str(result(*step))])


def two_steps(rng: Rng, lang: str, held_out: bool = False) -> Sample:
    """Two steps, the second from the result of the first, which has three digits too."""
    while True:
        first = _step(rng)
        if not 100 <= result(*first) <= 999:
            continue
        second = _step(rng, result(*first))
        if (is_kept(*first) or is_kept(*second)) == held_out:
            break
    (x, operator, y), (middle, then, z) = first, second
    asked = f"{x} {operator} {y} {then} {z}"
    if rng.chance(0.7):
        question = rng.pick(TWICE[lang]).format(a=asked)
    else:
        things = rng.pick(THINGS[lang])
        parts = [rng.pick(STORIES[lang, sign]).format(y=n, things=things) for sign, n in ((operator, y), (then, z))]
        told = {"first": parts[0], "second": parts[1], "name": rng.pick(NAMES[lang]), "things": things}
        question = TOLD[lang].format(x=x, **told)
    colon = WORDS[lang][0]
    thought = f"{x} {operator} {y}{colon}{worked(*first, lang)}\n{middle} {then} {z}{colon}{worked(*second, lang)}"
    messages = [user(question), assistant(f"{asked} = {result(*second)}", reasoning_content=thought)]
    return Sample("two_steps", lang, messages, [str(result(*second))])


SKILLS = {"three_digits": three_digits, "two_steps": two_steps}
