"""Which thinking of conversations is learned: some is left out, and what is too long is not trained on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from minimind.data.shards.holdout import holdout
from minimind.data.sources.documents import Document
from minimind.tokenizer.messages import Message, split_reasoning

if TYPE_CHECKING:
    from minimind.tokenizer import Tokenizer


@dataclass(frozen=True)
class Thoughts:
    """What becomes of the thinking in a conversation, before it is tokenized.

    empty       share of the conversations whose assistant answers without thinking: drawn by content and seed, so a
                conversation stays what it is when others are added
    max_tokens  a conversation in which a thought has more tokens is left out
    """

    empty: float = 0.0
    max_tokens: int = 2**31
    seed: int = 0

    def of(self, document: Document, tokenizer: Tokenizer) -> Document | None:
        """The conversation as it is learned; None where it is not."""
        messages = [split_reasoning(message) for message in document.messages]
        thoughts = [message["reasoning_content"] for message in messages if message.get("reasoning_content")]
        if not thoughts:
            return document
        # Another seed than that of the documents held out: else those would be answered without thinking first.
        if holdout(np.array([document.hash], np.uint64), self.empty, self.seed + 2**32)[0]:
            return dataclasses.replace(document, messages=[_without_thought(message) for message in messages])
        if any(len(tokenizer.encode(thought)) > self.max_tokens for thought in thoughts):
            return None
        return document


def _without_thought(message: Message) -> Message:
    """A message that only thinks stays as it is: else nothing would be left of it."""
    return {**message, "reasoning_content": ""} if message["content"] or message.get("tool_calls") else message
