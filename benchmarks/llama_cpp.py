"""llama.cpp itself, in this process: what it makes of a GGUF file."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import torch
from xllamacpp import CommonParams, Server, ggml_type, llama_flash_attn_type


class LlamaCpp:
    """A model opened by llama.cpp: exact, with an f32 cache and without flash attention, or as fast as it can."""

    def __init__(
        self, path: Path, context: int = 256, parallel: int = 1, threads: int = 1, exact: bool = True
    ) -> None:
        """`context`: positions of each of the `parallel` texts that are written at once."""
        params = CommonParams()
        params.model.path = str(path)
        params.n_ctx = parallel * context
        params.n_parallel = parallel
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        if exact:
            params.cache_type_k = params.cache_type_v = ggml_type.GGML_TYPE_F32
            params.flash_attn_type = llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.warmup = False
        params.verbosity = -1
        params.port = 0
        self.server = Server(params)

    def post(self, endpoint: str, **body: Any) -> Any:
        request = urllib.request.Request(self.server.listening_address + endpoint, json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def get(self, endpoint: str) -> Any:
        with urllib.request.urlopen(self.server.listening_address + endpoint) as answer:
            return json.load(answer)

    def tokenize(self, text: str, special: bool = True) -> list[int]:
        return self.post("/tokenize", content=text, add_special=True, parse_special=special)["tokens"]

    def log_probabilities(self, ids: list[int], vocab_size: int) -> torch.Tensor:
        """(V,): of the token after `ids`."""
        # The server says nothing of a token that ends the text or is half a character. A bias changes what is taken
        # and not the probabilities.
        bias = [[self.tokenize("a")[0], 1e6]]
        answer = self.post(
            "/completion",
            prompt=ids,
            n_predict=1,
            n_probs=vocab_size,
            temperature=0,
            cache_prompt=False,
            logit_bias=bias,
        )
        top = answer["completion_probabilities"][0]["top_logprobs"]
        logprobs = torch.full((vocab_size,), torch.nan)
        logprobs[[entry["id"] for entry in top]] = torch.tensor([entry["logprob"] for entry in top])
        return logprobs

    def greedy(self, ids: list[int], count: int) -> list[int]:
        """The likeliest `count` tokens, one after the other, or fewer where it stops."""
        return self.post("/completion", prompt=ids, n_predict=count, temperature=0, return_tokens=True)["tokens"]

    def render(self, messages: list[dict[str, Any]], **options: Any) -> str:
        return self.post("/apply-template", messages=messages, **options)["prompt"]
