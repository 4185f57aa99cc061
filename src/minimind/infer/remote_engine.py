"""An engine behind HTTP: a vLLM or SGLang server samples with the weights of a model that is trained here.

Token ids go in; ids, the reason of the end and log-probabilities come out: it stands in for `infer.engine.Engine`
where episodes are played. The weights go through a directory that both see.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

import torch

from minimind.errors import UserError
from minimind.infer.events import StopReason
from minimind.infer.generate import forward
from minimind.infer.remote import NOT_OURS, Server, ServerError
from minimind.infer.request import Completion
from minimind.infer.sampler import SamplingParams
from minimind.model import Transformer, save_model
from minimind.model.kv_cache import KVCache
from minimind.model.lora import has_lora, merge_lora, unmerge_lora
from minimind.tokenizer import Tokenizer

T = TypeVar("T")

AT_ONCE = 256
"""requests that are under way at the same time"""
RETRIES = 5
"""how often a request is sent again that failed for a moment"""
PROBE = 16
"""tokens that are sampled to see whether a server has the weights"""
LARGEST_DIFFERENCE = 0.1
"""nats a token, on average, between a server's log-probabilities and the model's: bf16 makes a few hundredths"""


class RolloutServer(Protocol):
    """A server's own way of sampling and of loading weights."""

    def complete(self, prompt: Sequence[int], params: SamplingParams) -> Completion:
        """Sample one answer."""

    def reload(self, directory: Path) -> None:
        """Take over the weights in a model directory."""


class VLLM:
    """vLLM, which only in development mode (VLLM_SERVER_DEV_MODE=1) can be told to load weights.

    Its log-probabilities are of temperature 1, unless it was started with --logprobs-mode processed_logprobs.
    """

    def __init__(self, server: Server, model: str) -> None:
        self.server, self.model = server, model

    def complete(self, prompt: Sequence[int], params: SamplingParams) -> Completion:
        body = {
            "model": self.model,
            "prompt": list(prompt),
            "max_tokens": params.max_tokens,
            "temperature": params.temperature,
            # What a model directory's generation_config.json says is the default there.
            "top_p": params.top_p,
            "top_k": params.top_k or -1,
            "min_p": params.min_p,
            "repetition_penalty": params.repetition_penalty,
            "seed": _seed(params),
            "stop_token_ids": list(params.stop_ids),
            "ignore_eos": True,  # but for those
            "logprobs": 0,
            "return_tokens_as_token_ids": True,
        }
        choice = ask(self.server, "/completions", body)["choices"][0]
        ids = [int(token.removeprefix("token_id:")) for token in choice["logprobs"]["tokens"]]
        return to_completion(ids, choice["logprobs"]["token_logprobs"], choice["finish_reason"], params)

    def reload(self, directory: Path) -> None:
        body = {"method": "reload_weights", "kwargs": {"weights_path": str(directory)}}
        native = self.server.native
        try:
            ask(native, "/collective_rpc", body)
            done = ask(native, "/reset_prefix_cache", {})
        except ServerError as error:
            if error.status in (404, 405):
                raise UserError(
                    f"{native.url} cannot load weights; start vLLM with VLLM_SERVER_DEV_MODE=1 in its environment"
                ) from None
            raise
        if done is not None and not done["success"]:
            raise ServerError(f"{native.url} kept keys of the old weights; is somebody else using it?")


class SGLang:
    """SGLang, whose log-probabilities are temperature-scaled unless SGLANG_RETURN_ORIGINAL_LOGPROB is set there."""

    def __init__(self, server: Server) -> None:
        self.server = server.native

    def complete(self, prompt: Sequence[int], params: SamplingParams) -> Completion:
        sampling = {
            "max_new_tokens": params.max_tokens,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "top_k": params.top_k or -1,
            "min_p": params.min_p,
            "repetition_penalty": params.repetition_penalty,
            "sampling_seed": _seed(params),  # which it follows with --enable-deterministic-inference
            "stop_token_ids": list(params.stop_ids),
        }
        body = {"input_ids": list(prompt), "sampling_params": sampling, "return_logprob": True}
        told = ask(self.server, "/generate", body)["meta_info"]
        logprobs, ids = [], []
        for logprob, token, *_ in told["output_token_logprobs"]:
            logprobs.append(logprob)
            ids.append(token)
        return to_completion(ids, logprobs, told["finish_reason"]["type"], params)

    def reload(self, directory: Path) -> None:
        told = ask(self.server, "/update_weights_from_disk", {"model_path": str(directory)})
        if not told["success"]:
            raise ServerError(f"{self.server.url} did not load {directory}: {told['message']}")


def connect(url: str) -> RolloutServer:
    """The server at an address, by what it says of itself."""
    server = Server(url)
    models = ask(server, "/models")["data"]
    owner, name = models[0].get("owned_by"), models[0]["id"]
    if owner not in ("vllm", "sglang"):
        raise UserError(f"{server.url} is served by {owner}; rl.server is one of vLLM or SGLang")
    return VLLM(server, name) if owner == "vllm" else SGLang(server)


def ask(server: Server, path: str, body: dict[str, Any] | None = None) -> Any:
    """What the server answers, asked again where the failure may pass."""
    attempt = 0
    while True:
        attempt += 1
        try:
            return server.ask(path, body)
        except ServerError as error:
            if not error.passes or attempt > RETRIES:
                raise
            time.sleep(error.wait(attempt))


def to_completion(ids: list[int], logprobs: list[float], reason: str, params: SamplingParams) -> Completion:
    """An answer as the engine gives it; the token that ended it stands apart."""
    if len(ids) != len(logprobs) or not ids or not all(math.isfinite(one) for one in logprobs):
        raise ValueError("not a log-probability for each token")
    if reason == "length":
        return Completion(ids, "length", logprobs)
    if reason != "stop" or ids[-1] not in params.stop_ids:
        raise ValueError(f"ended by {reason} at {ids[-1]}")
    return Completion(ids[:-1], "stop", logprobs[:-1], stop_id=ids[-1], stop_logprob=logprobs[-1])


def _seed(params: SamplingParams) -> int | None:
    """Their seeds are signed 64-bit integers."""
    return None if params.seed is None else params.seed & (2**63 - 1)


@dataclass(eq=False)
class RemoteRequest:
    """A prompt on its way to a server and back."""

    prompt: list[int]
    params: SamplingParams
    stop_reason: StopReason | None = None
    answer: Completion | None = None
    error: Exception | None = None

    def completion(self) -> Completion:
        if self.error is not None:
            raise self.error
        assert self.answer is not None
        return self.answer


class RemoteEngine:
    """Samples at a server with the weights of a model here."""

    def __init__(
        self, url: str, model: Transformer, tokenizer: Tokenizer, directory: Path, temperature: float
    ) -> None:
        """
        directory    what the weights are written to and the server loads
        temperature  that is sampled at
        """
        self.url, self.model, self.tokenizer = url, model, tokenizer
        self.directory, self.temperature = directory.absolute(), temperature
        self.server = self._ours(lambda: connect(url))
        self.places = threading.BoundedSemaphore(AT_ONCE)
        self.ended: SimpleQueue[RemoteRequest] = SimpleQueue()

    def refresh(self) -> None:
        """Write the model's weights, an adapter merged into them, have them loaded, and see that they are."""
        layers = merge_lora(self.model) if has_lora(self.model) else {}
        try:
            save_model(self.model, self.directory, self.tokenizer)
        finally:
            if layers:
                unmerge_lora(self.model, layers)
        self._ours(lambda: self.server.reload(self.directory))
        if (off := self.difference()) > LARGEST_DIFFERENCE:
            raise UserError(
                f"{self.url} does not sample with the weights in {self.directory}: its log-probabilities are "
                f"{off:.2f} nats a token off; serve this very model, and at another temperature than 1 start vLLM "
                "with --logprobs-mode processed_logprobs"
            )

    @torch.no_grad()
    def difference(self) -> float:
        """Nats a token between the server's log-probabilities of an answer and the model's own.

        The prompt is gibberish: where a model is sure of its answer, other weights may be as sure of it.
        """
        vocab_size = self.tokenizer.vocab_size
        prompt = list(range(0, vocab_size, max(1, vocab_size // PROBE)))
        params = SamplingParams(
            temperature=self.temperature, top_p=1.0, max_tokens=PROBE, seed=0, stop_ids=self.tokenizer.stop_ids
        )
        done = self._ours(lambda: self.server.complete(prompt, params))
        ids, logprobs = done.ids, done.logprobs
        if done.stop_id is not None:
            ids, logprobs = [*ids, done.stop_id], [*logprobs, done.stop_logprob]
        text, weight = [*prompt, *ids], self.model.output_weight
        cache = KVCache.empty(self.model.config, 1, len(text), self.model.compute_dtype, weight.device)
        hidden_TD = forward(self.model, text[:-1], 0, cache)[len(prompt) - 1 :]
        own_TV = (self.model.logits(hidden_TD).float() / self.temperature).log_softmax(-1).cpu()
        own_T = own_TV.gather(1, torch.tensor(ids)[:, None])[:, 0]
        return float((own_T - torch.tensor(logprobs)).abs().mean())

    def submit(self, prompt: Sequence[int], params: SamplingParams) -> RemoteRequest:
        request = RemoteRequest(list(prompt), params)
        threading.Thread(target=self._answer, args=(request,), name="rollout", daemon=True).start()
        return request

    def step(self) -> None:
        """Wait until a request ends."""
        self.ended.get()

    def cancel(self, requests: Sequence[RemoteRequest]) -> None:
        """Wait no longer for those that have not ended; what the server has begun it ends."""
        for request in requests:
            request.stop_reason = request.stop_reason or "error"

    def _answer(self, request: RemoteRequest) -> None:
        with self.places:
            if request.stop_reason is None:
                try:
                    request.answer = self._ours(lambda: self.server.complete(request.prompt, request.params))
                except Exception as error:
                    request.error = error
        request.stop_reason = "error" if request.answer is None else request.answer.stop_reason
        self.ended.put(request)

    def _ours(self, work: Callable[[], T]) -> T:
        """What `work` makes of the server's answers; ServerError where they have another form."""
        try:
            return work()
        except (*NOT_OURS, LookupError) as error:
            raise ServerError(
                f"{self.url} answers in a form that is not its kind's ({type(error).__name__}: {error})"
            ) from None
