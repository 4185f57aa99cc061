"""Black-box distillation: a student learns from what a teacher says, where its distributions cannot be seen.

Sequence-level knowledge distillation (Kim & Rush 2016, arXiv:1606.07947): the teacher answers prompts, and the
answers are ordinary data for SFT, or pairs of a better and a worse one for DPO.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from minimind.data.distill.journal import Journal, open_journal
from minimind.data.distill.judges import Judge
from minimind.data.distill.parallel import in_parallel
from minimind.data.distill.prompts import Prompt
from minimind.data.distill.select import SHORT, Selection, essence, record_of
from minimind.data.distill.teachers import NotAsked, Teacher, Usage
from minimind.errors import UserError
from minimind.infer.sampler import SETTINGS, SamplingParams
from minimind.tokenizer.messages import Message
from minimind.util.files import whole_file


@dataclass(frozen=True)
class Budget:
    """What is not exceeded; None is no limit. `tokens` may be by what is under way when it is reached."""

    requests: int | None = None
    tokens: int | None = None


@dataclass
class Distillation:
    """Who is asked what, and what becomes of the answers.

    kind                  "sft": every question of a prompt in turn, with the teacher's own answers before it;
                          "preference": its last question, with what the file has before it
    best_of, judge        so many answers to the last question, of which the judge's best is taken (and the worst)
    rejected              who gives the rejected answer of a pair, and how it is sampled
    system                the system message of prompts that have none; written with them unless `hide_system`
    think                 whether the teacher thinks before it answers, if it can be told
    seed                  another one, other answers; None: a server is told none
    """

    teacher: Teacher
    kind: Literal["sft", "preference"] = "sft"
    params: SamplingParams = field(default_factory=SamplingParams)
    best_of: int = 1
    judge: Judge | None = None
    rejected: tuple[Teacher, SamplingParams] | None = None
    system: str = ""
    hide_system: bool = False
    think: bool = False
    seed: int | None = None

    def settings(self) -> dict[str, Any]:
        """All that decides the answers, as the journal keeps it."""
        rejected = self.rejected and {"teacher": self.rejected[0].name, **sampling(self.rejected[1])}
        return {
            "kind": self.kind,
            "teacher": self.teacher.name,
            "rejected": rejected,
            "best_of": self.best_of,
            "judge": self.judge and self.judge.name,
            "system": self.system,
            "think": self.think,
            "seed": self.seed,
            **sampling(self.params),
        }

    def requests(self, prompt: Prompt) -> int:
        """How many requests a prompt takes if none fails."""
        if self.judge is not None:
            return self.best_of * (1 + self.judge.requests)
        questions = sum(message["role"] == "user" for message in self.context(prompt))
        return 2 if self.kind == "preference" else questions

    @property
    def takes_turns(self) -> bool:
        """Whether all questions of a prompt are asked, one after another."""
        return self.kind == "sft" and self.judge is None

    def context(self, prompt: Prompt, hide_system: bool = False) -> list[Message]:
        """What is there before anybody is asked."""
        messages = list(prompt.messages)
        if self.system and not hide_system and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": self.system})
        return [one for one in messages if one["role"] != "assistant"] if self.takes_turns else messages

    def ask(self, prompt: Prompt) -> dict[str, Any]:
        """The journal's record of a prompt: its answers, and what they cost."""
        usage = Usage()
        samples: list[dict[str, Any]] = []
        context = self.context(prompt)

        def sample(messages: list[Message], teacher: Teacher, params: SamplingParams) -> dict[str, Any]:
            if self.seed is not None:
                params = replace(params, seed=seed_of(self.seed, prompt.key, len(samples)))
            answer = teacher.ask(messages, params, self.think)
            usage.add(answer.usage)
            samples.append(
                {"message": answer.message, "stop_reason": answer.stop_reason, "teacher": teacher.name}
                | {"temperature": params.temperature, "seed": params.seed}
            )
            return samples[-1]

        if self.takes_turns:
            messages: list[Message] = []
            for message in context:
                messages.append(message)
                if message["role"] == "user":
                    given = sample(list(messages), self.teacher, self.params)
                    if not given["message"]["content"].strip():
                        break  # there is nothing to go on from
                    messages.append({"role": "assistant", "content": given["message"]["content"]})
        elif self.judge is not None:
            for _ in range(self.best_of):
                given = sample(context, self.teacher, self.params)
                sound = Selection("sft").flaw(given) is None
                given["score"] = self.judge.score(context, given["message"], usage) if sound else None
        else:
            assert self.rejected is not None
            sample(context, self.teacher, self.params)
            sample(context, *self.rejected)
        return {"key": prompt.key, "file": prompt.file, "line": prompt.line, "samples": samples, **vars(usage)}


def sampling(params: SamplingParams) -> dict[str, Any]:
    return {name: getattr(params, name) for name in SETTINGS if name != "seed"}


def seed_of(seed: int, key: str, number: int) -> int:
    """31 bits for the number-th answer to a prompt, whatever else is asked."""
    digest = blake2b(f"{seed} {key} {number}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) >> 1


@dataclass
class Report:
    """What came of it.

    asked         prompts that were answered, now or before
    left_out      prompts whose answers are not written, by reason
    not_asked     prompts that the teacher cannot be asked, with file, line and why
    out_of_budget whether prompts were left because the budget is spent
    """

    prompts: int
    asked: int = 0
    written: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    not_asked: list[str] = field(default_factory=list)
    out_of_budget: bool = False
    usage: Usage = field(default_factory=Usage)


def journal_of(out: Path) -> Path:
    """Where the answers to what is written to `out` are kept."""
    return out.with_name(f"{out.name.removesuffix('.jsonl')}.answers.jsonl")


def distill(
    prompts: Sequence[Prompt],
    task: Distillation,
    out: Path,
    concurrency: int = 8,
    budget: Budget = Budget(),
    keep: Sequence[str] = (),
    stop: threading.Event | None = None,
    on_answer: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Ask the teacher all prompts that the journal beside `out` has no answer to, and write `out` from the journal.

    The lines of `out` are in the order of the prompts, whatever the order of the answers. It is written as well
    when the work ends early: by the budget, or by an error or Ctrl-C, which are raised then.
    """
    if out.suffix != ".jsonl":
        raise UserError(f"{out} is no name of a .jsonl file; give one as --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    stop = threading.Event() if stop is None else stop
    report = Report(len(prompts))
    with open_journal(journal_of(out), task.settings()) as journal:
        wanted = {prompt.key for prompt in prompts}
        for record in journal.records():
            add_usage(report, record)
            report.asked += record["key"] in wanted
        on_answer(report)
        remaining = [prompt for prompt in prompts if prompt.key not in journal]
        before, begun, unplanned = report.usage.requests, 0, 0  # requests: of earlier, expected, and retries

        def within_budget() -> Iterator[Prompt]:
            nonlocal begun
            for prompt in remaining:
                begun += task.requests(prompt)
                if spent(budget, before + begun + unplanned, report.usage.tokens):
                    report.out_of_budget = True
                    return
                yield prompt

        def work(prompt: Prompt) -> dict[str, Any] | NotAsked:
            try:
                return task.ask(prompt)
            except NotAsked as error:
                return error

        try:
            for prompt, found in in_parallel(work, within_budget(), concurrency, stop):
                if isinstance(found, NotAsked):
                    report.not_asked.append(f"{prompt.file}:{prompt.line}: {found}")
                    if len(report.not_asked) > 3 and not report.asked:
                        raise UserError(f"no prompt can be asked; the last one: {found}")
                    continue
                journal.append(found)
                unplanned += found["requests"] - task.requests(prompt)
                add_usage(report, found)
                report.asked += 1
                on_answer(report)
        finally:
            write(prompts, journal, task, out, keep, report)
    return report


def spent(budget: Budget, requests: int, tokens: int) -> bool:
    """Whether so many requests, after so many tokens, are more than the budget allows."""
    return requests > (budget.requests or requests) or tokens >= (budget.tokens or tokens + 1)


def add_usage(report: Report, record: dict[str, Any]) -> None:
    report.usage.add(Usage(*(record[name] for name in vars(report.usage))))


def write(
    prompts: Sequence[Prompt], journal: Journal, task: Distillation, out: Path, keep: Sequence[str], report: Report
) -> None:
    """Write the data from the journal, whole or not at all, and count what is left out."""
    selection = Selection(task.kind, task.judge is not None, keep)
    said: set[bytes] = set()
    with whole_file(out) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
        for prompt in prompts:
            if prompt.key not in journal:
                continue
            chosen = selection.choose(journal[prompt.key]["samples"])
            if not isinstance(chosen, str) and task.kind == "sft" and "duplicate" not in keep:
                text = essence(" ".join(sample["message"]["content"] for sample in chosen))
                digest = blake2b(text.encode(), digest_size=16).digest()
                if len(text) >= SHORT and digest in said:
                    chosen = "duplicate"
                said.add(digest)
            if isinstance(chosen, str):
                report.left_out[chosen] += 1
                continue
            context = task.context(prompt, task.hide_system)
            record = record_of(context, [sample["message"] for sample in chosen], task.kind)
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            report.written += 1
