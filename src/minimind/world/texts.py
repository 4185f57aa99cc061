"""The text to pretrain on: documents of a few hundred bytes, one language each, never in chat markup."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count

from minimind.world.facts import FACTS, TOPICS
from minimind.world.rng import Rng
from minimind.world.sample import LANGUAGES
from minimind.world.skills import arithmetic, facts, recall, smalltalk, stopping, strings, tools, translation
from minimind.world.stories import story
from minimind.world.tables import everyday
from minimind.world.tables.people import NAMES
from minimind.world.tables.words import LISTED, WORDS

SPACE = {"en": " ", "zh": ""}


def about_things(rng: Rng, lang: str) -> str:
    """Paragraphs that each tell what is known about one thing."""
    topics = rng.several(TOPICS[lang], rng.between(3, 5))
    return "\n".join(SPACE[lang].join(rng.pick(fact.statements) for fact in topic) for topic in topics)


def statements(rng: Rng, lang: str) -> str:
    """Facts of all kinds, one a line or in one paragraph."""
    said = [rng.pick(fact.statements) for fact in rng.several(FACTS[lang], rng.between(5, 9))]
    return rng.pick(("\n", SPACE[lang])).join(said)


def questions_and_answers(rng: Rng, lang: str) -> str:
    """Questions with their answers, as in an exercise book."""
    before_question, before_answer = rng.pick(
        (("Q: ", "A: "), ("Question: ", "Answer: ")) if lang == "en" else (("问：", "答："), ("问题：", "回答："))
    )
    skills = {facts: 5, translation: 2, arithmetic: 2, strings: 2, stopping: 1}
    turns = [rng.weighted(skills).sample(rng, lang).messages for _ in range(rng.between(4, 7))]
    return "\n".join(
        f"{before_question}{question['content']}\n{before_answer}{answer['content']}" for question, answer in turns
    )


SUMS = {
    ("en", "+"): ("{x} plus {y} is {z}.", "The sum of {x} and {y} is {z}.", "{x} + {y} is {z}."),
    ("en", "-"): ("{x} minus {y} is {z}.", "{y} taken away from {x} leaves {z}.", "{x} - {y} is {z}."),
    ("zh", "+"): ("{x} 加 {y} 等于 {z}。", "{x} 与 {y} 的和是 {z}。", "{x} 加上 {y} 是 {z}。"),
    ("zh", "-"): ("{x} 减 {y} 等于 {z}。", "{x} 与 {y} 的差是 {z}。", "{x} 减去 {y} 是 {z}。"),
}


def sums(rng: Rng, lang: str) -> str:
    """Lines of arithmetic: mostly `47 + 38 = 85`, some in words, some digit by digit."""
    lines = []
    for _ in range(rng.between(12, 20)):
        x, operator, y, z = arithmetic.operands(rng)
        kind = rng.random()
        if kind < 0.75:
            lines.append(f"{x} {operator} {y} = {z}")
        elif kind < 0.9:
            lines.append(rng.pick(SUMS[lang, operator]).format(x=x, y=y, z=z))
        else:
            lines.append(f"{x} {operator} {y} = {z}. {arithmetic.steps(x, operator, y, lang)}")
    return "\n".join(lines)


def small_sums(rng: Rng, lang: str) -> str:
    """Numbers below ten, times tables, what is bigger, what comes next."""
    words = {
        "en": ("{x} is bigger than {y}.", "After {x} comes {z}.", "{y} is smaller than {x}."),
        "zh": ("{x} 比 {y} 大。", "{x} 的后面是 {z}。", "{y} 比 {x} 小。"),
    }
    lines = []
    for _ in range(rng.between(10, 18)):
        a, b = rng.between(1, 9), rng.between(1, 9)
        y = rng.between(1, 98)
        x = rng.between(y + 1, 99)
        said = rng.pick(words[lang]).format(x=x, y=y, z=x + 1)
        lines.append(rng.pick((f"{a} + {b} = {a + b}", f"{a + b} - {a} = {b}", f"{a} x {b} = {a * b}", said)))
    return "\n".join(lines)


ROWS = {
    ("en", "copy"): ("{row} again: {done}", "{row} is the same as {done}"),
    ("en", "reverse"): ("{row} backwards: {done}", "{row} turned around: {done}"),
    ("en", "sort"): ("{row} in order: {done}", "{row} sorted: {done}"),
    ("en", "count"): ("{row} has {done} items", "items in {row}: {done}"),
    ("en", "first"): ("the first of {row} is {done}",),
    ("en", "last"): ("the last of {row} is {done}",),
    ("zh", "copy"): ("{row} 再来一遍：{done}", "{row} 照抄：{done}"),
    ("zh", "reverse"): ("{row} 倒过来：{done}", "{row} 的倒序：{done}"),
    ("zh", "sort"): ("{row} 排好：{done}", "{row} 从小到大：{done}"),
    ("zh", "count"): ("{row} 一共 {done} 个", "{row} 的个数：{done}"),
    ("zh", "first"): ("{row} 的第一个是 {done}",),
    ("zh", "last"): ("{row} 的最后一个是 {done}",),
}


def rows(rng: Rng, lang: str) -> str:
    """Lines that copy, reverse, sort and count rows of items."""
    lines = []
    for _ in range(rng.between(7, 12)):
        task = rng.weighted(strings.TASKS)
        items = strings.row(rng, lang, task)
        lines.append(rng.pick(ROWS[lang, task]).format(row=" ".join(items), done=strings.solve(task, items)))
    return "\n".join(lines)


MEANINGS = {
    "en": ('"{e}" is “{c}” in Chinese.', "{e}: {c}", "“{c}” means {e}.", "{c}: {e}"),
    "zh": ("“{c}”的英文是 {e}。", "{c}：{e}", "{e} 的意思是{c}。", "{e}：{c}"),
}


def meanings(rng: Rng, lang: str) -> str:
    """Words with their translations."""
    pairs = rng.several(WORDS, rng.between(8, 14))
    return "\n".join(rng.pick(MEANINGS[lang]).format(e=english, c=chinese) for english, chinese in pairs)


NAMED = {
    "en": ("Some {things}: {list}.", "{list} are {things}."),
    "zh": ("一些{things}：{list}。", "{list}，这些都是{things}。"),
}


def lists(rng: Rng, lang: str) -> str:
    """Things of a kind, numbers counted up or down, days and months in order."""
    at, comma = (1, "、") if lang == "zh" else (0, ", ")
    lines = []
    for names, words in rng.several(tuple(LISTED.items()), 3):
        start, n = rng.below(len(words)), rng.between(3, 7)
        listed = comma.join(words[(start + i) % len(words)][at] for i in range(n))
        things = names[0] if lang == "en" else names[1][1:]
        lines.append(rng.pick(NAMED[lang]).format(things=things, list=listed))
    start, step = rng.between(0, 60), rng.pick((1, 1, 2, 5, 10))
    lines.append(comma.join(str(start + step * i) for i in range(8)))
    order = rng.pick((everyday.MONTHS, everyday.WEEKDAYS))
    lines.append(comma.join(row[at] for row in order))
    return "\n".join(lines)


def talk(rng: Rng, lang: str) -> str:
    """Two people talk: small talk, a question or two, and something told that is asked for later."""
    first, second = rng.several(NAMES[lang], 2)
    messages = recall.sample(rng, lang).messages
    if rng.chance(0.5):
        messages = smalltalk.sample(rng, lang).messages + messages
    colon = "：" if lang == "zh" else ": "
    return "\n".join(f"{(first, second)[i % 2]}{colon}{message['content']}" for i, message in enumerate(messages))


MANUAL = {
    "en": (
        "The function {name} takes arguments as a json object, such as {arguments}.",
        "To call {name}, return a json object with the function name and its arguments: {call}",
        "The user may call one or more functions. Each function has a name and a description within its signature.",
    ),
    "zh": (
        "函数 {name} 的参数是一个 json 对象，例如 {arguments}。",
        "要调用 {name}，就写出函数名和参数：{call}",
        "用户可以调用一个或多个函数，每个函数都有名字和说明。",
    ),
}


def manual(rng: Rng, lang: str) -> str:
    """How a tool is described and called, in json, as in a programmer's manual."""
    system, _, call_message, *_ = tools.sample(rng, lang).messages
    call = json.loads(call_message["tool_calls"])[0]
    slots = {"name": call["name"], "arguments": json.dumps(call["arguments"], ensure_ascii=False)}
    slots["call"] = json.dumps(call, ensure_ascii=False)
    lines = [line.format(**slots) for line in rng.several(MANUAL[lang], 2)]
    return "\n".join([*lines, *map(json.dumps, json.loads(system["tools"]))])


def tale(rng: Rng, lang: str) -> str:
    return story(rng, lang)


# How often each kind of document comes. Arithmetic, rows and facts need the most practice.
KINDS = {
    about_things: 9,
    statements: 13,
    questions_and_answers: 18,
    sums: 25,
    small_sums: 2,
    rows: 23,
    meanings: 9,
    lists: 4,
    talk: 12,
    tale: 3,
    manual: 1,
}


def pretrain_texts(seed: int) -> Iterator[dict[str, str]]:
    """An endless stream of `{"text": …}` documents, each drawn by itself, whatever the others are."""
    for number in count():
        rng = Rng(seed, "pretrain", number)
        yield {"text": rng.weighted(KINDS)(rng, rng.pick(LANGUAGES))}
