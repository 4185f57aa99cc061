"""Tool calls: does a model call when it should, in readable JSON, the right tool, with the right arguments?

Of conversations with tools, every turn of the assistant that follows the user or a tool is a question: all that
stands before it is the prompt, and what the assistant did there, call or answer, is right.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minimind.data.sources.documents import BadLine, read_documents
from minimind.errors import UserError
from minimind.eval.skills import Score, span
from minimind.infer.conversation import message_of
from minimind.infer.engine import Engine
from minimind.infer.sampler import SamplingParams
from minimind.tokenizer import ChatError, Tokenizer, normalize
from minimind.util.json_files import loads
from minimind.world.rng import Rng
from minimind.world.sample import LANGUAGES
from minimind.world.skills import tools

MARK = "<tool_call>"
MEASURES = {
    "called": "calls where it should",
    "valid": "only readable calls",
    "name": "the right tools",
    "arguments": "with the right arguments",
    "silent": "no call where it should not",
}


@dataclass(frozen=True)
class Case:
    """The messages before a turn, the tools, and the calls of the turn: objects with name and arguments."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    calls: list[dict[str, Any]]


def read_cases(paths: Iterable[Path], encoding: str | None = None) -> list[Case]:
    """The turns of all conversations that offer tools. UserError for a file with none, or with a bad line."""
    cases = []
    for path in paths:
        from_file: list[Case] = []
        for document in read_documents(path, encoding=encoding):
            if isinstance(document, BadLine):
                raise UserError(f"{document}; mend it or take it out")
            try:
                from_file += cases_of(document.messages, document.tools)
            except ChatError as error:
                raise UserError(f"{document.file}:{document.line}: {error}") from None
        if not from_file:
            raise UserError(f"{path} has no conversation with tools; see the data formats for how they are offered")
        cases += from_file
    return cases


def cases_of(messages: Sequence[dict[str, Any]], offered: Any = None) -> list[Case]:
    """The questions of one conversation in the published schema; none where it has no tools. Raises ChatError."""
    plain, schemas = normalize(messages, offered)
    if not schemas:
        return []
    return [
        Case(plain[:at], schemas, [_plain(call) for call in message.get("tool_calls", ())])
        for at, message in enumerate(plain)
        if message["role"] == "assistant"
    ]


def world_cases(seed: int, count: int) -> list[Case]:
    """Held-out questions of the embedded world that want a call, half of them in each language."""
    cases: list[Case] = []
    for at, lang in enumerate(LANGUAGES):
        rng, seen = Rng(seed, "toolcall", lang), set()
        wanted = len(cases) + (count + at) // 2
        for _ in range(100 * count):
            if len(cases) == wanted:
                break
            one = tools.sample(rng, lang, held_out=True)
            if one.check == "tool_call" and one.messages[-2]["content"] not in seen:
                seen.add(one.messages[-2]["content"])
                cases += cases_of(one.messages)
        if len(cases) < wanted:
            raise UserError(f"the world has no {count} such questions; ask for fewer with --questions")
    return cases


def _plain(call: dict[str, Any]) -> dict[str, Any]:
    arguments = call["arguments"]
    return {**call, "arguments": loads(arguments) if isinstance(arguments, str) else arguments}


@dataclass(frozen=True)
class ToolCallReport:
    """scores: by measure (see MEASURES); too_long: questions that were left out, as the context cannot hold them;
    answers: the first few, right or wrong"""

    scores: dict[str, Score]
    too_long: int
    answers: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        scores = {measure: score.to_dict() for measure, score in self.scores.items()}
        return {"scores": scores, "too_long": self.too_long, "answers": self.answers}

    def rows(self) -> list[tuple[str, ...]]:
        table: list[tuple[str, ...]] = [("tool calls", "share", "95% interval", "turns")]
        for measure, score in self.scores.items():
            table.append((MEASURES[measure], f"{score.accuracy:.1%}", span(score.interval), str(score.total)))
        return table


def evaluate(
    engine: Engine, tokenizer: Tokenizer, cases: Sequence[Case], max_tokens: int = 256, keep: int = 10
) -> ToolCallReport:
    """Answer all cases greedily in one batch. An answer cut off by `max_tokens` made no call.

    Each measure of a call asks for those before it too: the right arguments count with the right names only.
    Several calls of one turn may come in any order.
    """
    prompts = [tokenizer.encode_chat(case.messages, case.tools, add_generation_prompt=True)[0] for case in cases]
    fitting = [at for at, prompt in enumerate(prompts) if len(prompt) + 1 < engine.context]
    if not fitting:
        raise UserError(f"no conversation fits into the model's context of {engine.context} tokens")
    params = SamplingParams(temperature=0.0, max_tokens=max_tokens, stop_ids=tokenizer.stop_ids)
    completions = engine.generate([prompts[at] for at in fitting], params)
    tallies: dict[str, list[bool]] = {measure: [] for measure in MEASURES}
    answers: list[dict[str, Any]] = []
    for at, completion in zip(fitting, completions):
        case = cases[at]
        answer = message_of(completion.ids, tokenizer)
        marks = grade(case.calls, answer, completion.stop_reason == "stop")
        for measure, right in marks.items():
            tallies[measure].append(right)
        if len(answers) < keep:
            text = tokenizer.decode(completion.ids, skip_special=False)
            answers.append({"asked": case.messages[-1]["content"], "answer": text, "calls": case.calls, **marks})
    scores = {measure: Score(sum(tally), len(tally)) for measure, tally in tallies.items() if tally}
    return ToolCallReport(scores, len(cases) - len(fitting), answers)


def grade(wanted: list[dict[str, Any]], answer: dict[str, Any], ended: bool) -> dict[str, bool]:
    """The measures of one answer, the assistant's message."""
    calls, has_unreadable = answer.get("tool_calls", []), MARK in answer["content"]
    if not wanted:
        return {"silent": not calls and not has_unreadable}
    called = ended and bool(calls or has_unreadable)
    valid = called and not has_unreadable
    names = valid and sorted(call["name"] for call in calls) == sorted(call["name"] for call in wanted)
    missing = [call for call in wanted if calls.count(call) < wanted.count(call)]
    return {"called": called, "valid": valid, "name": names, "arguments": names and not missing}
