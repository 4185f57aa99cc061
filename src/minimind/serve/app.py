"""The HTTP side: endpoints, keys and limits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.concurrency import run_in_threadpool
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Receive, Scope, Send

from minimind.api import Model
from minimind.infer.constraint import SchemaError
from minimind.infer.score import score
from minimind.infer.text import AnswerStream, TextStream
from minimind.serve.answers import ChatChoice, Reply, TextChoice
from minimind.serve.errors import REFUSALS, ApiError, ErrorBody, Json, add_error_handlers
from minimind.serve.guards import LimitBody, RequireKey
from minimind.serve.metrics import Metrics, Observe
from minimind.serve.prompts import Asked, ask_chat, ask_completion
from minimind.serve.response_items import ResponseChoice, ResponseReply
from minimind.serve.responses import ResponsesRequest, in_responses
from minimind.serve.schemas import ChatRequest, CompletionRequest, Sampling
from minimind.serve.token_text import TokenText
from minimind.serve.worker import Busy, Job, Worker


@dataclass(frozen=True)
class ServerSettings:
    """How a model is served."""

    name: str
    """what clients call the model; its adapters have names of their own"""
    api_keys: tuple[str, ...] = ()
    """one of them must come with every request to /v1; none: everybody may ask"""
    origins: tuple[str, ...] = ()
    """web pages that may ask from a browser; `*` for all"""
    max_body: int = 1_000_000
    """largest body of a request, in bytes"""
    max_tokens: int | None = None
    """longest answer; None: what the context leaves room for"""
    max_waiting: int = 64
    """completions that may wait for room in the batch"""
    timeout: float = 300.0
    """seconds for an answer, waiting included"""
    forget: bool = False
    """whether conversations that outgrow the context lose their oldest turns, instead of being refused"""


class EventStream(StreamingResponse):
    """Server-sent events of a job, which is closed when they end or the client goes away."""

    def __init__(self, job: Job, events: AsyncIterator[bytes]) -> None:
        # A proxy in between must neither keep nor collect the events.
        super().__init__(
            events, media_type="text/event-stream", headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        )
        self.job = job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.job.close()


def create_app(model: Model, settings: ServerSettings) -> FastAPI:
    """The server as an ASGI application; its engine runs while the application does."""
    engine, tokenizer = model.engine, model.tokenizer
    longest = min(settings.max_tokens or engine.context, engine.context)
    metrics = Metrics(engine)
    text = TokenText(tokenizer)
    card = {
        "id": settings.name,
        "object": "model",
        "created": int(time.time()),
        "owned_by": "minimind",
        "parent": None,
        "max_model_len": engine.context,
    }
    adapters = {name: {**card, "id": name, "parent": settings.name} for name in engine.adapters}
    cards = {settings.name: card, **adapters}
    worker: Worker
    scoring = asyncio.Lock()  # of one prompt at a time, so that they hold one cache together

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        nonlocal worker
        app.state.worker = worker = Worker(engine, settings.max_waiting, metrics)
        yield
        worker.stop()

    app = FastAPI(title="MiniMind", lifespan=lifespan, docs_url=None, redoc_url=None)

    async def submit(request: Sampling, asked: Asked, model: str) -> Job:
        if len(asked) > worker.capacity:
            raise ApiError(
                400, f"{len(asked)} completions at once are more than this server ever takes; ask for fewer"
            )
        try:
            return await worker.submit(asked, settings.timeout, adapter_of(model))
        except SchemaError as error:
            field = request.schema_field or "tools"
            raise ApiError(400, f"{field}: {error}", param=field) from None
        except Busy as busy:
            raise ApiError(
                429, f"{busy}; try again later", headers={"Retry-After": str(busy.retry_after)}
            ) from None

    def answer_to(request: ChatRequest) -> AnswerStream:
        forced = request.calling == "required"
        return AnswerStream(
            tokenizer, request.thinks, request.stops, bool(request.offered), forced, request.continues
        )

    async def respond(http: Request, request: Sampling, reply: Reply) -> Response:
        if request.stream:
            return EventStream(reply.job, reply.events(request))
        try:
            whole = await unless_gone(http, reply.whole())
        finally:
            reply.job.close()
        return Response(status_code=499) if whole is None else Json(whole)

    @app.post("/v1/chat/completions", responses=REFUSALS)
    async def chat_completions(request: ChatRequest, http: Request) -> Response:
        """Answer a conversation."""
        name = named(request.model)
        asked = await run_in_threadpool(ask_chat, request, model, longest, settings.forget)
        job = await submit(request, asked, name)
        choices = []
        for index in range(len(asked)):
            former, several = bool(request.functions), request.parallel_tool_calls
            choices.append(ChatChoice(index, answer_to(request), text, request.logprobs, several, former))
        return await respond(http, request, Reply("chat.completion", name, job, choices, len(asked[0][0])))

    @app.post("/v1/responses", responses=REFUSALS)
    async def responses(request: ResponsesRequest, http: Request) -> Response:
        """Answer a conversation, in the form of OpenAI's newer clients."""
        chat = request.chat
        name = named(chat.model)
        trim = settings.forget or request.truncation == "auto"
        try:
            asked = await run_in_threadpool(ask_chat, chat, model, longest, trim)
            job = await submit(chat, asked, name)
        except ApiError as error:
            raise in_responses(error) from None
        choice = ResponseChoice(answer_to(chat), text, chat.logprobs, chat.parallel_tool_calls)
        return await respond(http, chat, ResponseReply(request, name, job, choice, len(asked[0][0])))

    @app.post("/v1/completions", responses=REFUSALS)
    async def completions(request: CompletionRequest, http: Request) -> Response:
        """Continue texts."""
        name = named(request.model)
        prompts, asked = await run_in_threadpool(ask_completion, request, model, longest)
        job = await submit(request, asked, name)
        with_logprobs = request.logprobs is not None
        choices = [
            TextChoice(index, TextStream(tokenizer, request.stops), text, with_logprobs)
            for index in range(len(prompts) * request.n)
        ]
        for choice in choices if request.limit == 0 else ():
            choice.finish_reason = "length"

        async def echoes() -> AsyncIterator[dict[str, Any]]:
            for number, ids in enumerate(prompts):
                prompt, tokens = request.prompts[number], []
                said = prompt if isinstance(prompt, str) else tokenizer.decode(ids)
                if with_logprobs:
                    async with asyncio.timeout_at(job.deadline), scoring:
                        chunks = score(engine, ids, request.logprobs or 0, adapter_of(name))
                        while (chunk := await worker.call(partial(next, chunks, None))) is not None:
                            tokens += chunk
                for choice in choices[number * request.n : (number + 1) * request.n]:
                    yield choice.echo(said, tokens)

        prompt_tokens = sum(map(len, prompts))
        before = echoes() if request.echo else None
        reply = Reply("text_completion", name, job, choices, prompt_tokens, before)
        return await respond(http, request, reply)

    def named(name: str | None) -> str:
        """The name of the model that a request asks for: the base's or an adapter's."""
        if name is not None and name not in cards:
            known = ", ".join(map(repr, cards))
            raise ApiError(404, f"there is no model {name!r} here, but {known}", "model_not_found", "model")
        return settings.name if name is None else name

    def adapter_of(name: str) -> str | None:
        return name if name in adapters else None

    @app.get("/v1/models", responses={401: REFUSALS[401]})
    async def models() -> dict[str, Any]:
        """The models served here: the base, and its adapters, whose `parent` it is."""
        return {"object": "list", "data": list(cards.values())}

    @app.get("/v1/models/{name:path}", responses={401: REFUSALS[401], 404: REFUSALS[404]})
    async def one_model(name: str) -> dict[str, Any]:
        """One of them."""
        return cards[named(name)]

    @app.get("/health", responses={503: {"model": ErrorBody, "description": "The engine has ended"}})
    async def health() -> dict[Literal["status"], Literal["ok"]]:
        """Whether the server can answer."""
        if not worker.thread.is_alive():
            raise ApiError(503, "the engine has ended; start the server again")
        return {"status": "ok"}

    @app.get("/metrics", response_class=Response)
    async def prometheus() -> Response:
        """Figures in Prometheus' text format."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    add_error_handlers(app)
    # The last added is the outermost: a refusal for want of a key, too, is counted and seen by a browser.
    app.add_middleware(LimitBody, largest=settings.max_body)
    if settings.api_keys:
        app.add_middleware(RequireKey, keys=settings.api_keys)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=settings.origins, allow_methods=["GET", "POST"], allow_headers=["*"]
        )
    app.add_middleware(
        Observe, metrics=metrics, paths=frozenset({"/v1/chat/completions", "/v1/responses", "/v1/completions"})
    )
    return app


async def unless_gone(http: Request, work: Coroutine[Any, Any, Any]) -> Any:
    """What the work gives; None, and the work is canceled, if the client goes away before."""

    async def gone() -> None:
        while (await http.receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(gone())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result() if tasks[0].done() else None
    finally:
        for task in tasks:
            task.cancel()
