"""What a server is asked, and what is made of its answers; the server is one that says what the test wants."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest
from tests.stub_server import DONE, StubServer, call, event, stub_server

from minimind.commands.chat import answer
from minimind.errors import UserError
from minimind.infer import transport
from minimind.infer.conversation import Conversation
from minimind.infer.events import End, ModelEvent, Text, Thinking, Token, ToolCall
from minimind.infer.remote import ChoiceStream, RemoteBackend, Server, to_openai
from minimind.infer.sampler import SamplingParams
from minimind.tokenizer import Tokenizer
from minimind.tools import Toolbox
from minimind.tools.builtin import builtin_tools

HELLO = [{"role": "user", "content": "hello"}]
CALLS = [{"name": "a", "arguments": {}}, {"name": "b", "arguments": {"x": "山"}, "id": "abc"}]


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with stub_server() as server:
        yield server


def ask(stub: StubServer, *events: Any, tools: Any = (), think: bool = False, **sampling: Any) -> list[ModelEvent]:
    stub.answers.append([*events, DONE])
    backend = RemoteBackend(Server(stub.url, "secret"), "small")
    return list(backend.speak(HELLO, list(tools), SamplingParams(**sampling), think))


def test_addresses(stub: StubServer) -> None:
    for address in (stub.url, f" {stub.url}/ ", f"http://{stub.host}"):
        server = Server(address)
        assert (server.url, server.host) == (stub.url, stub.host)
        assert server.models() == ["small", "large"]
    assert Server("http://user@example.org/api").host == "example.org"


@pytest.mark.parametrize(
    "address", ["nowhere", "file:///etc/passwd", "http://", "http://[::1", "http://localhost:99999/v1"]
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(UserError, match="is no address of a server; give one as"):
        Server(address)


def test_parameters_that_only_some_servers_know_are_sent_where_they_are_set(stub: StubServer) -> None:
    ask(stub)
    usual = {"model": "small", "messages": HELLO, "stream": True}
    assert stub.asked[0] == {**usual, "temperature": 0.7, "top_p": 0.95, "max_tokens": 512}
    sampling = {"temperature": 0.5, "top_p": 0.9, "max_tokens": 9, "min_p": 0.1, "seed": 3}
    tool = builtin_tools()["calculate"].schema
    ask(stub, **sampling, top_logprobs=5, tools=[tool], think=True)
    flags = {"enable_thinking": True, "open_thinking": True}
    extras = {"logprobs": True, "top_logprobs": 5, "tools": [tool], "chat_template_kwargs": flags}
    assert stub.asked[1] == {**usual, **sampling, **extras}
    assert stub.keys == ["Bearer secret"] * 2


def test_an_answer_in_pieces(stub: StubServer) -> None:
    events = ask(
        stub,
        ": a comment",
        event(role="assistant", content=""),
        event(reasoning_content="hm", reasoning="hm"),
        event(reasoning=" ok"),
        event(content="Hi"),
        event("stop"),
        {"choices": [], "usage": {"total_tokens": 9}},
    )
    assert events == [Thinking("hm"), Thinking(" ok"), Text("Hi"), End("stop")]
    assert [len(event.tokens) for event in events] == [1, 1, 1, 0]


def test_tokens_come_with_their_log_probabilities() -> None:
    likeliest = [{"token": "Ho", "logprob": -0.25}, {"token": "Hi", "logprob": -0.5}]
    tokens = [{"token": "Hi", "logprob": -0.5, "top_logprobs": likeliest}, {"token": " there", "logprob": -1}]
    answer = ChoiceStream()
    (said,) = answer.push(event("length", {"content": tokens}, content="Hi there")["choices"][0])
    assert said == Text("Hi there")
    top = (Token(text="Ho", logprob=-0.25), Token(text="Hi", logprob=-0.5))
    assert said.tokens == (Token(text="Hi", logprob=-0.5, top_logprobs=top), Token(text=" there", logprob=-1.0))
    assert list(answer.end()) == [End("length")]


def test_tool_calls_may_come_in_parts_or_at_once() -> None:
    answer = ChoiceStream()
    for part in (call(name="calculate", arguments='{"expr'), call(arguments='ession": "6*7"}')):
        assert answer.push(part["choices"][0]) == [Text("")]  # nothing that is not whole
    whole = [{"function": {"name": name, "arguments": text}} for name, text in (("now", ""), ("odd", "{cut"))]
    answer.push(event(tool_calls=whole)["choices"][0])
    first = ToolCall("calculate", {"expression": "6*7"}, "abc")
    assert list(answer.end()) == [first, ToolCall("now", {}), ToolCall("odd", "{cut"), End("stop")]


def test_results_are_tied_to_their_calls() -> None:
    messages = [
        {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": CALLS},
        {"role": "tool", "content": "1"},
        {"role": "tool", "content": "2", "tool_call_id": "abc"},
        {"role": "tool", "content": "of a call that cannot be read"},
    ]
    said, *results = to_openai(messages)
    functions = [{"name": "a", "arguments": "{}"}, {"name": "b", "arguments": '{"x": "山"}'}]
    assert [one["function"] for one in said.pop("tool_calls")] == functions
    assert said == {"role": "assistant", "content": ""}
    assert [one.get("tool_call_id") for one in results] == ["call_0_0", "abc", None]


def test_a_call_that_was_stopped_is_left_out() -> None:
    message = {"role": "assistant", "content": "Let me see.", "tool_calls": CALLS}
    first, result, _ = to_openai([message, {"role": "tool", "content": "1"}, *HELLO])
    assert [one["id"] for one in first["tool_calls"]] == [result["tool_call_id"]]
    assert to_openai([message, *HELLO]) == [{"role": "assistant", "content": "Let me see."}, *HELLO]


def test_messages_of_a_server_can_be_read_by_a_model_of_ours(tokenizer_directory: Path) -> None:
    """In the web pages models here and there take part in one conversation."""
    tokenizer = Tokenizer.load(tokenizer_directory)
    plain = [{name: one[name] for name in ("name", "arguments")} for one in CALLS]
    ids = []
    for calls, tied in ((CALLS, {"tool_call_id": "abc"}), (plain, {})):
        answer = {"role": "assistant", "content": "", "tool_calls": calls}
        messages = [*HELLO, answer, *({"role": "tool", "content": "1", **tied} for _ in calls)]
        ids.append(tokenizer.encode_chat(messages, add_generation_prompt=True)[0])
    assert ids[0] == ids[1]


def test_a_turn_with_tools(stub: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    tools = Toolbox([builtin_tools()["calculate"]])
    server = Server(stub.url)
    conversation = Conversation(RemoteBackend(server, "small"), system="Be brief.", tools=tools)
    stub.answers = [
        [event(content="See:"), call(name="calculate", arguments='{"expression": "6 * 7"}'), DONE],
        [call(name="calculate", arguments="6 * 7"), DONE],
        [event(content="It is 42."), event("stop"), DONE],
    ]
    answer(conversation, "What is 6 * 7?")
    assert capsys.readouterr().out.splitlines() == [
        "See:",
        '→ calculate(expression="6 * 7")',
        '← {"result": 42}',
        "→ calculate(6 * 7)",
        '← {"error": "the arguments are not JSON: Extra data: line 1 column 3 (char 2)"}',
        "It is 42.",
    ]
    assert conversation.answer_tokens == 4
    assert [one["role"] for one in conversation.messages] == ["user", *["assistant", "tool"] * 2, "assistant"]
    asked = stub.asked[2]["messages"]
    assert asked[0] == {"role": "system", "content": "Be brief."}
    assert asked[2]["tool_calls"][0] == {
        "id": "abc",
        "type": "function",
        "function": {"name": "calculate", "arguments": '{"expression": "6 * 7"}'},
    }
    assert asked[3] == {"role": "tool", "content": '{"result": 42}', "tool_call_id": "abc"}


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([], "{url}/chat/completions answers with status 400: top_k is too large"),
        ([{"error": {"message": "the engine failed"}}], "{url} answers: the engine failed"),
        ([{"error": "no luck"}], "{url} answers: no luck"),
        (["data: {cut off"], "{url} sends no stream of completions; is it OpenAI-compatible?"),
        (["data: []"], "{url} sends no stream of completions; is it OpenAI-compatible?"),
        ([event(content=["Hi"])], "{url} sends no stream of completions; is it OpenAI-compatible?"),
        ([event(content="Hi")], "{url} ended in the middle of an answer; is the server running?"),
    ],
)
def test_what_goes_wrong_is_said_in_one_sentence(stub: StubServer, lines: list[Any], sentence: str) -> None:
    stub.answers = [lines] if lines else []
    conversation = Conversation(RemoteBackend(Server(stub.url), "small"))
    with pytest.raises(UserError) as error:
        list(conversation.say("hello"))
    assert str(error.value) == sentence.format(url=stub.url)
    assert conversation.messages == []


def test_a_stream_may_end_without_a_last_line(stub: StubServer) -> None:
    stub.answers = [[event("stop", content="Hi")]]
    events = list(RemoteBackend(Server(stub.url), "small").speak(HELLO, [], SamplingParams(), think=False))
    assert events == [Text("Hi"), End("stop")]


def test_nobody_answers() -> None:
    with pytest.raises(UserError, match=r"http://127.0.0.1:9/v1 cannot be reached: .*is the server running"):
        Server("http://127.0.0.1:9").models()


class Nobody(socketserver.BaseRequestHandler):
    """Sends the parts that a test gave its server, with a pause after each, and goes on with the last for ever."""

    def handle(self) -> None:
        self.request.recv(65536)
        *first, last = self.server.parts  # type: ignore[attr-defined]
        with suppress(OSError):
            for part in chain(first, repeat(last)):
                self.request.sendall(part)
                if len(part) < 1000:
                    self.server.ended.wait(0.05)  # type: ignore[attr-defined]


@contextmanager
def nobody(*parts: bytes) -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Nobody) as server:
        server.daemon_threads, server.parts, server.ended = True, parts, threading.Event()  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.ended.set()  # type: ignore[attr-defined]
        server.shutdown()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
HI = b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n'
EMPTY = b'data: {"choices": [{"delta": {}}]}\n'


def sentence_of(url: str) -> str:
    with pytest.raises(UserError) as error:
        list(RemoteBackend(Server(url), "small").speak(HELLO, [], SamplingParams(), think=False))
    return str(error.value).replace(url, "URL")


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ([b""], "URL/v1 cannot be reached: nothing came for 0.5 seconds; is the server running?"),
        ([b"HTTP/1.1 200 OK\r\n", b"X"], "the connection to URL/v1 broke off: nothing came for 0.5 seconds"),
        ([b"HTTP/1.1 500 No\r\n\r\n", b"x"], "the connection to URL/v1 broke off: nothing came for 0.5 seconds"),
        ([HEAD, b""], "the connection to URL/v1 broke off: nothing came for 0.5 seconds"),
        ([HEAD, b"x"], "the connection to URL/v1 broke off: nothing came for 0.5 seconds"),
        ([HEAD, b": wait\n"], "the connection to URL/v1 broke off: nothing came for 0.5 seconds"),
        ([HEAD, HI, b"data: "], "the connection to URL/v1 broke off: nothing came for 0.3 seconds"),
        ([HEAD, HI, EMPTY], "the connection to URL/v1 broke off: nothing came for 0.3 seconds"),
    ],
)
def test_a_server_that_hangs_costs_its_time(
    parts: list[bytes], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "FIRST", 0.5)
    monkeypatch.setattr(transport, "NEXT", 0.3)
    with nobody(*parts) as url:
        assert sentence_of(url) == sentence


@pytest.mark.parametrize(
    "part",
    [
        b"x" * 5000,
        b"x\n" * 5000,
        HI * 100,
        b'data: {"choices": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
        b'data: {"choices": [{"logprobs": {"content": [{"token": "a", "logprob": 1' + b"0" * 400 + b"}]}}]}\n",
        b'data: {"choices": [{"delta": {"tool_calls": [{"id": [1]}]}}]}\n',
        b'data: {"choices": [{"finish_reason": [1]}]}\n',
    ],
    ids=["line", "lines", "events", "nested", "number", "id", "reason"],
)
def test_what_no_server_should_send(part: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "LARGEST", 500_000)
    monkeypatch.setattr(transport, "LONGEST_LINE", 300_000)
    with nobody(HEAD, part) as url:
        assert sentence_of(url) == "URL/v1 sends no stream of completions; is it OpenAI-compatible?"


@pytest.mark.parametrize("part", [b"", b"x", b"x" * 5000, b'{"data": ' + b"[" * 9000])
def test_a_list_of_models_that_never_ends(part: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"FIRST": 0.5, "LARGEST": 20_000}.items():
        monkeypatch.setattr(transport, name, value)
    with nobody(HEAD, part) as url, pytest.raises(UserError, match=r"broke off|no list of models"):
        Server(url).models()


def test_a_slow_reader_is_no_slow_server(stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "NEXT", 0.2)
    stub.answers.append([event(content="Hi"), event("stop", content="there"), DONE])
    events = RemoteBackend(Server(stub.url), "small").speak(HELLO, [], SamplingParams(), think=False)
    first = next(events)
    time.sleep(0.6)
    assert [first, *events] == [Text("Hi"), Text("there"), End("stop")]
