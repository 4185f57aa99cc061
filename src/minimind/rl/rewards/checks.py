"""How an answer is verified: from ground truth and the name of a check to a function of the answer's text."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

from minimind.eval.skills import grade, normal, states
from minimind.rl.rewards.sandbox import passed
from minimind.tokenizer import parse_assistant
from minimind.tools.arguments import problem
from minimind.util.json_files import loads
from minimind.world.sample import Question

Grade = Callable[[str], float]

NUMBER = re.compile(r"(?<![\d.])-?\d[\d,]*(?:\.\d+)?(?:/\d+(?:\.\d+)?)?%?")
BOXED = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}")
LETTER = re.compile(r"(?<![A-Za-z])([A-J])(?![A-Za-z'’])")
SAID = re.compile(r"(?i:answer|ans|option)(?: is)?|答案|选")


def make_grade(gt: Sequence[str], check: str = "", count: int = 0, think: bool = False) -> Grade:
    """How right the text of an answer is, from 0 to 1. ValueError for a check that there is not, or that cannot use
    the ground truth.

    Without a name: `number` where the ground truth is one number, `choice` where it is one letter from A to J, else
    `answer`, or `all` where there are several. Without ground truth nothing is right.

    think  whether the text begins inside a thought, which does not count
    """
    if not gt:
        return unverified
    check = check or default_check(gt)
    if check in WORLDS:
        return partial(grade, Question("", "", [], list(gt), check, count), open_thinking=think)
    if check not in CHECKS:
        raise ValueError(f"there is no check {check}; there are {', '.join((*CHECKS, *WORLDS))}")
    prepare, is_right = CHECKS[check]
    wanted = prepare(gt)

    def graded(text: str) -> float:
        parsed = parse_assistant(text, open_thinking=think)
        return 0.0 if parsed["tool_calls"] else float(is_right(parsed["content"].strip(), wanted))

    return graded


def unverified(text: str) -> float:
    return 0.0


def default_check(gt: Sequence[str]) -> str:
    if len(gt) > 1:
        return "all"
    if as_number(gt[0]) is not None:
        return "number"
    return "choice" if re.fullmatch("[A-J]", gt[0].strip()) else "answer"


# ----------------------------------------------------------------------------------------------- numbers


def as_number(text: str) -> Fraction | None:
    """The number that a text is: -1,234.5, 3/4, 12.5% (an eighth); None for any other text."""
    text = unicodedata.normalize("NFKC", text).strip().replace("−", "-")
    if not NUMBER.fullmatch(text):
        return None
    above, _, below = text.rstrip("%").replace(",", "").partition("/")
    if below and not Fraction(below):
        return None
    return Fraction(above) / Fraction(below or 1) / (100 if text.endswith("%") else 1)


def last_number(text: str) -> str | None:
    """The number that an answer ends in, as it stands there: of what is boxed, else of what follows ####, else of
    all of it."""
    found = BOXED.findall(text)
    numbers = numbers_in(found[-1] if found else text.rpartition("####")[2])
    return numbers[-1] if numbers else None


def numbers_in(text: str) -> list[str]:
    text = unicodedata.normalize("NFKC", text).replace("−", "-")
    found = NUMBER.findall(re.sub(r"(?<=\d)-", " ", text))  # 7-3 is no 7 and −3: a difference
    return [number.rstrip(",") for number in found]


def is_number(content: str, wanted: list[Fraction]) -> bool:
    found = last_number(content)
    return found is not None and as_number(found) in wanted


def numbers(gt: Sequence[str]) -> list[Fraction]:
    found = [as_number(text) for text in gt]
    for text, value in zip(gt, found):
        if value is None:
            raise ValueError(f"gt {text!r} is no number")
    return [value for value in found if value is not None]


# ----------------------------------------------------------------------------------- everything else


def share_said(content: str, wanted: Sequence[tuple[Fraction | None, str]]) -> float:
    """The share of the values that stand somewhere in the answer: a number by its value, else a text as it is."""
    numbers, text = [as_number(one) for one in numbers_in(content)], normal(content)
    return sum(states(text, said) if value is None else value in numbers for value, said in wanted) / len(wanted)


def values(gt: Sequence[str]) -> list[tuple[Fraction | None, str]]:
    return [(as_number(text), normal(text)) for text in gt if normal(text)]


def is_choice(content: str, wanted: Sequence[str]) -> bool:
    """The letter that is boxed, else the first one after the last word for an answer, else the last one."""
    boxed, (_, *said) = BOXED.findall(content), SAID.split(content)
    found = next((letters for place in reversed([*said, *boxed[-1:]]) if (letters := LETTER.findall(place))), None)
    return (found or LETTER.findall(content)[::-1] or [""])[0] in wanted


def matches(content: str, patterns: Sequence[re.Pattern[str]]) -> bool:
    """Whether the whole answer is what one of the patterns describes."""
    return any(pattern.fullmatch(content) for pattern in patterns)


def fits_schema(content: str, schemas: Sequence[Any]) -> bool:
    """Whether the answer is JSON that fits one of the schemas; it may stand in a Markdown block."""
    block = re.fullmatch(r"```(?:json)?\n(.*)\n```", content, re.DOTALL)
    try:
        value = loads(block[1] if block else content)
    except ValueError:
        return False
    return any(problem(value, schema, "answer") is None for schema in schemas)


def passes_all(content: str, tests: Sequence[str]) -> bool:
    return all(passed(code_of(content), tuple(tests)))


def code_of(content: str) -> str:
    """The last Markdown block of an answer, or all of it."""
    blocks = re.findall(r"```(?:python|py)?\n(.*?)(?:\n```|$)", content, re.DOTALL)
    return blocks[-1] if blocks else content


def patterns(gt: Sequence[str]) -> list[re.Pattern[str]]:
    try:
        return [re.compile(text, re.DOTALL) for text in gt]
    except re.error as error:
        raise ValueError(f"gt is no regular expression: {error}") from None


def schemas(gt: Sequence[str]) -> list[Any]:
    try:
        return [json.loads(text) for text in gt]
    except ValueError:
        raise ValueError("gt is no JSON schema, as JSON text") from None


def letters(gt: Sequence[str]) -> list[str]:
    return [text.strip().upper() for text in gt]


# How ground truth is read, and how right an answer's content is by it.
CHECKS: dict[str, tuple[Callable[[Sequence[str]], Any], Callable[[str, Any], float]]] = {
    "number": (numbers, is_number),
    "all": (values, share_said),
    "choice": (letters, is_choice),
    "regex": (patterns, matches),
    "json_schema": (schemas, fits_schema),
    "unit_tests": (list, passes_all),
}
WORLDS = ("answer", "exact", "states", "tool_call", "list", "sentence")
"""those of the embedded world (see `world.sample.Sample`)"""
