"""Marks from 1 to 10 that a model gives to an answer (Zheng et al. 2023, arXiv:2306.05685, 3.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from minimind.infer.sampler import SamplingParams
from minimind.tokenizer.messages import Message

QUESTION = """\
Below is a conversation, and a possible answer to its last message. How good is the answer: right, helpful, clear,
in the language of the question? Say nothing but one whole number from 1 (useless) to 10 (could not be better).

[conversation]
{conversation}

[answer]
{answer}

[mark from 1 to 10]
"""
MARKING = SamplingParams(temperature=0.0, top_p=1.0, max_tokens=16)
"""of the judge's own answer"""


def ask_for_mark(messages: Sequence[Message], answer: str) -> str:
    """The question to the judge."""
    said = "\n".join(f"{message['role']}: {message['content']}" for message in messages)
    return QUESTION.format(conversation=said, answer=answer)


def read_mark(text: str) -> float | None:
    """The first number of its answer; None where that is no mark."""
    found = re.search(r"\d+(\.\d+)?", text)
    return float(found[0]) if found and 1 <= float(found[0]) <= 10 else None
