"""Operations of an OpenAPI document against a real server."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
import yaml

from minimind.errors import UserError
from minimind.tools import Limits, Toolbox, open_tools
from minimind.tools.openapi import Operation, build_request

DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "Pets", "version": "1"},
    "servers": [{"url": "/{version}", "variables": {"version": {"default": "v1"}}}],
    "paths": {
        "/pets/{id}": {
            "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
            "get": {
                "operationId": "get pet",
                "summary": "One pet",
                "parameters": [
                    {"$ref": "#/components/parameters/tags"},
                    {"name": "X-Trace", "in": "header", "schema": {"type": "string"}},
                    {"name": "session", "in": "cookie", "schema": {"type": "string"}},
                ],
            },
            "put": {
                "operationId": "put_pet",
                "description": "Change a pet",
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}},
                },
            },
            "delete": {},
        },
        "/numbers": {
            "post": {
                "operationId": "add",
                "requestBody": {"content": {"application/json": {"schema": {"type": "array"}}}},
            }
        },
        **{
            f"/{name}": {"get": {"operationId": name}}
            for name in ("redirect", "slow", "drip", "huge", "broken", "missing")
        },
        "/elsewhere": {"get": {"operationId": "elsewhere", "servers": [{"url": "http://127.0.0.1:9"}]}},
    },
    "components": {
        "parameters": {
            "tags": {
                "name": "tags",
                "in": "query",
                "description": "only with all of these",
                "schema": {"type": "array", "items": {"type": "string"}},
            }
        },
        "schemas": {
            "Pet": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "example": "Tom"},
                    "age": {"type": "integer", "minimum": 0},
                    "friend": {"$ref": "#/components/schemas/Pet"},
                    "example": {"type": "string"},
                },
                "required": ["name"],
            }
        },
    },
}


class Pets(BaseHTTPRequestHandler):
    """Says what it was asked; some paths misbehave."""

    seen: list[str] = []  # noqa: RUF012 (shared by all requests)

    def answer(self) -> None:
        type(self).seen.append(f"{self.command} {self.path}")
        target = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        match target.path:
            case "/openapi.json":
                self.say(json.dumps(DOCUMENT))
            case "/v1/redirect":
                self.send_response(302)
                self.send_header("Location", "/v1/secret")
                self.end_headers()
            case "/v1/slow":
                time.sleep(3)
                self.say("late")
            case "/v1/drip":
                self.send_response(200)
                self.end_headers()
                for _ in range(30):
                    self.wfile.write(b"x")
                    time.sleep(0.1)
            case "/v1/huge":
                self.say("字" * 3_000_000)
            case "/v1/broken":
                self.send_response(200)
                self.send_header("Content-Length", "100")
                self.end_headers()
                self.wfile.write(b"\xff\xfeonly this")
            case "/v1/missing":
                self.say("there is no such thing", 404)
            case _:
                asked = {"method": self.command, "path": unquote(target.path), "query": parse_qsl(target.query)}
                asked |= {"body": json.loads(body or "null"), "trace": self.headers.get("X-Trace")}
                self.say(json.dumps(asked))

    do_GET = do_PUT = do_POST = do_DELETE = answer

    def say(self, text: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments: Any) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client had enough
            super().handle()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pets)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def tools(address: str) -> Iterator[Toolbox]:
    with open_tools([f"{address}/openapi.json"], Limits(seconds=1, characters=1000)) as toolbox:
        yield toolbox


def test_every_operation_is_a_tool(tools: Toolbox) -> None:
    described = {schema["function"]["name"]: schema["function"] for schema in tools.schemas}
    names = ["get_pet", "put_pet", "delete_pets_id", "add", "redirect", "slow", "drip", "huge", "broken", "missing"]
    assert list(described) == [*names, "elsewhere"]
    assert described["get_pet"] == {
        "name": "get_pet",
        "description": "One pet",
        "parameters": {
            "type": "object",
            "properties": {
                "id": {"type": "string"},
                "tags": {"type": "array", "items": {"type": "string"}, "description": "only with all of these"},
                "X-Trace": {"type": "string"},
            },
            "required": ["id"],
        },
    }
    put = described["put_pet"]
    assert put["description"] == "Change a pet"
    assert put["parameters"]["required"] == ["id", "name"]
    assert put["parameters"]["properties"]["name"] == {"type": "string"}
    assert put["parameters"]["properties"]["example"] == {"type": "string"}
    assert put["parameters"]["properties"]["friend"] == {}
    assert described["delete_pets_id"]["description"] == "DELETE /pets/{id}"


def test_arguments_go_where_the_document_says(tools: Toolbox) -> None:
    answer = tools.call("get_pet", {"id": "a b/ü", "tags": ["x&y", "z"], "X-Trace": "7"})
    assert json.loads(answer) == {
        "method": "GET",
        "path": "/v1/pets/a b/ü",
        "query": [["tags", "x&y"], ["tags", "z"]],
        "body": None,
        "trace": "7",
    }
    assert Pets.seen[-1] == "GET /v1/pets/a%20b%2F%C3%BC?tags=x%26y&tags=z"
    answer = json.loads(tools.call("put_pet", {"id": "1", "name": "Tom", "age": 3, "friend": {"name": "Rex"}}))
    assert (answer["method"], answer["path"]) == ("PUT", "/v1/pets/1")
    assert answer["body"] == {"name": "Tom", "age": 3, "friend": {"name": "Rex"}}
    assert json.loads(tools.call("add", {"body": [1, 2]}))["body"] == [1, 2]
    assert json.loads(tools.call("delete_pets_id", {"id": "1"}))["method"] == "DELETE"


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("get_pet", {}, "arguments must have id"),
        ("put_pet", {"id": "1", "name": "Tom", "age": -1}, "age must be at least 0, not -1"),
        ("put_pet", {"id": "1", "example": 3}, "arguments must have name"),
        ("put_pet", {"id": "1", "name": "Tom", "example": 3}, "example must be string, not 3"),
        ("get_pet", {"id": ".."}, "id must not be '..'"),
        ("get_pet", {"id": ""}, "id must not be ''"),
        ("get_pet", {"id": "1", "X-Trace": "a\r\nX-Evil: 1"}, "ValueError: Invalid header value"),
        ("slow", {}, "it took longer than 1 seconds and was stopped"),
        ("drip", {}, "it took longer than 1 seconds and was stopped"),
        ("elsewhere", {}, "URLError: <urlopen error [Errno 111] Connection refused>"),
    ],
)
def test_errors_go_back_to_the_model(tools: Toolbox, name: str, arguments: dict[str, Any], error: str) -> None:
    start = time.monotonic()
    assert json.loads(tools.call(name, arguments))["error"].startswith(error)
    assert time.monotonic() - start < 2.5


def test_answers_that_are_none(tools: Toolbox) -> None:
    assert tools.call("missing", {}) == "HTTP 404: there is no such thing"
    assert tools.call("broken", {}) == "\ufffd\ufffdonly this"
    assert tools.call("huge", {}) == "字" * 1000 + "… (cut off after 1000 characters)"


def test_a_redirect_is_not_followed(tools: Toolbox) -> None:
    assert tools.call("redirect", {}) == "HTTP 302: "
    assert not [path for path in Pets.seen if "secret" in path]


@pytest.mark.parametrize(
    "value", ["../admin", "http://evil/", "?a=1", "#x", "//evil", "%2e%2e", "a\nb", "{id}", "..\\x"]
)
def test_no_argument_leaves_its_place(value: str) -> None:
    operation = Operation("GET", "http://host/v1/pets/{id}/toys", {"id": "path", "q": "query"})
    target = urlsplit(build_request(operation, {"id": value, "q": value}).full_url)
    assert (target.scheme, target.netloc, target.fragment) == ("http", "host", "")
    before, after = "/v1/pets/", "/toys"
    assert target.path.startswith(before)
    assert target.path.endswith(after)
    inside = target.path.removeprefix(before).removesuffix(after)
    assert "/" not in inside
    assert unquote(inside) == value
    assert parse_qsl(target.query) == [("q", value)]


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_a_file(tmp_path: Path, address: str, suffix: str) -> None:
    document = DOCUMENT | {"servers": [{"url": address + "/v1"}]}
    text = json.dumps(document) if suffix == ".json" else yaml.safe_dump(document)
    (tmp_path / f"pets{suffix}").write_text(text)
    with open_tools([str(tmp_path / f"pets{suffix}")]) as tools:
        assert json.loads(tools.call("get_pet", {"id": "1"}))["path"] == "/v1/pets/1"


def doubling(levels: int) -> str:
    """A document of some lines, in which every schema holds the next one twice."""
    schemas = {
        f"S{n}": {"properties": {name: {"$ref": f"#/components/schemas/S{n + 1}"} for name in "ab"}}
        for n in range(levels)
    }
    first = {"name": "x", "in": "query", "schema": {"$ref": "#/components/schemas/S0"}}
    paths = {"/x": {"get": {"parameters": [first]}}}
    components = {"schemas": {**schemas, f"S{levels}": {"type": "string"}}}
    return json.dumps(
        {"openapi": "3.0.0", "servers": [{"url": "http://host"}], "paths": paths, "components": components}
    )


def test_schemas_are_unfolded_up_to_a_bound(tmp_path: Path) -> None:
    file = tmp_path / "api.json"
    file.write_text(doubling(10))
    with open_tools([str(file)]) as toolbox:
        assert json.dumps(toolbox.schemas).count('"string"') == 2**10
    file.write_text(doubling(60))
    with pytest.raises(UserError, match="its schemas unfold to more than 100,000 parts"), open_tools([str(file)]):
        pass


def small(server: str, operation: dict[str, Any]) -> str:
    return json.dumps({"openapi": "3.0.0", "servers": [{"url": server}], "paths": {"/passwd": {"get": operation}}})


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ("{", "cannot read FILE: Expecting property name"),
        ("a: &a [x]\nb: [*a, *a]", "cannot read FILE: aliases (*name) are not read"),
        ("[]", "FILE is no OpenAPI document of version 3"),
        ('{"swagger": "2.0"}', "FILE is no OpenAPI document of version 3"),
        ('{"openapi": "3.0.0"}', "FILE describes no operation"),
        (json.dumps(DOCUMENT), "FILE is no proper OpenAPI document: its server '/v1' is no http address"),
        ('{"openapi": "3.0.0", "paths": []}', "FILE is no proper OpenAPI document"),
        (
            small("http://host", {"parameters": [{"$ref": "#/x"}]}),
            "FILE is no proper OpenAPI document: there is no #/x",
        ),
        (
            small("file:///etc", {}),
            "FILE is no proper OpenAPI document: its server 'file:///etc' is no http address",
        ),
    ],
)
def test_a_document_without_tools_is_one_sentence(tmp_path: Path, document: str, sentence: str) -> None:
    file = tmp_path / "api.json"
    file.write_text(document)
    with pytest.raises(UserError) as error, open_tools([str(file)]):
        pass
    assert str(error.value).startswith(sentence.replace("FILE", str(file)))


@pytest.mark.parametrize(
    ("path", "sentence"),
    [("/v1/missing", "is no OpenAPI document"), ("/v1/slow", "it took longer than 1 seconds and was stopped")],
)
def test_an_address_without_a_document(address: str, path: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence), open_tools([address + path], Limits(seconds=1)):
        pass
    with pytest.raises(UserError, match="cannot read http"), open_tools(["http://127.0.0.1:9/x"]):
        pass
