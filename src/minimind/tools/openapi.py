"""The operations of an OpenAPI document as tools. Only the servers that the document names are called.

A redirect is not followed, since it may lead elsewhere; its answer goes back to the model as it is.
"""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

import yaml

from minimind.errors import UserError
from minimind.tools.arguments import resolve
from minimind.tools.tool import Limits, Tool, ToolError
from minimind.util.json_files import loads
from minimind.util.plain_yaml import PlainLoader

METHODS = ("get", "put", "post", "delete", "patch")
MAX_DOCUMENT = 20 << 20  # bytes
MAX_PARTS = 100_000  # of all schemas together, references followed: a few lines of them can stand for billions
UNNEEDED = ("example", "examples", "xml", "externalDocs")  # keywords that a model can do without


@dataclass(frozen=True)
class Operation:
    """How one call becomes a request.

    places  of each argument: "path", "query", "header" or "body"
    whole_body  the argument that is the body, where its parts are no arguments of their own
    """

    method: str
    url: str
    places: dict[str, str]
    whole_body: str | None = None


class _StayHere(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any) -> None:
        return None


_opener = urllib.request.build_opener(_StayHere)


def openapi_tools(source: str, limits: Limits) -> list[Tool]:
    """A tool for every operation of the document, a JSON or YAML file or its URL. UserError where it is none."""
    document = read_document(source, limits)
    if not isinstance(document, dict) or not str(document.get("openapi", "")).startswith("3."):
        raise UserError(f"{source} is no OpenAPI document of version 3")
    try:
        tools = [_tool(*found, limits) for found in _operations(document, source)]
    except (ValueError, RecursionError, AttributeError, TypeError, KeyError) as error:
        raise UserError(f"{source} is no proper OpenAPI document: {error}") from None
    if not tools:
        raise UserError(f"{source} describes no operation")
    return tools


def read_document(source: str, limits: Limits) -> Any:
    try:
        if "://" in source:
            request = urllib.request.Request(source)
            text = within(limits.seconds, partial(_receive, request, MAX_DOCUMENT, limits.seconds))[1]
        else:
            text = Path(source).read_text(encoding="utf-8")
        return loads(text) if text.lstrip().startswith("{") else yaml.load(text, PlainLoader)
    except OSError as error:
        raise UserError(f"cannot read {source}: {getattr(error, 'strerror', None) or error}") from None
    except (ValueError, RecursionError, yaml.YAMLError, ToolError) as error:
        raise UserError(f"cannot read {source}: {' '.join(str(error).split())}") from None


# From the document to tools


def _operations(document: dict[str, Any], source: str) -> Iterator[tuple[str, str, dict[str, Any], Operation]]:
    """Name, description, parameters and request of every operation."""
    schemas = Schemas(document)
    for path, item in document.get("paths", {}).items():
        for method in METHODS:
            if method not in item:
                continue
            operation = item[method]
            servers = operation.get("servers") or item.get("servers") or document.get("servers") or [{"url": "/"}]
            name = operation.get("operationId") or f"{method} {path}"
            name = re.sub(r"[^a-zA-Z0-9_-]+", "_", name).strip("_")[:64]
            described = operation.get("summary") or operation.get("description") or f"{method.upper()} {path}"
            declared = [*item.get("parameters", ()), *operation.get("parameters", ())]
            parameters, places, whole_body = _parameters(declared, operation.get("requestBody"), schemas)
            url = _server(servers[0], source) + path
            yield name, described, parameters, Operation(method.upper(), url, places, whole_body)


def _server(server: dict[str, Any], source: str) -> str:
    url = server["url"]
    for name, variable in server.get("variables", {}).items():
        url = url.replace("{" + name + "}", str(variable["default"]))
    url = urljoin(source, url) if "://" in source else url
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"its server {url!r} is no http address; write the whole address under `servers`")
    return url.rstrip("/")


def _parameters(
    declared: list[Any], body: Any, schemas: Schemas
) -> tuple[dict[str, Any], dict[str, str], str | None]:
    """The schema of an operation's arguments, the place of each, and the argument that is the whole body if any."""
    properties: dict[str, Any] = {}
    places: dict[str, str] = {}
    required: list[str] = []
    for one in declared:
        one = schemas.follow(one)
        if one["in"] == "cookie":
            continue
        schema = one.get("schema", {})
        properties[one["name"]] = schemas.plain(schema)
        places[one["name"]] = one["in"]
        if one.get("description"):
            properties[one["name"]].setdefault("description", one["description"])
        if one.get("required") and one["name"] not in required:
            required.append(one["name"])
    whole_body = None
    if body:
        body = schemas.follow(body)
        schema = schemas.plain(body["content"]["application/json"].get("schema", {}))
        parts = schema.get("properties", {})
        if parts and not set(parts) & set(properties):  # an object's parts are arguments of their own
            properties |= parts
            places |= dict.fromkeys(parts, "body")
            required += schema.get("required", ()) if body.get("required") else ()
        else:
            whole_body = "body" if "body" not in properties else "request_body"
            properties[whole_body], places[whole_body] = schema, "body"
            required += [whole_body] if body.get("required") else []
    return {"type": "object", "properties": properties, "required": required}, places, whole_body


class Schemas:
    """A document's schemas, with what they refer to in place of the references."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.parts = 0
        """that were unfolded so far"""

    def follow(self, value: Any) -> Any:
        return resolve(value["$ref"], self.document) if "$ref" in value else value

    def plain(self, schema: Any, inside: tuple[str, ...] = ()) -> Any:
        """A schema without references and examples; within itself, it is open to anything."""
        self.parts += 1
        if self.parts > MAX_PARTS:
            raise ValueError(f"its schemas unfold to more than {MAX_PARTS:,} parts")
        if isinstance(schema, list):
            return [self.plain(one, inside) for one in schema]
        if not isinstance(schema, dict):
            return schema
        reference = schema.get("$ref")
        if isinstance(reference, str):
            if reference in inside:
                return {}
            return self.plain(resolve(reference, self.document), (*inside, reference))
        plain = {}
        for key, one in schema.items():
            if key == "properties" and isinstance(one, dict):  # its keys are names and no keywords
                plain[key] = {name: self.plain(part, inside) for name, part in one.items()}
            elif key not in UNNEEDED:
                plain[key] = self.plain(one, inside)
        return plain


# From a call to a request


def _tool(name: str, description: str, parameters: dict[str, Any], operation: Operation, limits: Limits) -> Tool:
    return Tool(name, description, parameters, partial(_call, operation, limits))


def _call(operation: Operation, limits: Limits, arguments: dict[str, Any]) -> str:
    request = build_request(operation, arguments)
    room = 4 * (limits.characters + 1)  # bytes: a character of UTF-8 has at most four
    status, text = within(limits.seconds, partial(_receive, request, room, limits.seconds))
    return text if status < 300 else f"HTTP {status}: {text}"


def build_request(operation: Operation, arguments: dict[str, Any]) -> urllib.request.Request:
    """The HTTP request. No argument can change its server or leave its place in the path."""
    url, query, headers, parts = operation.url, [], {}, {}
    for name, value in arguments.items():
        place, text = operation.places.get(name), _text(value)
        if place == "path":
            if text in ("", ".", ".."):
                raise ToolError(f"{name} must not be {text!r}")
            url = url.replace("{" + name + "}", quote(text, safe=""))
        elif place == "query":
            query += [(name, _text(one)) for one in (value if isinstance(value, list) else [value])]
        elif place == "header":
            headers[name] = text
        elif place == "body":
            parts[name] = value
    if query:
        url += "?" + urlencode(query)
    body = parts.get(operation.whole_body) if operation.whole_body else parts
    data = json.dumps(body).encode() if parts else None
    if data:
        headers["Content-Type"] = "application/json"
    return urllib.request.Request(url, data, {**headers, "Accept": "application/json"}, method=operation.method)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _receive(request: urllib.request.Request, most: int, seconds: float) -> tuple[int, str]:
    """Status and the first `most` bytes of the answer. OSError where there is none or it is late."""
    end = time.monotonic() + seconds
    try:
        response = _opener.open(request, timeout=seconds)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        data = b""
        while block := response.read1(min(1 << 16, most - len(data))):
            data += block
            if time.monotonic() > end:
                raise TimeoutError
        return response.status, data.decode("utf-8", errors="replace")


def within(seconds: float, work: Callable[[], Any]) -> Any:
    """What the work gives, or ToolError once the time is over: a server may send its answer byte by byte."""
    outcome: list[Any] = []

    def try_it() -> None:
        try:
            outcome.append((work(), None))
        except Exception as error:
            outcome.append((None, error))

    thread = threading.Thread(target=try_it, daemon=True)
    thread.start()
    thread.join(seconds)
    value, error = outcome[0] if outcome else (None, TimeoutError())
    if isinstance(error, TimeoutError):
        raise ToolError(f"it took longer than {seconds:g} seconds and was stopped")
    if error:
        raise error
    return value
