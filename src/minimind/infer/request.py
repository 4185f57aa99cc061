"""A request on its way from a prompt to a completion: what it has sampled, and what ends it."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from minimind.errors import UserError
from minimind.infer.constraint import Constraint
from minimind.infer.events import End, StopReason, Token
from minimind.infer.repetition import loops
from minimind.infer.sampler import Adjustment, SamplingParams, relative, sample
from minimind.infer.thinking import ThinkingBudget


@dataclass
class Completion:
    """One answer of the model.

    ids           without the token that ended the answer
    logprobs      of each of `ids`, in nats, temperature-scaled and untruncated
    top_logprobs  for each of `ids` the likeliest tokens and theirs, as many as asked for
    stop_id       the token that ended the answer, and its log-probability; None where none did
    """

    ids: list[int]
    stop_reason: StopReason
    logprobs: list[float]
    top_logprobs: list[list[tuple[int, float]]] = field(default_factory=list)
    stop_id: int | None = None
    stop_logprob: float = math.nan


@dataclass(eq=False)
class Request:
    """One prompt on its way to a completion."""

    prompt: list[int]
    params: SamplingParams
    max_tokens: int  # params.max_tokens, or what the context leaves room for
    max_repeats: int
    adjustment: Adjustment
    constraint: Constraint | None
    thinking: ThinkingBudget | None
    adapter: str | None = None  # its name in the engine; None: the base alone
    rng: random.Random = field(init=False)
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top_logprobs: list[list[tuple[int, float]]] = field(default_factory=list)
    stop_reason: StopReason | None = None
    stop_logprob: float = math.nan
    stop_id: int | None = None
    reused: int = 0
    """tokens of the prompt that the prefix cache held"""
    error: Exception | None = None
    """why it ended, where its stop_reason is "error"; it is the request's own, and no other request's concern"""

    def __post_init__(self) -> None:
        self.rng = self.params.rng()

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.ids)

    @property
    def last(self) -> int:
        """The token whose keys and values are computed next."""
        return self.ids[-1] if self.ids else self.prompt[-1]

    @property
    def adjusts(self) -> bool:
        """Whether its next token is sampled from something else than the model's own logits."""
        held = self.constraint is not None and self.constraint.holds
        return self.adjustment.changes or held or (self.thinking is not None and bool(self.thinking.closing))

    def adjusted(self, logits_V: torch.Tensor) -> torch.Tensor:
        """What its next token is sampled from. Where that fails, the request ends and the logits come back."""
        if self.thinking is not None and self.thinking.closing:
            return self.thinking.force(logits_V)
        try:
            adjusted_V = self.adjustment(logits_V)
            return relative(adjusted_V if self.constraint is None else self.constraint.forbid(adjusted_V))
        except Exception as error:
            self.fail(error)
            return logits_V

    def receive(self, token: int, logprob: float, top: list[tuple[int, float]]) -> None:
        """Take the next token, or end."""
        try:
            if math.isnan(logprob):
                raise UserError("the model's output is not finite here; are its weights?")
            self._receive(token, logprob, top)
        except Exception as error:
            self.fail(error)

    def _receive(self, token: int, logprob: float, top: list[tuple[int, float]]) -> None:
        constraint, closing = self.constraint, self.thinking is not None and bool(self.thinking.closing)
        if token in self.params.stop_ids:
            self.stop_reason = "stop" if constraint is None or constraint.followed else "length"
            self.stop_id, self.stop_logprob = token, logprob
            return
        self.ids.append(token)
        self.logprobs.append(logprob)
        self.adjustment.receive(token)
        if self.thinking is not None:
            self.thinking.receive(token)
        if self.params.top_logprobs:
            self.top_logprobs.append(top)
        if constraint is not None and closing:
            constraint.restart()
        elif constraint is not None:
            constraint.receive(token)
            if constraint.finished:
                self.stop_reason = "stop" if constraint.followed else "length"
        if self.stop_reason is None and len(self.ids) == self.max_tokens:
            self.stop_reason = "length"
        if self.stop_reason is None and self.max_repeats and loops(self.ids, self.max_repeats):
            self.stop_reason = "loop"

    def fail(self, error: Exception) -> None:
        """End with an error, which whoever asked is told."""
        self.stop_reason, self.error = "error", error

    def since(self, count: int) -> list[Token | End]:
        """What came after the first `count` tokens: tokens, and the end once it is there."""
        news: list[Token | End] = []
        for i in range(count, len(self.ids)):
            top = self.top_logprobs[i] if self.top_logprobs else ()
            alternatives = tuple(Token(token, logprob=logprob) for token, logprob in top)
            news.append(Token(self.ids[i], logprob=self.logprobs[i], top_logprobs=alternatives))
        if self.stop_reason is not None:
            stop = None if self.stop_id is None else Token(self.stop_id, logprob=self.stop_logprob)
            news.append(End(self.stop_reason, stop))
        return news

    def completion(self) -> Completion:
        """Raises the error that ended it."""
        if self.error is not None:
            raise self.error
        reason = self.stop_reason or "length"
        return Completion(self.ids, reason, self.logprobs, self.top_logprobs, self.stop_id, self.stop_logprob)


def sample_next(requests: Sequence[Request], logits_NV: torch.Tensor) -> None:
    """Sample the next token of each request from its row of the model's logits, and let the request receive it."""
    adjusted_NV = None
    if any(request.adjusts for request in requests):
        rows = zip(requests, logits_NV.float())
        adjusted_NV = torch.stack([r.adjusted(row) if r.adjusts else row for r, row in rows])
    uniforms = [request.rng.random() for request in requests]
    ids_N, logprobs_NV = sample(logits_NV, [request.params for request in requests], uniforms, adjusted_NV)
    chosen_N = logprobs_NV.gather(-1, ids_N[:, None])[:, 0]
    for row, (request, token, logprob) in enumerate(zip(requests, ids_N.tolist(), chosen_N.tolist())):
        if request.error is not None:
            continue
        top: list[tuple[int, float]] = []
        if count := min(request.params.top_logprobs, logprobs_NV.shape[-1]):
            values, ids = logprobs_NV[row].topk(count)
            top = list(zip(ids.tolist(), values.tolist()))
        request.receive(token, logprob, top)
