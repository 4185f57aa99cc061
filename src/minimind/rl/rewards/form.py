"""What an answer looks like, whatever it says: its format, its length, its repetitions, its language."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Annotated

from minimind.rl.types import Rollout
from minimind.tokenizer import Tokenizer, parse_assistant
from minimind.tokenizer.parse import CALL, END_CALL, END_THINK, THINK
from minimind.util.typed import Count, Range


def turns(rollout: Rollout) -> Iterator[list[int]]:
    """The ids of each of the model's turns, with those that ended them."""
    at = 0
    for sampled, members in groupby(rollout.mask):
        count = len(list(members))
        if sampled:
            yield rollout.ids[at : at + count]
        at += count


def well_formed(rollouts: Sequence[Rollout], tokenizer: Tokenizer, think: bool) -> list[float]:
    """The share of the model's turns whose markers are in order (see `is_well_formed`), 0 to 1."""
    found = []
    for one in rollouts:
        texts = [tokenizer.decode(ids, skip_special=False) for ids in turns(one)]
        found.append(sum(is_well_formed(text, think) for text in texts) / max(1, len(texts)))
    return found


def is_well_formed(text: str, think: bool) -> bool:
    """Whether thinking is closed once and something follows it, and every tool call can be read.

    think  whether the text begins inside a thought; else it may open one itself, at its beginning
    """
    thoughts = text.count(THINK.text), text.count(END_THINK.text)
    opened = text.lstrip().startswith(THINK.text)
    if thoughts not in ([(0, 1)] if think else [(1, 1)] if opened else [(0, 0)]):
        return False
    parsed = parse_assistant(text, open_thinking=think)
    if not parsed["content"].strip() and not parsed["tool_calls"]:
        return False
    calls = len(parsed["tool_calls"])
    return text.count(CALL.text) == text.count(END_CALL.text) == calls


def length(
    rollouts: Sequence[Rollout], target: Count, tolerance: Annotated[float, Range(0, 100, above=True)] = 1.0
) -> list[float]:
    """How near the number of sampled tokens is to `target`: 1 there, falling evenly to 0 at a distance of
    `tolerance` times the target."""
    return [max(0.0, 1 - abs(one.length - target) / (tolerance * target)) for one in rollouts]


def cosine(
    rollouts: Sequence[Rollout],
    max_tokens: int,
    right_short: float = 2.0,
    right_long: float = 1.0,
    wrong_short: float = -10.0,
    wrong_long: float = 0.0,
    cut_off: float = -10.0,
) -> list[float]:
    """A right answer earns the more, the shorter it is; a wrong one loses the less, the longer it is.

    Yeo et al. 2025 (arXiv:2502.03373, equation 1 and table of defaults): half a cosine over rl.max_tokens from the
    reward of the shortest to that of the longest. An answer is right if it is fully right.
    """
    found = []
    for one in rollouts:
        if one.stop_reason != "stop":
            found.append(cut_off)
            continue
        short, long = (right_short, right_long) if one.prompt.grade(one.text) == 1 else (wrong_short, wrong_long)
        part = min(1.0, one.length / max_tokens)
        found.append(long + 0.5 * (short - long) * (1 + math.cos(math.pi * part)))
    return found


def overlong(rollouts: Sequence[Rollout], max_tokens: int, margin: Count = 8) -> list[float]:
    """0 for answers of up to rl.max_tokens − margin tokens, then falling, to −1 at rl.max_tokens.

    Soft overlong punishment (DAPO: Yu et al. 2025, arXiv:2503.14476, equation 13): an answer that is merely cut off
    says nothing of its thought, but one on the way there can be told to be shorter.
    """
    return [-min(1.0, max(0.0, (one.length - max_tokens + margin) / margin)) for one in rollouts]


def repetition(rollouts: Sequence[Rollout], ngram: Annotated[int, Range(1, 100)] = 3) -> list[float]:
    """Minus the share of an answer's n-grams of tokens that it had before: 0 to above −1."""
    return [-max((repeated(ids, ngram) for ids in turns(one)), default=0.0) for one in rollouts]


def repeated(ids: Sequence[int], n: int) -> float:
    """The share of the n-grams that stand somewhere before."""
    ngrams = [tuple(ids[at : at + n]) for at in range(len(ids) - n + 1)]
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def language(rollouts: Sequence[Rollout], think: bool) -> list[float]:
    """The share of the answer's words that are of the question's script, its thinking included: 0 to 1. Signs and
    digits are of all scripts."""
    found = []
    for one in rollouts:
        asked = scripts(" ".join(m["content"] for m in one.prompt.messages if m["role"] == "user"))
        parsed = parse_assistant(one.text, open_thinking=think)
        said = scripts(parsed["reasoning_content"] + parsed["content"])
        main = max(asked, key=lambda script: asked[script], default="")
        found.append(said[main] / said.total() if main and said else 1.0)
    return found


def scripts(text: str) -> Counter[str]:
    """How many words of each script stand in a text; a Chinese or Japanese sign, of one script here, is a word."""
    found: Counter[str] = Counter()
    for script, letters in groupby(text, _script):
        found[script] += len(list(letters)) if script == "CJK" else 1
    del found[""]
    return found


def _script(character: str) -> str:
    """LATIN, CJK, CYRILLIC, …; nothing for what is no letter."""
    name = unicodedata.name(character, "").split(" ")[0] if character.isalpha() else ""
    return "CJK" if name in ("HIRAGANA", "KATAKANA") else name
