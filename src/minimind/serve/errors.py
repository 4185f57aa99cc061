"""Errors as OpenAI's API reports them, and JSON that never fails to be sent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from minimind.errors import UserError
from minimind.tokenizer.messages import ChatError

TYPES = {429: "rate_limit_error", 500: "server_error", 503: "server_error", 504: "server_error"}


class Error(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """Every error."""

    error: Error


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": text}
    for status, text in (
        (400, "Something in the request is wrong"),
        (401, "No API key, or a wrong one"),
        (404, "There is no such model"),
        (413, "The body is too large"),
        (429, "Too many requests wait; come back after Retry-After seconds"),
        (503, "The server is shutting down"),
        (504, "The answer took too long"),
    )
}


class ApiError(Exception):
    """What a handler raises; `body` is what the client is sent."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        kind = TYPES.get(status, "invalid_request_error")
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}

    def response(self) -> Json:
        return Json(self.body, self.status, self.headers)


class Json(JSONResponse):
    """A response whose text may hold lone halves of surrogate pairs: JSON can escape them, UTF-8 has none."""

    def render(self, content: Any) -> bytes:
        return to_json(content)


def to_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(errors="replace")


def explain(errors: Sequence[Mapping[str, Any]], body: Any) -> ApiError:
    """What pydantic found wrong with a body, as one sentence about one place."""

    # Of a union every option reports why it does not fit; the one that got furthest was meant, or has the type.
    # A wrong `type` explains what else is missing.
    def fits(error: Mapping[str, Any]) -> tuple[int, bool, bool]:
        return len(place_of(error, body)), error["loc"][-1:] == ("type",), not error["type"].endswith("_type")

    error = max(errors, key=fits)
    if error["type"] == "json_invalid":
        return ApiError(400, f"the body is not JSON: {error['ctx']['error']} at character {error['loc'][-1]}")
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place_of(error, body)).lstrip(
        "."
    )
    unknown = error["type"] == "extra_forbidden"
    why = "there is no such field" if unknown else error["msg"].removeprefix("Value error, ")
    where = place or "the body, which is to be a JSON object sent as application/json"
    return ApiError(400, f"{where}: {why}", param=place or None)


def place_of(error: Mapping[str, Any], body: Any) -> list[str | int]:
    """Keys and indices of the body that lead to the error: pydantic names options of unions among them."""
    place: list[str | int] = []
    *parts, last = error["loc"][1:] or [None]
    for part in parts:
        if isinstance(body, dict | list) and (part in body if isinstance(body, dict) else isinstance(part, int)):
            place.append(part)
            body = body[part]
    # A missing field is in no body; nor is one that a check of the whole body names.
    named = isinstance(body, dict) and (last in body or error["type"] in ("missing", "field"))
    return [*place, last] if named or (isinstance(body, list) and isinstance(last, int)) else place


def add_error_handlers(app: FastAPI) -> None:
    """Every error in OpenAI's shape."""
    endpoints = [route.path for route in app.routes if isinstance(route, APIRoute) and "{" not in route.path]

    @app.exception_handler(ApiError)
    async def known(request: Request, error: ApiError) -> Response:
        return error.response()

    @app.exception_handler(UserError)
    @app.exception_handler(ChatError)
    async def wrong(request: Request, error: Exception) -> Response:
        return ApiError(400, str(error)).response()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return explain(error.errors(), error.body).response()

    @app.exception_handler(RecursionError)
    async def too_deep(request: Request, error: RecursionError) -> Response:
        return ApiError(400, "the body is nested too deeply; flatten it").response()

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        sentences = {
            404: f"there is no {request.url.path} here; there are {', '.join(endpoints)}",
            405: f"{request.url.path} does not know the method {request.method}",
            413: str(error.detail),
        }
        headers = dict(error.headers or {})
        return ApiError(
            error.status_code, sentences.get(error.status_code, str(error.detail)), headers=headers
        ).response()

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Response:
        return ApiError(500, f"this is a fault in the server: {type(error).__name__}").response()
