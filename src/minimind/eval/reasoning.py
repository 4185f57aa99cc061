"""What thinking is worth: the same questions answered with thinking and without, greedily."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minimind.data.sources.documents import BadLine, read_documents
from minimind.errors import UserError
from minimind.eval.skills import SkillReport, evaluate, span
from minimind.infer.engine import Engine
from minimind.tokenizer import Tokenizer
from minimind.world.sample import Question, assistant


@dataclass(frozen=True)
class ReasoningReport:
    """The scores without thinking and with it, and how long the thoughts were."""

    off: SkillReport
    on: SkillReport

    def to_dict(self) -> dict[str, Any]:
        return {"off": self.off.to_dict(), "on": self.on.to_dict()}

    def rows(self) -> list[tuple[str, ...]]:
        """A table: a header, and one row per skill."""
        table: list[tuple[str, ...]] = [
            ("skill", "answering at once", "95% interval", "thinking first", "95% interval", "questions")
        ]
        for skill, off in self.off.scores.items():
            on = self.on.scores[skill]
            cells = [cell for score in (off, on) for cell in (f"{score.accuracy:.1%}", span(score.interval))]
            table.append((skill, *cells, str(off.total)))
        return table


def compare(
    engine: Engine, tokenizer: Tokenizer, questions: list[Question], max_tokens: int, budget: int | None = None
) -> ReasoningReport:
    """Ask everything twice; an answer cut off by `max_tokens` is wrong, with its thinking or without."""
    off = evaluate(engine, tokenizer, questions, max_tokens)
    return ReasoningReport(
        off, evaluate(engine, tokenizer, questions, max_tokens, think=True, thinking_budget=budget)
    )


def read_questions(paths: Iterable[Path], most: int, encoding: str | None = None) -> list[Question]:
    """The first prompts, at most so many of each file, that say what a right answer is; a file is one skill.

    Right is an answer that is `gt`, or one short sentence that ends in it. UserError for a file with none of them,
    or with a bad line.
    """
    questions: list[Question] = []
    for path in paths:
        before = len(questions)
        for item in read_documents(path, encoding=encoding):
            if isinstance(item, BadLine):
                raise UserError(f"{item}; mend it or take it out")
            if len(questions) == before + most:
                break
            if item.gt:
                prompt = item.messages[:-1] if item.messages[-1]["role"] == "assistant" else item.messages
                questions.append(Question(path.name.split(".")[0], "", [*prompt, assistant("")], item.gt))
        if len(questions) == before:
            raise UserError(f'{path} has no question with a "gt", which says what the right answer is')
    return questions
