"""What Prometheus is told: counters and histograms of requests and tokens, gauges of the engine."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from minimind.infer.engine import Engine

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """One set of figures, in a registry of its own."""

    def __init__(self, engine: Engine) -> None:
        self.registry = registry = CollectorRegistry()
        name = "minimind"
        labels = ["path", "status"]
        self.requests = Counter(f"{name}_requests", "HTTP requests", labels, registry=registry)
        self.prompt_tokens = Counter(f"{name}_prompt_tokens", "Tokens of prompts", registry=registry)
        self.reused_tokens = Counter(
            f"{name}_reused_prompt_tokens", "Tokens of prompts whose keys were known already", registry=registry
        )
        self.generated_tokens = Counter(f"{name}_generated_tokens", "Tokens generated", registry=registry)
        self.first_token_seconds = Histogram(
            f"{name}_first_token_seconds",
            "From accepting a request to its first token",
            buckets=SECONDS,
            registry=registry,
        )
        self.request_seconds = Histogram(
            f"{name}_request_seconds",
            "HTTP requests, to the last byte",
            ["path"],
            buckets=SECONDS,
            registry=registry,
        )
        for gauge, text, read in (
            ("waiting", "Completions that wait for a row in the batch", lambda: len(engine.waiting)),
            ("batch_size", "Completions being generated together", lambda: len(engine.active)),
            ("batch_limit", "Most completions that are generated together", lambda: engine.max_batch),
            ("cache_bytes", "Keys and values of the completions being generated", lambda: cache_bytes(engine)),
            (
                "prefix_cache_bytes",
                "Keys and values kept for prompts that begin alike",
                lambda: engine.prefix_cache.bytes,
            ),
            ("prefix_cache_limit_bytes", "Most of these", lambda: engine.prefix_cache.capacity),
        ):
            Gauge(f"{name}_{gauge}", text, registry=registry).set_function(read)


def cache_bytes(engine: Engine) -> int:
    """Read while the engine's thread works, so each cache is looked at once."""
    caches = [group.cache for group in list(engine.slots.groups)] + [one.cache for one in list(engine.prefilling)]
    return sum(cache.memory.nbytes for cache in caches if cache is not None)


class Observe:
    """Middleware that counts and times the requests."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: frozenset[str]) -> None:
        self.app = app
        self.metrics = metrics
        self.paths = paths  # others share one label, else anybody could make any number of them

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self.paths else "other"
        status, start = 499, time.perf_counter()  # 499: the client went away before an answer began

        async def remember(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, remember)
        finally:
            self.metrics.requests.labels(path, str(status)).inc()
            self.metrics.request_seconds.labels(path).observe(time.perf_counter() - start)
