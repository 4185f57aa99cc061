"""What a model learned and forgot: one set of measurements before and after, and their comparison.

Bits per byte on documents of the domain and of general data, the world's skills where the model has them, and the
answers to questions of a FAQ.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from minimind.data.shards.holdout import holdout
from minimind.data.shards.shard_set import ShardSet
from minimind.data.sources.documents import Document, read_documents
from minimind.eval.paired import bits_changed, bits_per_byte, document_nats, share_changed
from minimind.eval.skills import Score, evaluate, greedy_answers, normal
from minimind.hardware import pick_device
from minimind.infer.engine import Engine
from minimind.model import load_model
from minimind.tokenizer import Tokenizer
from minimind.tokenizer.messages import Message
from minimind.world.questions import questions

MAX_TOKENS = 50_000  # of each sample
SEQ_LEN = 512
ANSWERS = 64  # questions of the FAQ that are asked, of those trained on and of those held out
LONGEST_ANSWER = 256
KNOWS_THE_WORLD = 0.1  # share of right answers from which a model has skills that it could forget


@dataclass(frozen=True)
class Sample:
    """Documents of a data set to be measured, and whether they are held out from training."""

    data: ShardSet
    documents: np.ndarray
    held_out: bool

    def first(self) -> np.ndarray:
        """Those of the first 50,000 tokens."""
        count = int((np.cumsum(self.data.lengths[self.documents]) <= MAX_TOKENS).sum())
        return self.documents[: max(1, count)]


def measure(
    directory: Path, samples: dict[str, Sample], faq: Path | None, held_out: float, per_skill: int, seed: int
) -> dict[str, Any]:
    """Measure a model: nats of each document of each sample, its answers to the FAQ (of which the share `held_out`
    is not trained on), and by skill which of so many questions it answers rightly."""
    device = pick_device()
    model, tokenizer = load_model(directory, device=device), Tokenizer.load(directory)
    seq_len = min(SEQ_LEN, model.config.max_position_embeddings)
    result: dict[str, Any] = {"bits_per_byte": {}, "documents": {}, "answers": [], "skills": None}
    for name, sample in samples.items():
        chosen = sample.first()
        nats, size = document_nats(model, sample.data, chosen, seq_len), sample.data.bytes[chosen]
        result["bits_per_byte"][name] = bits_per_byte(nats, size)
        result["documents"][name] = {"nats": nats.tolist(), "bytes": size.tolist(), "held_out": sample.held_out}
    engine = Engine(model, max_batch=64)
    if faq:
        asked = list(_questions(faq, held_out, seed))
        room = [len(tokenizer.encode_chat(q, add_generation_prompt=True)[0]) for q, *_ in asked]
        asked = [one for one, size in zip(asked, room) if size + LONGEST_ANSWER <= engine.context]
        answers = (
            greedy_answers(engine, tokenizer, [prompt for prompt, *_ in asked], LONGEST_ANSWER) if asked else []
        )
        for (prompt, expected, is_held_out), (text, _) in zip(asked, answers):
            result["answers"].append(
                {"question": prompt, "expected": expected, "held_out": is_held_out, "answer": text}
            )
    if per_skill:
        result["skills"] = evaluate(engine, tokenizer, questions(seed, per_skill), 64).rights
    return result


def _questions(faq: Path, held_out: float, seed: int) -> Iterator[tuple[list[Message], str, bool]]:
    """The first questions that are trained on, then held-out ones: prompt, last answer, whether held out."""
    documents = [item for item in read_documents(faq, "chat") if isinstance(item, Document)]
    is_held_out = holdout(np.array([document.hash for document in documents], np.uint64), held_out, seed)
    for wanted in (False, True):
        chosen = [one for one, is_out in zip(documents, is_held_out) if is_out == wanted]
        for document in chosen[:ANSWERS]:
            messages = document.messages
            last = max(i for i, message in enumerate(messages) if message["role"] == "assistant")
            yield messages[:last], messages[last]["content"], wanted


def compare(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Before, after and change with its 95% interval, of everything that `measure` measured twice."""
    bits = {}
    for name, documents in before["documents"].items():
        nats = documents["nats"], after["documents"][name]["nats"]
        change = bits_changed(*nats, documents["bytes"])
        values = {"before": before["bits_per_byte"][name], "after": after["bits_per_byte"][name]}
        counts = {"documents": len(nats[0]), "held_out": documents["held_out"]}
        bits[name] = {**values, **change._asdict(), **counts}
    skills = compare_skills(before["skills"], after["skills"]) if after["skills"] else {}
    return {
        "bits_per_byte": bits,
        "skills": skills,
        "answers": compare_answers(before["answers"], after["answers"]),
    }


def compare_skills(before: dict[str, list[bool]], after: dict[str, list[bool]]) -> dict[str, dict[str, float]]:
    """Before, after and change with its 95% interval, of each skill and of all questions (`mean`)."""
    compared = {}
    everything = [list(chain.from_iterable(one.values())) for one in (before, after)]
    each = {name: [before[name], after[name]] for name in before}
    for name, (one, other) in {**each, "mean": everything}.items():
        scores = {"before": Score(sum(one), len(one)).accuracy, "after": Score(sum(other), len(other)).accuracy}
        compared[name] = {**scores, **share_changed(one, other)._asdict(), "questions": len(one)}
    return compared


def skill_rows(compared: dict[str, dict[str, float]]) -> list[list[str]]:
    """A row for each skill: before, after, change, its 95% interval, questions."""
    return [
        [
            name,
            f"{one['before']:.1%}",
            f"{one['after']:.1%}",
            f"{one['difference']:+.1%}",
            f"{one['low']:+.1%} to {one['high']:+.1%}",
            f"{one['questions']:,} questions",
        ]
        for name, one in compared.items()
    ]


def compare_answers(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> dict[str, Any]:
    """By whether the questions were held out: the share of answers that are the FAQ's word for word, and how alike
    they are on average (difflib's ratio of matching characters)."""
    found: dict[str, Any] = {}
    for name, wanted in (("trained", False), ("held_out", True)):
        pairs = [(one, other) for one, other in zip(before, after) if one["held_out"] == wanted]
        if not pairs:
            continue
        exact = [[normal(a["answer"]) == normal(a["expected"]) for a in side] for side in zip(*pairs)]
        alike = [sum(map(likeness, side)) / len(pairs) for side in zip(*pairs)]
        scores = {
            "before": Score(sum(exact[0]), len(pairs)).accuracy,
            "after": Score(sum(exact[1]), len(pairs)).accuracy,
        }
        found[name] = {
            "exact": {**scores, **share_changed(*exact)._asdict()},
            "alike": {"before": alike[0], "after": alike[1]},
            "questions": len(pairs),
            "samples": [{**one, "answer_before": one["answer"], "answer": other["answer"]} for one, other in pairs],
        }
    return found


def likeness(answer: dict[str, Any]) -> float:
    return difflib.SequenceMatcher(None, answer["answer"], answer["expected"], autojunk=False).ratio()


def knows_the_world(measured: dict[str, Any]) -> bool:
    """Whether a model has the embedded world's skills, so that it could forget them."""
    rights = list(chain.from_iterable((measured["skills"] or {}).values()))
    return bool(rights) and sum(rights) >= KNOWS_THE_WORLD * len(rights)
