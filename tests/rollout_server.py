"""Servers that answer as vLLM and SGLang do, over real HTTP; behind them is our own engine.

Requests are answered one after another, so that an answer depends on its request alone, to the last bit.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from minimind.infer.engine import Engine
from minimind.infer.request import Completion
from minimind.infer.sampler import SamplingParams
from minimind.infer.score import score
from minimind.model import Transformer, load_model


class RolloutServer(ThreadingHTTPServer):
    """
    kind    vllm or sglang
    fails   so many of the next requests for answers get status 500
    loads   whether it takes over weights when it is told to
    raw     its log-probabilities are of temperature 1, whatever it samples at
    dev     whether it can be told to load weights
    """

    def __init__(self, kind: str, model: Transformer, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.kind, self.owner = kind, kind
        self.fails, self.loads, self.raw, self.dev = 0, True, False, True
        self.asked: list[str] = []
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.use(model)

    def use(self, model: Transformer) -> None:
        self.engine = Engine(model, prefix_bytes=0)

    def load(self, directory: str) -> None:
        if self.loads:
            self.use(load_model(Path(directory)))

    def complete(self, prompt: list[int], params: SamplingParams) -> tuple[list[int], list[float], Completion]:
        done = self.engine.generate([prompt], params)[0]
        ids, logprobs = done.ids, done.logprobs
        if done.stop_id is not None:
            ids, logprobs = [*ids, done.stop_id], [*logprobs, done.stop_logprob]
        if self.raw:
            tokens = [token for chunk in score(self.engine, [*prompt, *ids], 0) for token in chunk]
            logprobs = [token.logprob for token in tokens[len(prompt) :]]
        return ids, logprobs, done


class Handler(BaseHTTPRequestHandler):
    server: RolloutServer

    def do_GET(self) -> None:
        self.reply(200, {"object": "list", "data": [{"id": "policy", "owned_by": self.server.owner}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append(self.path)
            self.reply(*self.answer(body))

    def answer(self, body: dict[str, Any]) -> tuple[int, Any]:
        server = self.server
        places = {
            ("vllm", "/v1/completions"): self.vllm_completions,
            ("sglang", "/generate"): self.sglang_generate,
        }
        if complete := places.get((server.kind, self.path)):
            if server.fails:
                server.fails -= 1
                return 500, {"error": {"message": "the engine hiccups"}}
            return 200, complete(body)
        if server.dev and server.kind == "vllm" and self.path == "/collective_rpc":
            assert body["method"] == "reload_weights"
            server.load(body["kwargs"]["weights_path"])
            return 200, {"results": [None]}
        if server.dev and server.kind == "vllm" and self.path == "/reset_prefix_cache":
            return 200, {"success": True}
        if server.kind == "sglang" and self.path == "/update_weights_from_disk":
            server.load(body["model_path"])
            return 200, {"success": True, "message": "Succeeded to update model weights."}
        return 404, {"detail": "Not Found"}

    def vllm_completions(self, body: dict[str, Any]) -> Any:
        assert body["model"] == "policy"
        assert body["ignore_eos"]
        assert body["return_tokens_as_token_ids"]
        params = replace(params_of(body, body["max_tokens"]), seed=body["seed"])
        ids, logprobs, done = self.server.complete(body["prompt"], params)
        choice = {
            "finish_reason": done.stop_reason,
            "stop_reason": done.stop_id,
            "logprobs": {"tokens": [f"token_id:{one}" for one in ids], "token_logprobs": logprobs},
        }
        return {"choices": [choice]}

    def sglang_generate(self, body: dict[str, Any]) -> Any:
        assert body["return_logprob"]
        sampling = body["sampling_params"]
        params = replace(params_of(sampling, sampling["max_new_tokens"]), seed=sampling["sampling_seed"])
        ids, logprobs, done = self.server.complete(body["input_ids"], params)
        reason = {"type": "length", "length": len(ids)}
        if done.stop_reason == "stop":
            reason = {"type": "stop", "matched": done.stop_id}
        told = [[logprob, token, None] for logprob, token in zip(logprobs, ids)]
        return {"text": "", "meta_info": {"finish_reason": reason, "output_token_logprobs": told}}

    def reply(self, code: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: Any) -> None:
        pass


def params_of(sampling: dict[str, Any], max_tokens: int) -> SamplingParams:
    assert sampling["top_k"] == -1
    names = ("temperature", "top_p", "min_p", "repetition_penalty")
    return SamplingParams(
        max_tokens=max_tokens,
        stop_ids=tuple(sampling["stop_token_ids"]),
        **{name: sampling[name] for name in names},
    )


@contextmanager
def rollout_server(kind: str, model: Transformer) -> Iterator[RolloutServer]:
    with RolloutServer(kind, model) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()
