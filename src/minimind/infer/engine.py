"""The one generator of tokens: chat, evaluation, server and reinforcement learning all use it.

Continuous batching (Yu et al. 2022, Orca), in its simple form: the requests under way always fill the first rows
of the key/value cache. One step either reads the prompts of several new requests, or adds one token to every
request under way. When a request ends, the last row moves into its place.
"""

from __future__ import annotations

import copy
import random
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from minimind.data.batch import PADDING
from minimind.errors import UserError
from minimind.infer.sampler import SamplingParams, sample
from minimind.model import Transformer
from minimind.model.kv_cache import KVCache

PREFILL_TOKENS = 2048  # positions of one forward over prompts; on a CPU more is slower (it leaves the cache)
CACHE_BLOCK = 64  # cache lengths are multiples of this, so that memory is not laid out anew at every token


@dataclass
class Completion:
    """What the model said.

    ids          without the token that ended the answer
    stop_reason  "stop": it ended by itself; "length": max_tokens or the context was full
    logprobs     of each of `ids`, in nats, temperature-scaled and untruncated
    """

    ids: list[int]
    stop_reason: Literal["stop", "length"]
    logprobs: list[float]


@dataclass(eq=False)
class Request:
    """One prompt on its way to a completion."""

    prompt: list[int]
    params: SamplingParams
    max_tokens: int  # params.max_tokens, or what the context leaves room for
    luck: random.Random  # one number a token: independent of device, batch and every other generator
    seen: torch.Tensor | None  # (V,) bool, tokens of the text so far; only where there is a repetition penalty
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stop_reason: Literal["stop", "length"] | None = None

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.ids)

    def receive(self, token: int, logprob: float) -> None:
        if token in self.params.stop_ids:
            self.stop_reason = "stop"
            return
        self.ids.append(token)
        self.logprobs.append(logprob)
        if self.seen is not None:
            self.seen[token] = True
        if len(self.ids) == self.max_tokens:
            self.stop_reason = "length"


class Engine:
    """Generates from one model. Not for use by several threads at once."""

    def __init__(self, model: Transformer, max_batch: int = 32) -> None:
        self.source = model
        self.max_batch = max_batch
        self.context = model.config.context_length
        self.waiting: deque[Request] = deque()
        self.active: list[Request] = []  # active[i] owns row i of the cache
        self.refresh()

    def refresh(self) -> None:
        """Take over the model's present weights; call it after they changed, with no request under way."""
        assert not self.active, "requests under way hold keys of the old weights"
        model = self.source
        self.model = model
        if model.output_weight.dtype != model.compute_dtype:  # cast once here instead of at every token
            self.model = copy.deepcopy(model).requires_grad_(False).cast(model.compute_dtype)
        self.device = model.output_weight.device
        self.cache = KVCache.empty(model.config, 1, CACHE_BLOCK, model.compute_dtype, self.device)

    def generate(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams | Sequence[SamplingParams]
    ) -> list[Completion]:
        """One completion a prompt, in the order of the prompts.

        A request's answer depends on its prompt and its params alone: equal prompts with one seed give equal
        answers. Raises UserError for a prompt that leaves no room in the context.
        """
        each = [params] * len(prompts) if isinstance(params, SamplingParams) else list(params)
        assert len(each) == len(prompts), "one SamplingParams for all prompts, or one a prompt"
        requests = [self._request(prompt, p) for prompt, p in zip(prompts, each)]
        # Neighbours in length are read together with little padding; the longest first, so that a lack of memory
        # shows at once.
        self.waiting.extend(sorted(requests, key=lambda request: -request.length))
        try:
            while any(request.stop_reason is None for request in requests):
                self.step()
        finally:
            self.cancel(requests)
        return [Completion(r.ids, r.stop_reason or "length", r.logprobs) for r in requests]

    def stream(self, prompt: Sequence[int], params: SamplingParams) -> Generator[int, None, None]:
        """The ids of one completion as they come; closing the generator ends the request."""
        request = self.submit(prompt, params)
        given = 0  # steps made for other requests bring ids too
        try:
            while given < len(request.ids) or request.stop_reason is None:
                if given == len(request.ids):
                    self.step()
                else:
                    given += 1
                    yield request.ids[given - 1]
        finally:
            self.cancel([request])

    def submit(self, prompt: Sequence[int], params: SamplingParams) -> Request:
        """Queue a request; the following steps fill its `ids` until its `stop_reason` is set."""
        request = self._request(prompt, params)
        self.waiting.append(request)
        return request

    def cancel(self, requests: Sequence[Request]) -> None:
        """Forget those of the requests that have not ended."""
        unfinished = [request for request in requests if request.stop_reason is None]
        self.waiting = deque(request for request in self.waiting if request not in unfinished)
        self._keep([row for row, request in enumerate(self.active) if request not in unfinished])

    @torch.inference_mode()
    @torch.compiler.set_stance("force_eager")  # a training may have compiled the blocks, but for its own shape only
    def step(self) -> None:
        """Read new prompts if there are some and room for them, else add a token to every request under way."""
        free = self.max_batch - len(self.active)
        # A few prompts at once cost little more than one, so wait until a quarter of the rows is free.
        if self.waiting and free >= (self.max_batch + 3) // 4:
            while self.waiting and len(self.active) < self.max_batch:
                self._read_prompts()
        elif self.active:
            self._decode()
        self._keep([row for row, request in enumerate(self.active) if request.stop_reason is None])

    def _request(self, prompt: Sequence[int], params: SamplingParams) -> Request:
        room = self.context - len(prompt)
        if not prompt:
            raise UserError("the prompt is empty; give the model at least one token to go on from")
        if room < 1:
            raise UserError(
                f"the prompt has {len(prompt)} tokens, but the model's context is {self.context} tokens and the "
                "answer needs room in it; shorten the prompt"
            )
        seen = None
        if params.repetition_penalty != 1:
            seen = torch.zeros(self.model.config.vocab_size, dtype=torch.bool)
            seen[list(prompt)] = True
        luck = random.Random(params.seed)
        return Request(list(prompt), params, min(params.max_tokens, room), luck, seen)

    def _read_prompts(self) -> None:
        """Prefill: run waiting prompts through the model, right-padded, and draw each one's first token."""
        first_row, width = len(self.active), 0
        new: list[Request] = []
        while self.waiting and first_row + len(new) < self.max_batch:
            width = max(width, len(self.waiting[0].prompt))
            if new and (len(new) + 1) * width > PREFILL_TOKENS:
                break
            new.append(self.waiting.popleft())
        self.active += new
        width = max(len(request.prompt) for request in new)
        tokens_NT = torch.tensor([r.prompt + [0] * (width - len(r.prompt)) for r in new], device=self.device)
        last_N = torch.tensor([len(request.prompt) - 1 for request in new], device=self.device)
        hidden_ND = torch.empty(len(new), self.model.config.hidden_size, dtype=self.model.compute_dtype)
        hidden_ND = hidden_ND.to(self.device)
        # Long prompts go in pieces, which bounds the memory of the attention scores. Padding writes keys
        # behind a prompt's end, where its answer overwrites them before they are looked at.
        piece = max(PREFILL_TOKENS // len(new), CACHE_BLOCK)
        for start in range(0, width, piece):
            stop = min(start + piece, width)
            positions_NT = torch.arange(start, stop, device=self.device).expand(len(new), -1)
            # Padding is document −1: positions that are stretched by the length of a text must not count it.
            documents_NT = torch.arange(len(new), device=self.device)[:, None].expand_as(positions_NT)
            documents_NT = documents_NT.masked_fill(positions_NT > last_N[:, None], PADDING)
            cache = self._cache_view(first_row, stop)
            hidden_NTD = self.model(tokens_NT[:, start:stop], positions_NT, documents_NT, cache)
            ending = ((last_N >= start) & (last_N < stop)).nonzero()[:, 0]
            hidden_ND[ending] = hidden_NTD[ending, last_N[ending] - start]
        self._draw(new, hidden_ND)

    def _decode(self) -> None:
        """Add one token to every request under way."""
        tokens_N = torch.tensor([request.ids[-1] for request in self.active], device=self.device)
        lengths = [request.length for request in self.active]
        positions_N = torch.tensor(lengths, device=self.device) - 1
        cache = self._cache_view(0, max(lengths))
        hidden_N1D = self.model(tokens_N[:, None], positions_N[:, None], cache=cache)
        self._draw(self.active, hidden_N1D[:, 0])

    def _draw(self, requests: list[Request], hidden_ND: torch.Tensor) -> None:
        logits_NV = self.model.logits(hidden_ND)
        seen_NV = None
        if any(request.seen is not None for request in requests):
            nothing = torch.zeros(logits_NV.shape[-1], dtype=torch.bool)
            seen_NV = torch.stack([nothing if r.seen is None else r.seen for r in requests]).to(self.device)
        luck = [request.luck.random() for request in requests]
        ids_N, logprobs_N = sample(logits_NV, [request.params for request in requests], luck, seen_NV)
        for request, token, logprob in zip(requests, ids_N.tolist(), logprobs_N.tolist()):
            request.receive(token, logprob)

    def _cache_view(self, first_row: int, length: int) -> KVCache:
        """The cache of the active rows from `first_row` on, just long enough, grown if need be."""
        rows, length = len(self.active), -(-length // CACHE_BLOCK) * CACHE_BLOCK
        if rows > self.cache.rows or length > self.cache.length:
            grow = lambda now, wanted: now if wanted <= now else max(wanted, 2 * now)  # noqa: E731
            old, config = self.cache, self.model.config
            self.cache = KVCache.empty(
                config,
                min(grow(old.rows, rows), self.max_batch),
                grow(old.length, length),
                self.model.compute_dtype,
                self.device,
            )
            self.cache.copy_from(old)
        return self.cache.view(first_row, rows, length)

    def _keep(self, rows: list[int]) -> None:
        """Go on with these active rows only: the last of them move to where others left off."""
        kept = set(rows)
        holes = [row for row in range(len(rows)) if row not in kept]
        movers = [row for row in rows if row >= len(rows)]
        if movers:
            self.cache.view(0, len(self.active), max(self.active[row].length for row in movers)).move(movers, holes)
        for hole, mover in zip(holes, movers):
            self.active[hole] = self.active[mover]
        del self.active[len(rows) :]
