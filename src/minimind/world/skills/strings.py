"""Small games with short rows of digits, letters or words: copy, reverse, sort, count, first, last.

Items stand apart by spaces, so that the tokens of an item are the same wherever it stands. A tenth of all rows is
kept for evaluation, whatever is done with them.
"""

from __future__ import annotations

from minimind.world.rng import Rng
from minimind.world.rng import held_out as is_held_out
from minimind.world.sample import Sample, assistant, user
from minimind.world.tables import listed
from minimind.world.tables.words import LISTED

DIGITS = tuple("0123456789")
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
WORDS = {
    lang: tuple(row[at] for rows in LISTED.values() for row in rows[:7] if " " not in row[at])
    for lang, at in (("en", 0), ("zh", 1))
}
# Copying and reversing are the harder ones, so they come more often.
TASKS = {"copy": 2, "reverse": 3, "sort": 2, "count": 2, "first": 1, "last": 1}
ASKED = {
    ("en", "copy"): ("Copy: {row}", "Repeat: {row}", "Say this again: {row}", "Write this again: {row}"),
    ("en", "reverse"): ("Reverse: {row}", "Reverse this: {row}", "Say this backwards: {row}", "Turn around: {row}"),
    ("en", "sort"): listed("""
        Sort: {row}; Sort these numbers: {row}; Put in order: {row}; From small to big: {row}
    """),
    ("en", "count"): listed("""
        Count the items: {row}; How many items are here: {row}; Count: {row}; How many are there: {row}
    """),
    ("en", "first"): ("First item: {row}", "Which item is first: {row}", "Say the first item: {row}"),
    ("en", "last"): ("Last item: {row}", "Which item is last: {row}", "Say the last item: {row}"),
    ("zh", "copy"): ("复制：{row}", "重复：{row}", "再说一遍：{row}", "照着写一遍：{row}"),
    ("zh", "reverse"): ("倒序：{row}", "把它反过来：{row}", "倒着说：{row}", "从后往前写：{row}"),
    ("zh", "sort"): ("排序：{row}", "给这些数字排序：{row}", "按顺序排好：{row}", "从小到大：{row}"),
    ("zh", "count"): ("数一数有几个：{row}", "这里有几个：{row}", "一共有多少个：{row}", "数数：{row}"),
    ("zh", "first"): ("第一个是什么：{row}", "说出第一个：{row}", "哪个在最前面：{row}"),
    ("zh", "last"): ("最后一个是什么：{row}", "说出最后一个：{row}", "哪个在最后面：{row}"),
}


def solve(task: str, items: list[str]) -> str:
    match task:
        case "copy":
            return " ".join(items)
        case "reverse":
            return " ".join(items[::-1])
        case "sort":
            return " ".join(sorted(items))
        case "count":
            return str(len(items))
        case "first":
            return items[0]
        case _:
            return items[-1]


def row(rng: Rng, lang: str, task: str, kept: bool = False) -> list[str]:
    """A row of 3 to 6 items for the task (words are longer, so at most 4 of them; only digits are sorted)."""
    while True:
        kind = 0 if task == "sort" else rng.below(3)
        if kind == 2:
            items = rng.several(WORDS[lang], rng.between(3, 4))
        else:
            alphabet = LETTERS if kind else DIGITS
            items = [rng.pick(alphabet) for _ in range(rng.between(3, 6))]
        if is_held_out("row", *items) == kept:
            return items


def sample(rng: Rng, lang: str, held_out: bool = False) -> Sample:
    task = rng.weighted(TASKS)
    items = row(rng, lang, task, held_out)
    question = rng.pick(ASKED[lang, task]).format(row=" ".join(items))
    answer = solve(task, items)
    return Sample("strings", lang, [user(question), assistant(answer)], [answer], check="exact")


def reasoned(rng: Rng, lang: str) -> Sample:
    """Counting and sorting for training only, with the steps as `reasoning_content`."""
    task = rng.pick(("count", "sort"))
    items = row(rng, lang, task)
    if task == "count":
        thinking = ", ".join(f"{item} {i}" for i, item in enumerate(items, 1))
    else:
        left = sorted(items)
        thinking = "; ".join(f"{left[i]} ({' '.join(left[i + 1 :]) or '-'})" for i in range(len(left)))
    question = rng.pick(ASKED[lang, task]).format(row=" ".join(items))
    answer = solve(task, items)
    messages = [user(question), assistant(answer, reasoning_content=thinking)]
    return Sample("strings", lang, messages, [answer], check="exact")
