"""The facts of the world, each with all its wordings in one language ready to be picked."""

from __future__ import annotations

from dataclasses import dataclass

from minimind.world.sample import LANGUAGES
from minimind.world.tables import animals, everyday, geography, science, wording_en, wording_zh

WORDINGS = {"en": wording_en, "zh": wording_zh}


def article(noun: str) -> str:
    """The English noun with its indefinite article."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def capitalize(sentence: str) -> str:
    """The sentence with its first letter upper-case, also behind an opening quotation mark."""
    return sentence[:2].upper() + sentence[2:] if sentence[0] == '"' else sentence[0].upper() + sentence[1:]


def _rows(lang: str) -> dict[str, list[dict[str, str]]]:
    """Every relation's rows in one language; a table's columns alternate English and Chinese."""
    at = 1 if lang == "zh" else 0

    def pairs(table: list[tuple[str, ...]], subject: int, value: int, shared: bool = False) -> list[dict[str, str]]:
        """Subject and value columns (given by their English one; a `shared` value has one column for both)."""
        value_at = value if shared else value + at
        return [{"s": row[subject + at], "v": row[value_at]} for row in table if row[value_at] != "-"]

    def following(names: list[str], step: int) -> list[dict[str, str]]:
        return [{"s": name, "v": names[(i + step) % len(names)]} for i, name in enumerate(names)]

    months = [row[at] for row in everyday.MONTHS]
    weekdays = [row[at] for row in everyday.WEEKDAYS]
    rows = {
        "capital": pairs(geography.COUNTRIES, 0, 2),
        "country": pairs(geography.COUNTRIES, 2, 0),
        "continent": pairs(geography.COUNTRIES, 0, 4),
        "symbol": pairs(science.ELEMENTS, 0, 2, shared=True),
        "number": pairs(science.ELEMENTS, 0, 3, shared=True),
        "class": pairs(animals.ANIMALS, 0, 2),
        "legs": pairs(animals.ANIMALS, 0, 4, shared=True),
        "sound": pairs(animals.ANIMALS, 0, 5),
        "young": pairs(animals.ANIMALS, 0, 7),
        "colour": pairs(everyday.COLORED, 0, 2),
        "opposite": pairs(everyday.OPPOSITES, 0, 1) if lang == "en" else pairs(everyday.OPPOSITES, 1, 2),
        "unit": [{"part": row[at * 2], "whole": row[at * 2 + 1], "v": row[4]} for row in science.UNITS],
        # February has no one number of days.
        "days": [row for row in pairs(everyday.MONTHS, 0, 2, shared=True) if row["v"] != "28"],
        "next month": following(months, 1),
        "next day": following(weekdays, 1),
        "day before": following(weekdays, -1),
        "tool": pairs(everyday.TOOLS, 0, 2),
        "worker": pairs(everyday.WORKERS, 0, 2),
    }
    rows["opposite"] += [{"s": row["v"], "v": row["s"]} for row in rows["opposite"]]
    return rows


@dataclass(frozen=True)
class Fact:
    """One fact in one language. `answer` is the one sentence taught as the answer and ends in or holds `value`."""

    relation: str
    subject: str
    value: str
    answer: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    held_out: tuple[str, ...]


def _fact(lang: str, relation: str, row: dict[str, str]) -> Fact:
    wording = WORDINGS[lang].WORDING[relation]
    if lang == "en" and "s" in row:
        row = row | {"a": article(row["s"]), "va": article(row["v"])}
    noun = wording["noun"].format(**row)
    fill = {"noun": noun, "wh": wording.get("wh", "什么")}

    def say(frames: tuple[str, ...], own: tuple[str, ...]) -> tuple[str, ...]:
        sentences = [frame.format(**fill) for frame in frames] + [text.format(**row) for text in own]
        return tuple(capitalize(sentence) for sentence in sentences)

    statements = say((), wording["statements"])
    questions = say(WORDINGS[lang].FRAMES, wording["asked"])
    held_out = say(WORDINGS[lang].HELD_OUT_FRAMES, wording["held_out"])
    return Fact(relation, row.get("s") or row["whole"], row["v"], statements[0], statements, questions, held_out)


FACTS: dict[str, list[Fact]] = {
    lang: [_fact(lang, name, row) for name, rows in _rows(lang).items() for row in rows] for lang in LANGUAGES
}

# Facts about the same thing, for paragraphs that tell several of them.
TOPICS: dict[str, list[list[Fact]]] = {}
for _lang, _facts in FACTS.items():
    _by_subject: dict[str, list[Fact]] = {}
    for _one in _facts:
        _by_subject.setdefault(_one.subject, []).append(_one)
    TOPICS[_lang] = list(_by_subject.values())
