"""Which answers become data: what is empty, cut off, refused or said before is left out, and counted by reason.

empty          there is no answer
truncated      it was cut off at its longest length, or repeated itself
refused        the teacher declined, going by how it begins, or the server's filter did
called a tool  it is a call of a tool that nobody offered
duplicate      an earlier answer says the same, but for case, spaces and punctuation
equal          both answers of a pair are the same text
tied           the judge puts no answer above another
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from minimind.tokenizer.messages import Message

SHORT = 32
"""letters and digits; shorter answers, as 42 or Yes, may well be right twice"""

_REFUSAL = re.compile(
    r"(i'm|i am|i apologi[sz]e|sorry|unfortunately)?[^.!?]{0,40}\bi('m| am)? ?"
    r"(can't|cannot|can not|won't|will not|unable to|not able to|not allowed to)"
    r" (help(?! but)|assist|provide|answer|comply|fulfil|do that|create|write|generate|discuss|engage|support)"
    r"|(作为|我是)[^。!?]{0,12}(AI|人工智能|语言模型|助手)[^。!?]{0,16}(不能|无法|没有办法)"
    r"|(很|非常|十分)?(对不起|抱歉)[,。!]?[^。!?]{0,16}(不能|无法|没有办法|不便)"
    r"|我(不能|无法|不便)(回答|提供|帮|协助|满足|讨论|生成)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Selection:
    """What becomes of the answers to a prompt.

    kind  "sft" or "preference"
    best  whether the answers are candidates of which a judge's scores choose
    keep  reasons for which nothing is left out: truncated, refused, duplicate
    """

    kind: str
    best: bool = False
    keep: Sequence[str] = ()

    def choose(self, samples: Sequence[dict[str, Any]]) -> list[dict[str, Any]] | str:
        """The answers that are written, in order, or why none is: all turns, the best, or chosen and rejected."""
        flaws = [self.flaw(sample) for sample in samples]
        if self.best:
            good = [sample for sample, flaw in zip(samples, flaws) if flaw is None and sample["score"] is not None]
            if len(good) < (2 if self.kind == "preference" else 1):
                return next((flaw for flaw in flaws if flaw), "tied")
            best, worst = (pick(good, key=lambda sample: sample["score"]) for pick in (max, min))
            if self.kind == "sft":
                return [best]
            if best["score"] == worst["score"]:
                return "tied"
            samples = [best, worst]
        else:
            # A rejected answer may well be a refusal.
            counted = flaws if self.kind == "sft" else [flaws[0], *(f for f in flaws[1:] if f != "refused")]
            if reason := next(filter(None, counted), None):
                return reason
        if self.kind == "preference" and len({sample["message"]["content"].strip() for sample in samples}) == 1:
            return "equal"
        return list(samples)

    def flaw(self, sample: dict[str, Any]) -> str | None:
        message, reason = sample["message"], sample["stop_reason"]
        if message.get("tool_calls"):
            return "called a tool"
        found = None
        if reason in ("length", "loop"):
            found = "truncated"
        elif not message["content"].strip():
            return "refused" if reason == "content_filter" else "empty"
        elif reason == "content_filter" or is_refusal(message["content"]):
            found = "refused"
        if found in self.keep:
            found = None if message["content"].strip() else "empty"
        return found


def is_refusal(text: str) -> bool:
    """Whether an answer begins by declining."""
    plain = unicodedata.normalize("NFKC", text[:200]).replace("’", "'").strip()
    return _REFUSAL.match(plain) is not None


def essence(text: str) -> str:
    """Letters and digits alone, without case: equal for near duplicates."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))


def record_of(context: Sequence[Message], chosen: Sequence[Message], kind: str) -> dict[str, Any]:
    """A line of data: after every question that has no answer yet comes one, or after the last a pair of them.

    Answers that were there before are no teacher's, and are not trained on.
    """
    if kind == "preference":
        return {side: [*context, answer] for side, answer in zip(("chosen", "rejected"), chosen)}
    answers = iter(chosen)
    messages: list[Message] = []
    for message, following in zip(context, [*context[1:], {"role": "end"}]):
        messages.append({**message, "train": False} if message["role"] == "assistant" else message)
        if message["role"] == "user" and following["role"] != "assistant":
            messages.append(next(answers))
    return {"conversations": messages}
