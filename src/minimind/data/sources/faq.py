"""Questions and answers that people wrote for people, as conversations.

Two forms are known: lines that begin with `Q:` and `A:` (问： and 答：), and else headings, each with its answer
below. Tables and JSON of questions and answers need nothing of this; `schemas.py` reads them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from minimind.data.sources.documents import BadLine, Document, parse, read_documents
from minimind.data.sources.files import is_plain_text, read_records

ROLES = r"(?:(?P<q>q|question|问|问题|提问)|(?P<a>a|answer|答|答案|回答))"
MARK = re.compile(rf"\s*(?:[-*+>]\s+|#+\s+)?(?P<bold>\*\*)?{ROLES}\s*\d*\s*[:：]\s*(?P<rest>.*)", re.IGNORECASE)
HEADING = re.compile(r"(#{1,6})\s+(.*?)[\s#]*$")
NUMBER = re.compile(r"(?:\d+[.、)）]\s*)+")

Numbered = tuple[int, str]


class Pair(NamedTuple):
    line: int
    question: str
    answer: str


def read_faq(path: Path, encoding: str | None = None) -> Iterator[Document | BadLine]:
    """The conversations of a file: of a table or JSON as they are, of a text one of each question and its answer.

    What is no question with an answer comes out as a BadLine.
    """
    if not is_plain_text(path):
        yield from read_documents(path, "chat", encoding=encoding)
        return
    lines = list[Numbered]()
    for start, data in read_records(path, encoding=encoding):
        texts = (data or b"").decode("utf-8", "replace").split("\n")
        lines += [*enumerate(texts, start), (start + len(texts), "")]
    marked = any((match := MARK.match(text)) and match["q"] for _, text in lines)
    for line, question, answer in by_marks(lines) if marked else by_headings(lines):
        if question and answer:
            record = {"question": question, "answer": answer}
            yield parse(json.dumps(record, ensure_ascii=False).encode("utf-8", "replace"), str(path), line, False)
        else:
            why = "a question without an answer" if question else "text that belongs to no question"
            yield BadLine(str(path), line, f"{why}: {question or answer:.60}")


def by_marks(lines: list[Numbered]) -> Iterator[Pair]:
    """Lines of `Q:` and `A:`; what follows a mark belongs to it, up to the next mark or heading."""
    start, parts, at = 0, {"q": list[str](), "a": list[str]()}, "a"

    def pair() -> Iterator[Pair]:
        question, answer = ("\n".join(parts[role]).strip() for role in "qa")
        if question or answer:
            yield Pair(start, question, answer)

    for line, text in lines:
        match = MARK.match(text)
        if (match and match["q"]) or (not match and HEADING.match(text)):
            yield from pair()
            start, parts, at = line, {"q": [], "a": []}, "q" if match else "a"
        if match:
            at = "q" if match["q"] else "a"
            rest = match["rest"]
            if match["bold"] and rest.count("**") % 2:  # **Q: how?** or **Q:** how?
                rest = rest.replace("**", "", 1)
            parts[at].append(rest)
        elif not HEADING.match(text):
            parts[at].append(text)
    yield from pair()


def by_headings(lines: list[Numbered]) -> Iterator[Pair]:
    """Headings with a text below. Titles are those of the first level, where there are deeper ones, and any that
    only has headings below it."""
    sections, fenced = [(0, 0, "", list[str]())], False  # level, line, title, text
    for line, text in lines:
        fenced ^= text.lstrip().startswith("```")
        heading = None if fenced else HEADING.match(text)
        if heading:
            sections.append((len(heading[1]), line, NUMBER.sub("", heading[2], count=1).strip("* "), []))
        else:
            sections[-1][3].append(text)
    levels = [level for level, *_ in sections]
    titles = max(levels) > 1
    for (level, line, title, texts), following in zip(sections, [*levels[1:], 0]):
        answer = "\n".join(texts).strip()
        is_title = level == 0 or (titles and level == 1)
        if answer or not (is_title or following > level):
            yield Pair(line, "" if is_title else title, answer)
