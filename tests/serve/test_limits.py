"""What the server refuses, when it gives up, and that nothing stays taken afterwards."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from tests.serve.conftest import Served, serve

from minimind import Model

CHAT = "/v1/chat/completions"
ENDLESS: dict[str, Any] = {
    "messages": [{"role": "user", "content": "the cat"}],
    "temperature": 0,
    "max_tokens": 8000,
}


def error_of(response: httpx.Response) -> dict[str, Any]:
    body = response.json()
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"message", "type", "param", "code"}
    return body["error"]


@pytest.mark.parametrize(
    ("content", "headers", "sentence"),
    [
        (b"", {}, "application/json"),
        (b"{", {}, "the body is not JSON: Expecting property name enclosed in double quotes at character 1"),
        (b"[1, 2]", {}, "the body, which is to be a JSON object"),
        (b'"text"', {}, "the body, which is to be a JSON object"),
        (b"\xff\xfe{}", {}, "body"),
        (b"[" * 100_000, {}, ""),
        (b'{"messages": ' + b"[" * 900 + b"]" * 900 + b"}", {}, ""),
        (b'{"messages": [{"role": "user", "content": "a"}]}', {"content-type": "text/plain"}, "application/json"),
        (b'{"messages": [{"role": "user", "content": "a"}], "temperature": NaN}', {}, "temperature"),
        (b'{"messages": [{"role": "user", "content": "a"}], "temperature": 1e999}', {}, "temperature"),
        (b'{"messages": [{"role": "user", "content": "a"}], "max_tokens": 1' + b"0" * 9000 + b"}", {}, ""),
        (b'{"messages": [{"role": "user", "content": "a"}], "seed": 1' + b"0" * 400 + b"}", {}, "seed"),
        (b'{"messages": [{"role": "user", "content": "a"}], "model": "\\ud800"}', {}, "there is no model"),
    ],
)
def test_malformed_bodies(served: Served, content: bytes, headers: dict[str, str], sentence: str) -> None:
    headers = {"content-type": "application/json", **headers}
    response = httpx.post(served.url + CHAT, content=content, headers=headers)
    assert response.status_code in (400, 404)
    assert sentence in error_of(response)["message"]


def test_deep_schemas_are_no_fault(served: Served) -> None:
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"properties": {"a": deep}}
    tool = {"type": "function", "function": {"name": "sees", "parameters": deep}}
    message = [{"role": "user", "content": "a"}]
    response = httpx.post(served.url + CHAT, json={"messages": message, "tools": [tool]}, timeout=60)
    assert response.status_code == 400
    assert "nested" in error_of(response)["message"] or "too long" in error_of(response)["message"]


def test_broken_characters_are_no_fault(served: Served) -> None:
    body = b'{"messages": [{"role": "user", "content": "\\ud800"}], "max_tokens": 2}'
    response = httpx.post(served.url + CHAT, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/nothing", 404), ("GET", CHAT, 405), ("POST", "/health", 405), ("GET", "/docs", 404)],
)
def test_wrong_places(served: Served, method: str, path: str, status: int) -> None:
    response = httpx.request(method, served.url + path)
    assert response.status_code == status
    assert path in error_of(response)["message"]


@pytest.fixture(scope="module")
def guarded(learned: Model) -> Iterator[Served]:
    keys = ("first", "second")
    with serve(learned, api_keys=keys, origins=("http://page.example",), max_body=2000, max_tokens=3) as server:
        yield server


def test_keys(guarded: Served) -> None:
    for key in ("first", "second"):
        assert [model.id for model in guarded.openai(api_key=key).models.list()] == ["tiny"]
    for key in ("third", "firs", "first second"):
        with pytest.raises(openai.AuthenticationError, match="API keys") as caught:
            guarded.openai(api_key=key).models.list()
        assert caught.value.code == "invalid_api_key"
    for header in (
        {},
        {"Authorization": "first"},
        {"Authorization": "Basic first"},
        {"Authorization": "Bearer é".encode()},
    ):
        assert httpx.get(guarded.url + "/v1/models", headers=header).status_code == 401
    assert httpx.get(guarded.url + "/health").json() == {"status": "ok"}
    assert httpx.get(guarded.url + "/metrics").status_code == 200


def test_cors(guarded: Served) -> None:
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    preflight = httpx.options(guarded.url + CHAT, headers={"Origin": "http://page.example", **asked})
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "http://page.example"
    refused = httpx.get(guarded.url + "/v1/models", headers={"Origin": "http://page.example"})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "http://page.example"
    stranger = {"Origin": "http://other.example", "Authorization": "Bearer first"}
    assert "access-control-allow-origin" not in httpx.get(guarded.url + "/v1/models", headers=stranger).headers
    assert httpx.options(guarded.url + CHAT, headers={**stranger, **asked}).status_code == 400


def test_no_page_may_ask_unless_told(served: Served) -> None:
    response = httpx.get(served.url + "/v1/models", headers={"Origin": "http://page.example"})
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("chunked", [False, True])
def test_the_body_has_a_limit(guarded: Served, chunked: bool) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "a" * 3000}]}).encode()
    content: Any = (body[start : start + 500] for start in range(0, len(body), 500)) if chunked else body
    headers = {"Authorization": "Bearer first", "Content-Type": "application/json"}
    response = httpx.post(guarded.url + CHAT, content=content, headers=headers)
    assert response.status_code == 413
    assert error_of(response)["type"] == "invalid_request_error"


def test_answers_have_a_longest_length(guarded: Served) -> None:
    client = guarded.openai(api_key="first")
    answer = client.chat.completions.create(
        model="tiny", messages=ENDLESS["messages"], max_tokens=100, temperature=0
    )
    assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (3, "length")


def test_old_turns_are_refused_or_forgotten(learned: Model) -> None:
    turns = []
    for number in range(60):
        turns += [{"role": "user", "content": f"{number} the cat"}, {"role": "assistant", "content": "sees a tree"}]
    request: dict[str, Any] = {"messages": [*turns, {"role": "user", "content": "the cat"}], "max_tokens": 20}
    with serve(learned) as server:
        refused = httpx.post(server.url + CHAT, json=request)
        assert (refused.status_code, error_of(refused)["code"]) == (400, "context_length_exceeded")
    with serve(learned, forget=True) as server:
        answered = httpx.post(server.url + CHAT, json=request)
        assert answered.status_code == 200
        assert 900 < answered.json()["usage"]["prompt_tokens"] <= 1024 - 20


def lines(response: httpx.Response) -> Iterator[dict[str, Any]]:
    for line in response.iter_lines():
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))


def test_a_client_that_goes_away_frees_its_place(served_endless: Served) -> None:
    server = served_endless
    for count in (1, 5):
        request = {**ENDLESS, "stream": True, "n": 2}
        with httpx.stream("POST", server.url + CHAT, json=request) as response:
            events = lines(response)  # the response ends with this generator
            for _ in range(count):
                next(events)
            assert server.worker.taken == 2
        start = time.perf_counter()
        server.wait_until_idle()
        assert time.perf_counter() - start < 2
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(server.url + CHAT, json=ENDLESS, timeout=0.5)
    server.wait_until_idle()


def test_when_all_places_are_taken_clients_are_sent_away(endless: Path) -> None:
    model = Model(endless, device="cpu")
    model.engine.max_batch = 1
    with serve(model, max_waiting=1) as server:
        request = {**ENDLESS, "stream": True}
        with httpx.stream("POST", server.url + CHAT, json=request) as first:
            heard = lines(first)
            next(heard)
            with httpx.stream("POST", server.url + CHAT, json=request) as second:
                waits = lines(second)
                next(waits)
                server.wait_until(lambda: bool(server.model.engine.waiting))
                for body in (ENDLESS, request):
                    refused = httpx.post(server.url + CHAT, json=body)
                    assert refused.status_code == 429
                    assert int(refused.headers["retry-after"]) >= 1
                    assert error_of(refused)["type"] == "rate_limit_error"
                metrics = httpx.get(server.url + "/metrics").text
                assert "minimind_waiting 1.0" in metrics
                assert "minimind_batch_size 1.0" in metrics
        server.wait_until_idle()
        too_many = httpx.post(server.url + CHAT, json={**ENDLESS, "n": 3})
        assert too_many.status_code == 400
        assert "3 completions at once" in error_of(too_many)["message"]
        assert httpx.post(server.url + CHAT, json={**ENDLESS, "max_tokens": 3}).status_code == 200


def test_an_answer_that_takes_too_long_is_given_up(endless: Path) -> None:
    with serve(Model(endless, device="cpu"), timeout=0.4) as server:
        whole = httpx.post(server.url + CHAT, json=ENDLESS)
        assert whole.status_code == 504
        assert error_of(whole)["type"] == "server_error"
        server.wait_until_idle()
        with pytest.raises(openai.APIError, match="longer than the server allows"):
            for _ in server.client.chat.completions.create(model="tiny", stream=True, **ENDLESS):
                pass
        server.wait_until_idle()


def test_a_step_that_fails_costs_its_answers_not_the_server(endless: Path) -> None:
    """Full memory stands for whatever may go wrong inside the engine."""
    model = Model(endless, device="cpu")
    with serve(model) as server:
        step = model.engine.step

        def fail() -> None:
            raise MemoryError

        with httpx.stream("POST", server.url + CHAT, json={**ENDLESS, "stream": True}) as response:
            events = lines(response)
            next(events)
            model.engine.step = fail  # type: ignore[method-assign]
            last = list(events)[-1]
        assert "MemoryError" in last["error"]["message"]
        assert httpx.post(server.url + CHAT, json=ENDLESS).status_code == 500
        model.engine.step = step  # type: ignore[method-assign]
        server.wait_until_idle()
        assert httpx.post(server.url + CHAT, json={**ENDLESS, "max_tokens": 3}).status_code == 200


def test_metrics(learned: Model) -> None:
    with serve(learned) as server:
        for _ in range(2):
            httpx.post(server.url + CHAT, json={**ENDLESS, "max_tokens": 5})
        httpx.post(server.url + CHAT, json={})
        httpx.get(server.url + "/anything")
        prompt = len(learned.tokenizer.encode_chat(ENDLESS["messages"], add_generation_prompt=True)[0])
        text = httpx.get(server.url + "/metrics").text
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert figures[f'minimind_requests_total{{path="{CHAT}",status="200"}}'] == "2.0"
    assert figures[f'minimind_requests_total{{path="{CHAT}",status="400"}}'] == "1.0"
    assert figures['minimind_requests_total{path="other",status="404"}'] == "1.0"
    assert figures["minimind_prompt_tokens_total"] == str(float(2 * prompt))
    assert figures["minimind_generated_tokens_total"] == "10.0"
    assert figures["minimind_first_token_seconds_count"] == "2.0"
    assert figures["minimind_waiting"] == figures["minimind_batch_size"] == "0.0"
    assert figures["minimind_batch_limit"] == "32.0"
    assert float(figures["minimind_reused_prompt_tokens_total"]) >= prompt - 1  # the second asked the same
    assert 0 < float(figures["minimind_prefix_cache_bytes"]) < float(figures["minimind_prefix_cache_limit_bytes"])
    assert figures["minimind_cache_bytes"] == "0.0"
    assert re.search(r"minimind_request_seconds_bucket\{le=\"\+Inf\",path=\"/v1/chat/completions\"\} 3.0", text)


def test_a_call_that_the_model_begins_is_of_a_tool_on_offer(served_endless: Served) -> None:
    """This model would write anything; after the marker of a call it may not."""
    begins = served_endless.model.tokenizer.reserved["<tool_call>"]
    function = {"name": "dice", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}}
    choice = served_endless.client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": "the cat"}],
        tools=[{"type": "function", "function": function}],
        logit_bias={str(begins): 100},
        max_tokens=60,
        seed=1,
    ).choices[0]
    assert choice.message.tool_calls
    assert {(call.function.name, call.function.arguments) for call in choice.message.tool_calls} == {("dice", "{}")}


@pytest.mark.parametrize(
    "schema",
    [
        '{"properties": {' + ",".join(f'"p{i}": {{"pattern": "^[a-z]+{i}$"}}' for i in range(3000)) + "}}",
        '{"items": ' * 150 + "{}" + "}" * 150,
    ],
    ids=["patterns", "nested"],
)
def test_a_schema_that_cannot_be_followed_names_its_field(served: Served, schema: str) -> None:
    body = '{"messages": [{"role": "user", "content": "Hi"}], "response_format": {"type": "json_schema", '
    body += '"json_schema": {"name": "a", "schema": ' + schema + "}}}"
    answer = httpx.post(served.url + CHAT, content=body, timeout=60, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    error = error_of(answer)
    assert error["param"].startswith("response_format")
    assert re.match("response_format.*: .*(cannot be followed|nested)", error["message"])
