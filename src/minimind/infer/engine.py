"""The one generator of tokens: chat, evaluation, server and reinforcement learning all use it.

`generate` in infer/generate.py is the reference: what it samples for a prompt alone, the engine samples in company.

Continuous batching (Yu et al. 2022, Orca) with chunked prefill beside it (Agrawal et al. 2023, Sarathi,
arXiv:2308.16369). A step decodes one token of every active request and, where prompts wait, prefills a bounded
number of their tokens: so a long prompt stops nobody. Requests are admitted and leave between any two steps.

A prompt is prefilled into a KV cache of its own, which begins with what the prefix cache holds of it. Then the
request gets a slot for decoding (see infer/slots.py).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from itertools import chain, islice

import torch

from minimind.errors import UserError
from minimind.hardware import sampling_device
from minimind.infer.adapters import check_name
from minimind.infer.constraint import Constraint, Vocabulary
from minimind.infer.events import End, Token
from minimind.infer.inputs import Inputs
from minimind.infer.network import Network, WeightFormat
from minimind.infer.prefix_cache import PrefixCache, common_prefix
from minimind.infer.request import Completion, Request, sample_next
from minimind.infer.sampler import Adjustment, SamplingParams
from minimind.infer.slots import Prefill, Slots
from minimind.infer.thinking import ThinkingBudget
from minimind.model import Transformer
from minimind.tokenizer import Tokenizer

WORTH_WAITING = 32  # tokens, or a whole prompt, that another request is about to prefill are not computed twice


class Engine:
    """Generates from one model. Several threads may use it: `lock` lets one of them in at a time."""

    def __init__(
        self,
        model: Transformer,
        max_batch: int = 32,
        tokenizer: Tokenizer | None = None,
        weights: WeightFormat = "full",
        prefill_tokens: int | None = None,
        prefix_bytes: int = 2**28,
        max_repeats: int = 0,
        adapters: Mapping[str, Transformer] | None = None,
    ) -> None:
        """
        max_batch       most requests active at once
        tokenizer       the model's; answers in JSON and a thinking_budget need it
        weights         "int8": matrices in 8 bits, on a CPU about twice as fast and a little worse
        prefill_tokens  most tokens of prompts in one step; default: 256 on a CPU, else 2048
        prefix_bytes    memory of the prefix cache; 0 = none
        max_repeats     an answer whose last tokens are one block, this many times in a row, ends; 0 = never
        adapters        by name, what requests may ask for: models of the same shape, of which only the adapters are
                        used, so that the rest may be on the meta device (as `load_adapter` gives them)
        """
        if max_repeats == 1 or max_repeats < 0:
            raise UserError(f"max_repeats must be 0 (never) or at least 2, not {max_repeats}")
        self.source = model
        self.adapters = dict(adapters or {})
        self.max_batch = max_batch
        self.tokenizer = tokenizer
        self.weights: WeightFormat = weights
        self.max_repeats = max_repeats
        self.sampling_device = sampling_device(model.output_weight.device)
        on_cpu = model.output_weight.device.type == "cpu"  # which computes no faster with more tokens at once
        self.prefill_tokens = prefill_tokens or (256 if on_cpu else 2048)
        self.context = model.config.context_length
        self.lock = threading.Lock()
        self.vocabulary: Vocabulary | None = None  # made where an answer has to follow something
        self.vocabulary_lock = threading.Lock()
        self.waiting: deque[Request] = deque()
        self.prefilling: list[Prefill] = []  # the first come first
        self.slots = Slots(self.context)
        self.prefix_cache = PrefixCache(prefix_bytes)
        self.refresh()

    @property
    def active(self) -> list[Request]:
        """The requests that were admitted and have not ended."""
        return self.slots.requests + [prefill.request for prefill in self.prefilling]

    def refresh(self) -> None:
        """Take over the model's present weights; call it after they changed, with no active request."""
        assert not self.active, "active requests hold keys of the old weights"
        self._network: Network | None = None  # laid out at the next step
        self.prefix_cache = PrefixCache(self.prefix_cache.capacity)

    @property
    def network(self) -> Network:
        """The weights as they are computed with."""
        if self._network is None:
            self._network = Network(self.source, self.weights, self.adapters)
        return self._network

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams | Sequence[SamplingParams],
        adapter: str | Sequence[str | None] | None = None,
    ) -> list[Completion]:
        """One completion a prompt, in the order of the prompts, with one adapter for all or one a prompt.

        A request's answer depends on its prompt, params and adapter alone: equal prompts with one seed give equal
        answers. Raises UserError for what of them cannot be used, and what ended a request unasked.
        """
        each = [params] * len(prompts) if isinstance(params, SamplingParams) else list(params)
        assert len(each) == len(prompts), "one SamplingParams for all prompts, or one a prompt"
        names = [adapter] * len(prompts) if adapter is None or isinstance(adapter, str) else list(adapter)
        assert len(names) == len(prompts), "one adapter for all prompts, or one a prompt"
        requests = [self.request(*one) for one in zip(prompts, each, names)]
        self.add(requests)
        try:
            while any(request.stop_reason is None for request in requests):
                self.step()
        finally:
            self.cancel(requests)
        return [request.completion() for request in requests]

    def stream(
        self, prompt: Sequence[int], params: SamplingParams, adapter: str | None = None
    ) -> Generator[Token | End, None, None]:
        """The tokens of one completion as they come, then its end; closing the generator ends the request."""
        request = self.submit(prompt, params, adapter)
        count = 0  # of tokens handed out
        try:
            while True:
                with self.lock:
                    news = request.since(count)  # steps made for other requests bring tokens, too
                count += len(news)
                if request.error is not None:
                    raise request.error
                yield from news
                if news and isinstance(news[-1], End):
                    return
                if not news:
                    self.step()
        finally:
            self.cancel([request])

    def submit(self, prompt: Sequence[int], params: SamplingParams, adapter: str | None = None) -> Request:
        """Queue a request; the following steps fill its `ids` until its `stop_reason` is set."""
        request = self.request(prompt, params, adapter)
        self.add([request])
        return request

    def request(self, prompt: Sequence[int], params: SamplingParams, adapter: str | None = None) -> Request:
        """Make a request, which `add` queues. Steps go on meanwhile: compiling a schema may take long.

        Raises UserError for a prompt, params or an adapter that cannot be used.
        """
        self.check_adapter(adapter)
        room, vocab_size = self.context - len(prompt), self.source.config.vocab_size
        if not prompt:
            raise UserError("the prompt is empty; give the model at least one token to go on from")
        if min(prompt) < 0 or max(prompt) >= vocab_size:
            raise UserError(f"the prompt holds tokens that the model has not; ids go from 0 to {vocab_size - 1}")
        if room < 1:
            raise UserError(
                f"the prompt has {len(prompt)} tokens, but the model's context is {self.context} tokens and the "
                "answer needs room in it; shorten the prompt"
            )
        max_tokens = min(params.max_tokens, room)
        adjustment = Adjustment(params, prompt, vocab_size, self.sampling_device)
        bounds = self._constraint(params), self._thinking_budget(params, prompt)
        return Request(list(prompt), params, max_tokens, self.max_repeats, adjustment, *bounds, adapter)

    def check_adapter(self, name: str | None) -> None:
        """UserError unless requests may ask for the adapter; None: the base alone."""
        check_name(self.adapters, name)

    def _constraint(self, params: SamplingParams) -> Constraint | None:
        if params.json_schema is None and params.offered_tools is None:
            return None
        tokenizer = self._known_tokenizer("answers in JSON need")
        with self.vocabulary_lock:
            if self.vocabulary is None:
                self.vocabulary = Vocabulary(tokenizer, self.source.config.vocab_size)
        return self.vocabulary.constraint(params)

    def _thinking_budget(self, params: SamplingParams, prompt: Sequence[int]) -> ThinkingBudget | None:
        if params.thinking_budget is None:
            return None
        tokenizer = self._known_tokenizer("a thinking_budget needs")
        return ThinkingBudget(tokenizer, params.thinking_budget, prompt)

    def _known_tokenizer(self, needs: str) -> Tokenizer:
        if self.tokenizer is None:
            raise UserError(f"{needs} an engine that knows the tokenizer: Engine(model, tokenizer=…)")
        return self.tokenizer

    def add(self, requests: Sequence[Request]) -> None:
        """Queue requests that `request` made."""
        with self.lock:
            self.waiting.extend(requests)

    @torch.inference_mode()
    def cancel(self, requests: Sequence[Request]) -> None:
        """Evict those of the requests that have not ended."""
        unfinished = {id(request) for request in requests if request.stop_reason is None}
        with self.lock:
            self.waiting = deque(request for request in self.waiting if id(request) not in unfinished)
            self.prefilling = [prefill for prefill in self.prefilling if id(prefill.request) not in unfinished]
            # The ended ones are still there only if an exception broke off a step.
            self._evict(lambda request: request.stop_reason is not None or id(request) in unfinished)

    @torch.inference_mode()
    def step(self) -> None:
        """Decode a token of every request that has a slot, and prefill what waits, in one pass of the network."""
        with self.lock:
            self._step()

    def _step(self) -> None:
        network, inputs = self.network, Inputs()
        chunks = list(self._prefill_chunks())  # first: slots may grow to admit requests
        for group in self.slots.groups:
            if group.cache is not None:
                last, lengths, adapters = zip(*((r.last, r.length, r.adapter) for r in group.requests))
                inputs.decode(group.cache, last, lengths, adapters)
        sampling = self.slots.requests
        wanted = list(range(len(sampling)))  # the flat tokens whose output is sampled from
        for prefill, stop in chunks:
            request = prefill.request
            inputs.prefill(prefill.cache, request.prompt, prefill.done, stop, request.adapter)
            if stop == len(request.prompt):
                wanted.append(len(inputs.tokens) - 1)
                sampling.append(request)
        if not inputs.tokens:
            return
        hidden_ND = network.hidden(inputs)
        if len(wanted) < len(hidden_ND):
            hidden_ND = hidden_ND[wanted]
        if sampling:
            sample_next(sampling, network.logits(hidden_ND).to(self.sampling_device))
        self._evict(lambda request: request.stop_reason is not None)
        for prefill, stop in chunks:
            prefill.done = stop
        self._start_decoding(network)
        self.slots.move_grown(network)

    def _prefill_chunks(self) -> Iterator[tuple[Prefill, int]]:
        """The prompts that this step prefills, and up to where; waiting requests are admitted for it."""
        left = self.prefill_tokens
        for prefill in chain(list(self.prefilling), self._admissions()):
            stop = min(len(prefill.request.prompt), prefill.done + left)
            left -= stop - prefill.done
            yield prefill, stop
            if not left:
                return

    def _admissions(self) -> Iterator[Prefill]:
        """Admit waiting requests one by one, as long as there is room."""
        for request in list(islice(self.waiting, self.max_batch)):
            if len(self.active) >= self.max_batch:
                return
            if (prefill := self._admit(request)) is not None:
                yield prefill

    def _admit(self, request: Request) -> Prefill | None:
        """Begin to prefill a prompt after what the prefix cache holds of it.

        None: waiting a little is better; or all but its last token is there, and the request decodes at once.
        """
        prompt, adapter = request.prompt, request.adapter
        # Keys of a text whose positions are scaled by its length are of no use to a text of another length.
        cached, text = (0, None) if self.network.by_length else self.prefix_cache.lookup(prompt, adapter)
        if text is not None and cached == len(prompt) - 1:
            request.reused = cached
            self.waiting.remove(request)
            self.slots.add(request, self.prefix_cache.read(text, cached), self.network)
            return None
        if self.prefix_cache.capacity and not self.network.by_length:
            others = (other.request for other in self.prefilling if other.request.adapter == adapter)
            shared = max((common_prefix(other.prompt, prompt) for other in others), default=0)
            if shared - cached >= min(WORTH_WAITING, len(prompt) - cached):
                return None
        prefill = Prefill(request, self.network.cache(1, len(prompt)), cached)
        if text is not None:
            prefill.cache.memory[:, 0, :cached] = self.prefix_cache.read(text, cached)
        request.reused = cached
        self.waiting.remove(request)
        self.prefilling.append(prefill)
        return prefill

    def _start_decoding(self, network: Network) -> None:
        """Requests whose prompts are prefilled get slots, and the prefix cache the prompts."""
        for prefill in [one for one in self.prefilling if one.done == len(one.request.prompt)]:
            self.prefilling.remove(prefill)
            request, memory = prefill.request, prefill.cache.memory[:, 0]
            if request.stop_reason is None:
                self.slots.add(request, memory, network)
            if not network.by_length and request.error is None:
                self.prefix_cache.insert(request.prompt, request.adapter, memory)

    def _evict(self, leaves: Callable[[Request], bool]) -> None:
        """Take requests out of their slots; the prefix cache gets their keys and values."""
        for request, memory in self.slots.remove(leaves):
            if request.error is None and not self.network.by_length:
                ids = [*request.prompt, *request.ids][: memory.shape[1]]
                self.prefix_cache.insert(ids, request.adapter, memory)
