"""The one generator of tokens: chat, evaluation, server and reinforcement learning all use it.

Continuous batching (Yu et al. 2022, Orca) with prompts read in pieces beside it (Agrawal et al. 2023, Sarathi,
arXiv:2308.16369). A step carries one token of every answer under way and, if prompts wait, a bounded number of
theirs: so a long prompt stops nobody. Requests come and go between any two steps.

A request's prompt is read into a cache of its own, which begins with what is known already of an equal beginning.
Then the request joins a group: answers of about the same length, one a row, which attend together. An answer that
outgrows its group moves to one twice as long.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Literal

import torch

from minimind.errors import UserError
from minimind.infer.constraint import Constraint, Vocabulary
from minimind.infer.network import AttentionSpan, Network, WeightFormat, decode_tokens, prompt_chunk
from minimind.infer.prefix_cache import PrefixCache, common_prefix
from minimind.infer.repetition import loops
from minimind.infer.sampler import SamplingParams, adjust, sample
from minimind.model import Transformer
from minimind.model.kv_cache import KVCache
from minimind.tokenizer import Tokenizer

PREFILL_TOKENS = {"cpu": 256}  # of prompts in one step; a CPU computes no faster with more at once
PREFILL_TOKENS_ELSEWHERE = 2048
SHORTEST_SLOT = 256  # positions
WORTH_WAITING = 32  # tokens that another request is about to read, too, are not read twice

StopReason = Literal["stop", "length", "loop"]


@dataclass
class Completion:
    """What the model said.

    ids           without the token that ended the answer
    stop_reason   "stop": it ended by itself; "length": max_tokens or the context was full; "loop": see max_repeats
    logprobs      of each of `ids`, in nats, temperature-scaled and untruncated
    top_logprobs  for each of `ids` the likeliest tokens and theirs, as many as asked for
    """

    ids: list[int]
    stop_reason: StopReason
    logprobs: list[float]
    top_logprobs: list[list[tuple[int, float]]] = field(default_factory=list)


@dataclass(eq=False)
class Request:
    """One prompt on its way to a completion."""

    prompt: list[int]
    params: SamplingParams
    max_tokens: int  # params.max_tokens, or what the context leaves room for
    max_repeats: int
    rng: random.Random  # one number a token: independent of device, batch and every other generator
    constraint: Constraint | None
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top_logprobs: list[list[tuple[int, float]]] = field(default_factory=list)
    stop_reason: StopReason | None = None
    reused: int = 0
    """tokens of the prompt whose keys were known already"""
    counts: Counter[int] = field(default_factory=Counter)

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.ids)

    @property
    def adjusts(self) -> bool:
        """Whether its tokens are drawn from something else than the model's own logits."""
        p = self.params
        penalized = p.repetition_penalty != 1 or p.presence_penalty != 0 or p.frequency_penalty != 0
        return penalized or bool(p.logit_bias) or self.constraint is not None

    def adjusted(self, logits_V: torch.Tensor) -> torch.Tensor:
        logits_V = adjust(logits_V, self.params, chain(self.prompt, self.ids), self.counts)
        if self.constraint is not None:
            self.constraint.forbid(logits_V)
        return logits_V

    def receive(self, token: int, logprob: float, top: list[tuple[int, float]]) -> None:
        if token in self.params.stop_ids:
            self.stop_reason = "stop"
            return
        self.ids.append(token)
        self.logprobs.append(logprob)
        self.counts[token] += 1
        if self.params.top_logprobs:
            self.top_logprobs.append(top)
        if self.constraint is not None:
            self.constraint.receive(token)
            if self.constraint.finished:
                self.stop_reason = "stop" if self.constraint.followed else "length"
        if self.stop_reason is None and len(self.ids) == self.max_tokens:
            self.stop_reason = "length"
        if self.stop_reason is None and self.max_repeats and loops(self.ids, self.max_repeats):
            self.stop_reason = "loop"


@dataclass(eq=False)
class Prefill:
    """A request whose prompt is being read: the first `done` positions of its cache are filled."""

    request: Request
    cache: KVCache
    done: int


class SlotGroup:
    """Texts under way of up to `length` positions: requests[i] owns row i of the cache. Without any, no memory."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.cache: KVCache | None = None
        self.requests: list[Request] = []

    def add(self, request: Request, memory: torch.Tensor, network: Network) -> None:
        """memory  (L, positions, 2, K, C) of what the request has read and written so far"""
        row = len(self.requests)
        if self.cache is None:
            self.cache = network.cache(1, self.length)
        elif row == self.cache.rows:
            self.cache = self.cache.grown(2 * row)
        self.cache.memory[:, row, : memory.shape[1]] = memory
        self.requests.append(request)

    def memory(self, row: int) -> torch.Tensor:
        """(L, positions, 2, K, C): what row `row` holds; the last token was not read yet."""
        assert self.cache is not None
        return self.cache.memory[:, row, : self.requests[row].length - 1]

    def remove(self, row: int) -> None:
        """The last row moves into its place."""
        if row < len(self.requests) - 1:
            last = self.memory(len(self.requests) - 1)
            assert self.cache is not None
            self.cache.memory[:, row, : last.shape[1]] = last
            self.requests[row] = self.requests[-1]
        self.requests.pop()
        if not self.requests:
            self.cache = None


class Engine:
    """Generates from one model. Not for use by several threads at once."""

    def __init__(
        self,
        model: Transformer,
        max_batch: int = 32,
        tokenizer: Tokenizer | None = None,
        weights: WeightFormat = "full",
        prefill_tokens: int | None = None,
        prefix_bytes: int = 2**28,
        max_repeats: int = 0,
    ) -> None:
        """
        max_batch       most answers under way at once
        tokenizer       the model's; only answers in JSON need it
        weights         "int8": matrices in 8 bits, on a CPU about twice as fast and a little worse
        prefill_tokens  most tokens of prompts in one step; default: 256 on a CPU, else 2048
        prefix_bytes    memory for the beginnings of texts that may come again; 0 = none
        max_repeats     an answer whose last tokens are one block, this many times in a row, ends; 0 = never
        """
        if max_repeats == 1 or max_repeats < 0:
            raise UserError(f"max_repeats must be 0 (never) or at least 2, not {max_repeats}")
        self.source = model
        self.max_batch = max_batch
        self.tokenizer = tokenizer
        self.weights: WeightFormat = weights
        self.max_repeats = max_repeats
        self.prefill_tokens = prefill_tokens or PREFILL_TOKENS.get(
            model.output_weight.device.type, PREFILL_TOKENS_ELSEWHERE
        )
        self.context = model.config.context_length
        self.waiting: deque[Request] = deque()
        self.prefilling: list[Prefill] = []  # the first come first
        self.slot_groups: list[SlotGroup] = []  # the shortest first
        self.prefix_cache = PrefixCache(prefix_bytes)
        self.refresh()

    @property
    def active(self) -> list[Request]:
        """The requests under way."""
        return [
            *(r for group in self.slot_groups for r in group.requests),
            *(one.request for one in self.prefilling),
        ]

    def refresh(self) -> None:
        """Take over the model's present weights; call it after they changed, with no request under way."""
        assert not self.active, "requests under way hold keys of the old weights"
        self.network: Network | None = None  # laid out at the next step
        self.vocabulary: Vocabulary | None = None
        self.prefix_cache = PrefixCache(self.prefix_cache.capacity)

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
        self.waiting.extend(requests)
        try:
            while any(request.stop_reason is None for request in requests):
                self.step()
        finally:
            self.cancel(requests)
        return [Completion(r.ids, r.stop_reason or "length", r.logprobs, r.top_logprobs) for r in requests]

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

    @torch.inference_mode()
    def cancel(self, requests: Sequence[Request]) -> None:
        """Forget those of the requests that have not ended."""
        unfinished = {id(request) for request in requests if request.stop_reason is None}
        self.waiting = deque(request for request in self.waiting if id(request) not in unfinished)
        self.prefilling = [one for one in self.prefilling if id(one.request) not in unfinished]
        # The ended ones are still there only if an exception broke off a step.
        self._free(lambda request: request.stop_reason is not None or id(request) in unfinished)

    @torch.inference_mode()
    def step(self) -> None:
        """Add a token to every answer under way, and read on in the prompts that wait."""
        if self.network is None:
            self.network = Network(self.source, self.weights)
        network = self.network
        tokens: list[int] = []
        positions: list[int] = []
        lengths: list[int] = []
        spans: list[AttentionSpan] = []
        for group in self.slot_groups:
            if group.cache is not None:
                spans.append(decode_tokens(len(tokens), group.cache, [r.length for r in group.requests]))
                tokens += [request.ids[-1] for request in group.requests]
                positions += [request.length - 1 for request in group.requests]
                lengths += [request.length for request in group.requests]
        drawing = [request for group in self.slot_groups for request in group.requests]
        wanted = list(range(len(drawing)))  # the flat tokens whose output is drawn from
        pieces = list(self._prefill_chunks())
        for one, stop in pieces:
            spans.append(prompt_chunk(len(tokens), one.cache, one.done, stop))
            tokens += one.request.prompt[one.done : stop]
            positions += range(one.done, stop)
            lengths += [len(one.request.prompt)] * (stop - one.done)
            if stop == len(one.request.prompt):
                wanted.append(len(tokens) - 1)
                drawing.append(one.request)
        if not tokens:
            return
        hidden_ND = network.hidden(tokens, positions, lengths, spans)
        if len(wanted) < len(tokens):
            hidden_ND = hidden_ND[wanted]
        if drawing:
            self._sample(drawing, network.logits(hidden_ND))
        self._free(lambda request: request.stop_reason is not None)
        for one, stop in pieces:
            one.done = stop
        self._start_decoding(network)
        self._move_to_longer_slots(network)

    def _request(self, prompt: Sequence[int], params: SamplingParams) -> Request:
        room = self.context - len(prompt)
        if not prompt:
            raise UserError("the prompt is empty; give the model at least one token to go on from")
        if room < 1:
            raise UserError(
                f"the prompt has {len(prompt)} tokens, but the model's context is {self.context} tokens and the "
                "answer needs room in it; shorten the prompt"
            )
        constraint = None
        if params.json_schema is not None:
            if self.tokenizer is None:
                raise UserError(
                    "answers in JSON need an engine that knows the tokenizer: Engine(model, tokenizer=…)"
                )
            if self.vocabulary is None:
                self.vocabulary = Vocabulary(self.tokenizer, self.source.config.vocab_size)
            constraint = Constraint(params.json_schema, self.vocabulary)
        max_tokens, rng = min(params.max_tokens, room), random.Random(params.seed)
        return Request(list(prompt), params, max_tokens, self.max_repeats, rng, constraint)

    def _prefill_chunks(self) -> Iterator[tuple[Prefill, int]]:
        """What of the prompts is read in this step, and up to where; new requests are let in for it."""
        left = self.prefill_tokens
        for one in self.prefilling:
            if left:
                stop = min(len(one.request.prompt), one.done + left)
                left -= stop - one.done
                yield one, stop
        for request in list(islice(self.waiting, self.max_batch)):
            if not left or len(self.active) >= self.max_batch:
                break
            if (new := self._admit(request)) is not None:
                stop = min(len(request.prompt), new.done + left)
                left -= stop - new.done
                yield new, stop

    def _admit(self, request: Request) -> Prefill | None:
        """Begin to read a prompt, with what is known of it already; None if it is better to wait a little."""
        assert self.network is not None
        prompt = request.prompt
        # Keys of a text whose positions are stretched by its length are of no use to a text of another length.
        known, text = (0, ()) if self.network.by_length else self.prefix_cache.lookup(prompt)
        if self.prefix_cache.capacity and not self.network.by_length:
            others = (common_prefix(one.request.prompt, prompt) for one in self.prefilling)
            if max(others, default=0) - known >= WORTH_WAITING:
                return None
        one = Prefill(request, self.network.cache(1, len(prompt)), known)
        if known:
            self.prefix_cache.copy(text, known, one.cache)
        request.reused = known
        self.waiting.remove(request)
        self.prefilling.append(one)
        return one

    def _sample(self, requests: list[Request], logits_NV: torch.Tensor) -> None:
        adjusted_NV = None
        if any(request.adjusts for request in requests):
            rows = zip(requests, logits_NV.float())
            adjusted_NV = torch.stack([r.adjusted(row) if r.adjusts else row for r, row in rows])
        rng = [request.rng.random() for request in requests]
        ids_N, logprobs_NV = sample(logits_NV, [request.params for request in requests], rng, adjusted_NV)
        chosen_N = logprobs_NV.gather(-1, ids_N[:, None])[:, 0]
        for row, (request, token, logprob) in enumerate(zip(requests, ids_N.tolist(), chosen_N.tolist())):
            top: list[tuple[int, float]] = []
            if count := min(request.params.top_logprobs, logprobs_NV.shape[-1]):
                values, ids = logprobs_NV[row].topk(count)
                top = list(zip(ids.tolist(), values.tolist()))
            request.receive(token, logprob, top)

    def _start_decoding(self, network: Network) -> None:
        """Requests whose prompts are read go on in a group, and the prompts are remembered."""
        for one in [one for one in self.prefilling if one.done == len(one.request.prompt)]:
            self.prefilling.remove(one)
            memory = one.cache.memory[:, 0]
            if one.request.stop_reason is None:
                self._slot_group(one.request).add(one.request, memory, network)
            if not network.by_length:
                self.prefix_cache.insert(one.request.prompt, memory)

    def _slot_group(self, request: Request) -> SlotGroup:
        """The shortest group in which the request's next token has a place."""
        while not self.slot_groups or self.slot_groups[-1].length < request.length:
            self.slot_groups.append(
                SlotGroup(min(2 * self.slot_groups[-1].length if self.slot_groups else SHORTEST_SLOT, self.context))
            )
        return next(group for group in self.slot_groups if group.length >= request.length)

    def _move_to_longer_slots(self, network: Network) -> None:
        for group in list(self.slot_groups):
            for row in reversed(range(len(group.requests))):
                if (request := group.requests[row]).length > group.length:
                    self._slot_group(request).add(request, group.memory(row), network)
                    group.remove(row)

    def _free(self, leaves: Callable[[Request], bool]) -> None:
        """Take requests out of their slot_groups; what they have read and written is remembered."""
        for group in self.slot_groups:
            for row in reversed(range(len(group.requests))):
                if leaves(request := group.requests[row]):
                    if self.network is not None and not self.network.by_length:
                        memory = group.memory(row)
                        self.prefix_cache.insert([*request.prompt, *request.ids][: memory.shape[1]], memory.clone())
                    group.remove(row)
