"""Answers whose length is asked for: n things, one word, one sentence. Saying it and then stopping is the skill."""

from __future__ import annotations

from minimind.world.facts import FACTS
from minimind.world.rng import Rng
from minimind.world.sample import Sample, assistant, user
from minimind.world.tables import listed
from minimind.world.tables.words import LISTED

NUMBERS = {"en": ("two", "three", "four", "five"), "zh": ("两", "三", "四", "五")}
COMMA = {"en": ", ", "zh": "、"}
# For training, and kept for evaluation.
LIST = {
    "en": (
        listed("""
            Name {n} {things}.; Give me {n} {things}.; List {n} {things}.; Tell me {n} {things}.
            Say {n} {things}.; I want {n} {things}.; Write down {n} {things}.; Please list {n} {things}.
            {n} {things}, please.; Do you know {n} {things}?
        """),
        ("Can you name {n} {things}?", "Please tell me exactly {n} {things}.", "I want to know {n} {things}."),
    ),
    "zh": (
        listed("""
            说出{n}{things}。; 列出{n}{things}。; 告诉我{n}{things}。; 请说{n}{things}。; 写出{n}{things}。
            我想要{n}{things}。; 请列出{n}{things}。; 举出{n}{things}。; 给我{n}{things}。
            你知道{n}{things}吗？
        """),
        ("你能说出{n}{things}吗？", "我想知道{n}{things}。", "请写下正好{n}{things}。"),
    ),
}
ONE_WORD = {
    "en": (
        listed("""
            Answer in one word: {q}; In one word: {q}; One word only: {q}; {q} Answer with one word.
            Just one word: {q}; {q} One word, please.; {q} Use a single word.; {q} Keep it to one word.
            Reply with a single word: {q}; In just one word, {q}
        """),
        ("{q} Say only one word.", "Only one word, please: {q}", "{q} Just one word."),
    ),
    "zh": (
        listed("""
            只用一个词回答：{q}; 用一个词回答：{q}; 一个词回答：{q}; {q}只说一个词。; 请用一个词回答：{q}
            {q}用一个词回答。; {q}回答一个词就行。; {q}只要一个词。; {q}用一个词说。; 请只答一个词：{q}
            一个词说完：{q}
        """),
        ("{q}请只用一个词。", "只说一个词：{q}", "{q}一个词就好。"),
    ),
}
ONE_SENTENCE = {
    "en": (
        listed("""
            Say one sentence about {s}.; Write one sentence about {s}.; One sentence about {s}, please.
            Give me one sentence about {s}.; In one sentence: {s}.; Tell me one thing about {s}.
            I would like one sentence about {s}.; Could you say a sentence about {s}?
            A single sentence about {s}.
        """),
        (
            "Please say one sentence about {s}.",
            "Can you write one sentence about {s}?",
            "Just one sentence about {s}.",
        ),
    ),
    "zh": (
        listed("""
            说一句关于{s}的话。; 写一句关于{s}的话。; 用一句话说说{s}。; 给我一句关于{s}的话。
            用一句话介绍{s}。; 告诉我一件关于{s}的事。; 用一句话讲一讲{s}。; 来一句关于{s}的话。
            请用一句话介绍一下{s}。; 关于{s}，说一句话就行。
        """),
        ("请你说一句关于{s}的话吧。", "能用一句话讲讲{s}吗？", "只要一句关于{s}的话。"),
    ),
}
# One-word answers ask for values that are one word; sentences are about countries and animals.
SHORT = {lang: [fact for fact in facts if " " not in fact.value] for lang, facts in FACTS.items()}
DESCRIBED = {
    lang: [fact for fact in facts if fact.relation in ("continent", "class")] for lang, facts in FACTS.items()
}


def things(rng: Rng, lang: str, kept: bool = False) -> Sample:
    """n things of a kind, as they follow each other in their table: then no thing comes twice."""
    names, rows = rng.pick(tuple(LISTED.items()))
    at, column = (1, 1) if lang == "zh" else (0, 0)
    n = rng.between(2, 5)
    start = rng.below(len(rows))
    answer = COMMA[lang].join(rows[(start + i) % len(rows)][column] for i in range(n))
    question = rng.pick(LIST[lang][kept]).format(n=NUMBERS[lang][n - 2], things=names[at])
    messages = [user(question[0].upper() + question[1:]), assistant(answer)]
    return Sample("stopping", lang, messages, [row[column] for row in rows], check="list", count=n)


def _one_word(rng: Rng, lang: str, kept: bool) -> Sample:
    fact = rng.pick(SHORT[lang])
    question = rng.pick(ONE_WORD[lang][kept]).format(q=rng.pick(fact.questions))
    return Sample("stopping", lang, [user(question), assistant(fact.value)], [fact.value], check="exact")


def _one_sentence(rng: Rng, lang: str, kept: bool) -> Sample:
    fact = rng.pick(DESCRIBED[lang])
    question = rng.pick(ONE_SENTENCE[lang][kept]).format(s=fact.subject)
    messages = [user(question), assistant(fact.answer)]
    return Sample("stopping", lang, messages, [fact.subject, fact.value], check="sentence")


def sample(rng: Rng, lang: str, held_out: bool = False) -> Sample:
    kind = rng.pick((things, _one_word, _one_sentence))
    return kind(rng, lang, held_out)
