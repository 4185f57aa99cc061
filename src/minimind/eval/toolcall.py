"""Tool calls: does a model call when it should, in readable JSON, the right tool with the right arguments, and does
it say what came back?

Of conversations with tools, every turn of the assistant that follows the user or a tool is a question: all that
stands before it is the prompt, and what the assistant did there, call or answer, is right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from minimind.data.sources.documents import BadLine, read_documents
from minimind.errors import UserError
from minimind.eval.skills import Score, normal, span, states
from minimind.infer.conversation import message_of
from minimind.infer.engine import Engine
from minimind.infer.sampler import SamplingParams
from minimind.tokenizer import ChatError, Tokenizer, normalize
from minimind.util.json_files import loads
from minimind.world.rng import Rng
from minimind.world.sample import LANGUAGES
from minimind.world.skills import facts, new_tools, tools

MARK = "<tool_call>"
MEASURES = {
    "called": "calls where it should",
    "valid": "only readable calls",
    "name": "the right tools",
    "arguments": "with the right arguments",
    "silent": "no call where it should not",
    "result": "the result in its answer",
}


@dataclass(frozen=True)
class Case:
    """The messages before a turn, the tools, the calls of the turn (objects with name and arguments), and what its
    answer must state: the values of the results before it that it states in the data."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    calls: list[dict[str, Any]]
    stated: tuple[str, ...] = ()


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
        Case(plain[:at], schemas, [_plain(call) for call in message.get("tool_calls", ())], _stated(plain, at))
        for at, message in enumerate(plain)
        if message["role"] == "assistant"
    ]


def _stated(messages: Sequence[dict[str, Any]], at: int) -> tuple[str, ...]:
    """The values of the results just before the turn, as far as the turn states them."""
    if messages[at].get("tool_calls"):
        return ()
    results = list(takewhile(lambda message: message["role"] == "tool", reversed(messages[:at])))
    answer = normal(messages[at]["content"])
    found = [normal(value) for result in results for value in _values(result["content"])]
    return tuple(value for value in dict.fromkeys(found) if value and states(answer, value))


def _values(content: str) -> Iterator[str]:
    """The numbers and texts in a result, which is JSON or one text."""
    try:
        left = [loads(content)]
    except ValueError:
        left = [content]
    while left:
        value = left.pop()
        if isinstance(value, dict | list):
            left += value.values() if isinstance(value, dict) else value
        elif value is not None and not isinstance(value, bool):
            yield str(value)


def world_cases(seed: int, count: int, new: bool = False) -> list[Case]:
    """Held-out questions of the embedded world, half of them in each language: `count` that want a call, as many
    results to put into words, and as many questions that need no tool.

    new  with tools that no training of the world offers; else with arguments that none uses with them
    """
    cases: list[Case] = []
    for at, lang in enumerate(LANGUAGES):
        rng, seen = Rng(seed, "toolcall", "new" if new else "trained", lang), set()
        left = dict.fromkeys(("call", "answer", "none"), (count + at) // 2)
        for _ in range(100 * count):
            if not any(left.values()):
                break
            for case in _draw(rng, lang, new):
                kind = "call" if case.calls else "answer" if case.stated else "none"
                key = kind, tuple(message["content"] for message in case.messages[1:])
                if left[kind] and key not in seen:
                    seen.add(key)
                    left[kind] -= 1
                    cases.append(case)
        if any(left.values()):
            raise UserError(f"the world has no {count} such questions; ask for fewer with --questions")
    return cases


def _draw(rng: Rng, lang: str, new: bool) -> list[Case]:
    if rng.chance(0.3):
        system = new_tools.offer(rng)[1] if new else tools.offer(rng, rng.pick(tools.TOOLS), others=1)
        return cases_of([system, *facts.sample(rng, lang, held_out=True).messages])
    if new:
        return cases_of(new_tools.called(rng, lang))
    return cases_of(tools.sample(rng, lang, held_out=True).messages)[-1:]


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
    Several calls of one turn may come in any order. An answer to results must state those of their values that the
    answer in the data states, and call nothing.
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
        marks = grade(case, answer, completion.stop_reason == "stop")
        for measure, right in marks.items():
            tallies[measure].append(right)
        if len(answers) < keep:
            text = tokenizer.decode(completion.ids, skip_special=False)
            answers.append({"asked": case.messages[-1]["content"], "answer": text, "calls": case.calls, **marks})
    scores = {measure: Score(sum(tally), len(tally)) for measure, tally in tallies.items() if tally}
    return ToolCallReport(scores, len(cases) - len(fitting), answers)


def grade(case: Case, answer: dict[str, Any], ended: bool) -> dict[str, bool]:
    """The measures of one answer, the assistant's message."""
    wanted, calls = case.calls, answer.get("tool_calls", [])
    has_unreadable = MARK in answer["content"]
    if not wanted:
        silent = not calls and not has_unreadable
        said = normal(answer["content"])
        right = {"result": silent and ended and all(states(said, one) for one in case.stated)}
        return {"silent": silent, **(right if case.stated else {})}
    called = ended and bool(calls or has_unreadable)
    valid = called and not has_unreadable
    names = valid and sorted(call["name"] for call in calls) == sorted(call["name"] for call in wanted)
    missing = [call for call in wanted if calls.count(call) < wanted.count(call)]
    return {"called": called, "valid": valid, "name": names, "arguments": names and not missing}
