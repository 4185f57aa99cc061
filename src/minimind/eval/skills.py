"""Skill evaluation: held-out questions of the embedded world, answered greedily and graded strictly."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from minimind.infer.engine import Engine
from minimind.infer.request import Completion
from minimind.infer.sampler import SamplingParams
from minimind.tokenizer import Tokenizer, parse_assistant
from minimind.world.sample import Message, Question, assistant, user

# Grading

LONGEST_ANSWER = 160  # characters; no right answer is near it, and a model that lists everything gains nothing
SENTENCE_ENDS = ".!?。！？"
# The words that may stand before a short Chinese answer at the end of a sentence (Chinese has no spaces to tell).
BEFORE_VALUE = set("是为叫作成于到在有用")


def normal(text: str) -> str:
    """The text without differences of width, case, spacing, quotation marks and closing punctuation."""
    text = re.sub(r"[\"“”「」]", "", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(text.split()).rstrip(SENTENCE_ENDS + " ")


def _is_cjk(character: str) -> bool:
    return "\u4e00" <= character <= "\u9fff"


def _ends_in(text: str, value: str) -> bool:
    """Whether one short sentence ends in the value, as a whole word or number."""
    before = text.removesuffix(value)
    if before == text or len(text) > LONGEST_ANSWER or re.search(rf"[{SENTENCE_ENDS}]", before):
        return False
    last = before[-1:]
    if _is_cjk(last):
        return last in BEFORE_VALUE or not _is_cjk(value[0])
    return not (last.isalnum() or last in "-_'")


def states(text: str, value: str) -> bool:
    """Whether the value stands in the text as a whole word or number."""
    if _is_cjk(value[0]):
        return value in text
    return re.search(rf"(?<![0-9a-z-])(?<!\d[.,:]){re.escape(value)}(?![0-9a-z])(?![.,:]\d)", text) is not None


def _is_list(text: str, members: set[str], count: int) -> bool:
    items = [normal(item) for item in re.split(r",|、| and |和", text) if item.strip()]
    return len(items) == count == len(set(items)) and members.issuperset(items)


def grade(question: Question, text: str, open_thinking: bool = False) -> bool:
    """Whether the text is a right answer; see `Sample` for the checks. `open_thinking`: it begins inside a thought,
    which does not count."""
    parsed = parse_assistant(text, open_thinking=open_thinking)
    if question.check == "tool_call":
        return parsed["tool_calls"] == [json.loads(question.gt[0])]
    content = parsed["content"].strip()
    if parsed["tool_calls"] or not content:
        return False
    answer, right = normal(content), [normal(value) for value in question.gt]
    match question.check:
        case "exact":
            return answer in right
        case "answer":
            return answer in right or any(_ends_in(answer, value) for value in right)
        case "states":
            return len(answer) <= LONGEST_ANSWER and all(states(answer, value) for value in right)
        case "list":
            return _is_list(answer, set(right), question.count)
        case "sentence":
            ends = re.findall(rf"[{SENTENCE_ENDS}\n]", content)
            return len(ends) == 1 and content[-1] == ends[0] and all(states(answer, value) for value in right)
    raise ValueError(f"no such check: {question.check}")


# The report


@dataclass(frozen=True)
class Score:
    """`right` answers out of `total`."""

    right: int
    total: int

    @property
    def accuracy(self) -> float:
        return self.right / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the accuracy (Wilson 1927)."""
        z, n, p = 1.959964, self.total, self.accuracy
        center = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, center - half), min(1.0, center + half)

    def to_dict(self) -> dict[str, Any]:
        low, high = self.interval
        return {"accuracy": self.accuracy, "low": low, "high": high, "right": self.right, "total": self.total}


@dataclass(frozen=True)
class SkillReport:
    """scores: by skill; languages: by skill and language; answers: the first few of each skill, right or wrong;
    stopped: the share of answers that ended with the end token before the limit; thought_tokens: the mean length of
    the thinking before an answer; rights: by skill, which questions were answered rightly, in their order."""

    scores: dict[str, Score]
    languages: dict[str, dict[str, Score]]
    stopped: float
    answers: list[dict[str, Any]] = field(default_factory=list)
    thought_tokens: float = 0.0
    rights: dict[str, list[bool]] = field(default_factory=dict)

    @property
    def macro(self) -> float:
        """The mean of the skills' accuracies."""
        return sum(score.accuracy for score in self.scores.values()) / len(self.scores)

    @property
    def macro_interval(self) -> tuple[float, float]:
        """The 95% interval of the mean, from the skills' intervals (square-and-add, Zou and Donner 2008)."""
        below = above = 0.0
        for score in self.scores.values():
            low, high = score.interval
            below += (score.accuracy - low) ** 2
            above += (high - score.accuracy) ** 2
        k = len(self.scores)
        return self.macro - math.sqrt(below) / k, self.macro + math.sqrt(above) / k

    def to_dict(self) -> dict[str, Any]:
        low, high = self.macro_interval
        skills = {
            skill: score.to_dict()
            | {"languages": {lang: one.to_dict() for lang, one in self.languages[skill].items()}}
            for skill, score in self.scores.items()
        }
        macro = {"accuracy": self.macro, "low": low, "high": high}
        thought = {"thought_tokens": self.thought_tokens} if self.thought_tokens else {}
        return {"macro": macro, "stopped": self.stopped, **thought, "skills": skills, "answers": self.answers}

    def rows(self) -> list[tuple[str, ...]]:
        """A table: a header, one row per skill (accuracy, 95% interval, by language, questions), and the mean."""
        langs = sorted({lang for by_lang in self.languages.values() for lang in by_lang})
        table: list[tuple[str, ...]] = [("skill", "accuracy", "95% interval", *langs, "questions")]
        for skill, score in self.scores.items():
            by_lang = [self.languages[skill].get(lang) for lang in langs]
            cells = [f"{one.accuracy:.1%}" if one else "" for one in by_lang]
            table.append((skill, f"{score.accuracy:.1%}", span(score.interval), *cells, str(score.total)))
        total = sum(score.total for score in self.scores.values())
        table.append(("mean", f"{self.macro:.1%}", span(self.macro_interval), *("" for _ in langs), str(total)))
        return table


def span(interval: tuple[float, float]) -> str:
    """An interval of shares in words."""
    return f"{interval[0]:.1%} to {interval[1]:.1%}"


# Running


def greedy_answers(
    engine: Engine,
    tokenizer: Tokenizer,
    prompts: list[list[Message]],
    max_tokens: int,
    think: bool = False,
    thinking_budget: int | None = None,
) -> list[tuple[str, Completion]]:
    """The greedy answer to each conversation, in one batch. Control tokens stay in the text: tool calls are made of
    them, and a stray one makes an answer wrong."""
    ids = [tokenizer.encode_chat(one, add_generation_prompt=True, open_thinking=think)[0] for one in prompts]
    params = SamplingParams(
        temperature=0.0, max_tokens=max_tokens, stop_ids=tokenizer.stop_ids, thinking_budget=thinking_budget
    )
    completions = engine.generate(ids, params)
    return [(tokenizer.decode(one.ids, skip_special=False).strip(), one) for one in completions]


def evaluate(
    engine: Engine,
    tokenizer: Tokenizer,
    questions: list[Question],
    max_tokens: int = 96,
    keep: int = 5,
    think: bool = False,
    thinking_budget: int | None = None,
) -> SkillReport:
    """Answer all questions greedily and grade them; an answer cut off by `max_tokens` is wrong. The first `keep`
    answers of each skill and language stand in the report. `think`: the model thinks before each answer, for
    `thinking_budget` tokens at most."""
    tallies: dict[str, dict[str, list[bool]]] = {}
    kept: list[dict[str, Any]] = []
    stopped = thought = 0
    prompts = [question.prompt for question in questions]
    answers = greedy_answers(engine, tokenizer, prompts, max_tokens, think, thinking_budget)
    for question, (text, completion) in zip(questions, answers):
        ended = completion.stop_reason == "stop"
        right = ended and grade(question, text, think)
        if think:
            thought += len(tokenizer.encode(parse_assistant(text, open_thinking=True)["reasoning_content"]))
        stopped += ended
        tally = tallies.setdefault(question.skill, {}).setdefault(question.lang, [])
        tally.append(right)
        if len(tally) <= keep:
            asked = {"skill": question.skill, "lang": question.lang, "question": question.prompt[-1]["content"]}
            kept.append(asked | {"answer": text, "right": right, "ended": ended, "gt": question.gt})
    languages = {
        skill: {lang: Score(sum(tally), len(tally)) for lang, tally in by_lang.items()}
        for skill, by_lang in tallies.items()
    }
    scores = {
        skill: Score(sum(one.right for one in by_lang.values()), sum(one.total for one in by_lang.values()))
        for skill, by_lang in languages.items()
    }
    rights = {skill: [*chain.from_iterable(by_lang.values())] for skill, by_lang in tallies.items()}
    return SkillReport(scores, languages, stopped / len(questions), kept, thought / len(questions), rights)


# Chosen before any model was trained and never afterwards: what the user says, turn by turn.
DIALOGUES: tuple[tuple[str, ...], ...] = (
    ("Hello! Who are you?", "Who made you?", "Are you a human?"),
    ("你好！你是谁？", "谁训练了你？", "你会做什么？"),
    ("My name is Ella and I live in Rome.", "What is 36 + 47?", "What is my name?"),
    ("我叫小雪，我最喜欢的水果是芒果。", "日本的首都是哪里？", "我最喜欢什么水果？"),
    ("Tell me a story about a fox.",),
    ("给我讲个故事。",),
    ("How many legs does a spider have?", 'How do you say "spider" in Chinese?', "Reverse: 4 7 1 9"),
    ("黄金的颜色是什么？", "倒序：春 夏 秋 冬", "谢谢！"),
)


def sample_dialogues(engine: Engine, tokenizer: Tokenizer, max_tokens: int = 160) -> list[list[Message]]:
    """The fixed dialogues, each turn answered greedily with the model's own earlier answers before it.

    A dialogue ends early when it no longer fits the context, as the endless answers of a base model may do.
    """
    talks: list[list[Message]] = [[] for _ in DIALOGUES]
    for turn in range(max(map(len, DIALOGUES))):
        asked = {}
        for i, texts in enumerate(DIALOGUES):
            if turn < len(texts) and len(talks[i]) == 2 * turn:
                talk = [*talks[i], user(texts[turn])]
                if len(tokenizer.encode_chat(talk, add_generation_prompt=True)[0]) + max_tokens <= engine.context:
                    asked[i] = talk
        answers = greedy_answers(engine, tokenizer, list(asked.values()), max_tokens)
        for (i, talk), (text, _) in zip(asked.items(), answers):
            talks[i] = [*talk, assistant(text)]
    return talks
