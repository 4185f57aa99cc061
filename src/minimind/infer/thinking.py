"""A budget for thinking: after so many tokens the thought is closed, and the model answers with what it has."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from minimind.errors import UserError
from minimind.tokenizer import Tokenizer
from minimind.tokenizer.parse import END_THINK, THINK, marker_ids


class ThinkingBudget:
    """Where one answer stands in its thinking.

    The thinking begins in the prompt, or with the answer's first token where the model opens it. It is closed as
    the chat template does it: a line end, </think>, an empty line. These tokens are sampled like all others, but
    nothing else is allowed in their place.
    """

    def __init__(self, tokenizer: Tokenizer, budget: int, prompt: Sequence[int]) -> None:
        markers = {fragment: token for token, fragment in marker_ids(tokenizer).items()}
        if not markers:
            raise UserError("thinking_budget needs a tokenizer whose <think> and </think> are single tokens")
        self.tokenizer = tokenizer
        self.begin, self.end = markers[THINK], markers[END_THINK]
        last = next((token for token in reversed(prompt) if token in (self.begin, self.end)), self.end)
        self.left: int | None = budget if last == self.begin else None
        """tokens of thinking that are left; None outside of it"""
        self.may_begin = self.left is None
        self.budget = budget
        self.closing: list[int] = []
        """the tokens that must come next"""

    def force(self, logits_V: torch.Tensor) -> torch.Tensor:
        """The logits, −inf for all but the token that must come next."""
        forced_V = torch.full_like(logits_V, -torch.inf)
        forced_V[self.closing[0]] = 0.0
        return forced_V

    def receive(self, token: int) -> None:
        """The answer has grown by a token."""
        if self.closing:
            self.closing.pop(0)
            return
        if self.left is None:
            if token == self.begin and self.may_begin:
                self.left = self.budget
            self.may_begin = False
        elif token == self.end:
            self.left = None
        else:
            self.left -= 1
            if not self.left:
                self.left = None
                line_end = [] if self.tokenizer.decode([token]).endswith("\n") else self.tokenizer.encode("\n")
                self.closing = [*line_end, self.end, *self.tokenizer.encode("\n\n")]
