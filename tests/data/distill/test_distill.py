"""`minimind data distill`: questions in, training data out, whatever the teacher's server does meanwhile."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from tests.helpers import flags, start, write_jsonl
from tests.random_models import random_model

from minimind import Model
from minimind.cli import main
from minimind.data.distill.select import Selection, essence, is_refusal
from minimind.infer import remote
from minimind.model import save_model
from minimind.tokenizer import Tokenizer

Lines = list[dict[str, Any]]


class Teacher(ThreadingHTTPServer):
    """A server whose every answer is what `answer(body, attempt)` returns for a question that is asked the
    attempt-th time: a text, a message, a status, or raw bytes; None breaks the connection off."""

    daemon_threads = True

    def __init__(self, answer: Callable[[dict[str, Any], int], Any]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.asked: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.under_way = self.most_under_way = 0
        self.attempts: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Teacher

    def do_GET(self) -> None:
        self.reply(200, json.dumps({"data": [{"id": "oracle"}]}).encode())

    def do_POST(self) -> None:
        server, body = self.server, json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = json.dumps([body["messages"], body.get("seed")])
        with server.lock:
            server.asked.append(body)
            server.keys.add(self.headers["Authorization"])
            server.attempts[question] += 1
            attempt = server.attempts[question]
            server.under_way += 1
            server.most_under_way = max(server.most_under_way, server.under_way)
        try:
            said = server.answer(body, attempt)
        finally:
            with server.lock:
                server.under_way -= 1
        if said is None:
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        if isinstance(said, int):
            return self.reply(
                said, json.dumps({"error": {"message": f"status {said}"}}).encode(), {"Retry-After": "0"}
            )
        if isinstance(said, bytes):
            return self.reply(200, said)
        return self.reply(200, stream(said if isinstance(said, dict) else {"content": said}))

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(BrokenPipeError):  # who asked went away
            self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


def stream(message: dict[str, Any]) -> bytes:
    """A whole answer as the events of a stream; its `finish_reason` stands in the message."""
    message = dict(message)
    reason = message.pop("finish_reason", "stop")
    events = [
        {"choices": [{"index": 0, "delta": message, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]},
        {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 5}},
    ]
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"


@contextmanager
def teacher(answer: Callable[[dict[str, Any], int], Any]) -> Iterator[Teacher]:
    with Teacher(answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.01)


def question(body: dict[str, Any]) -> str:
    return body["messages"][-1]["content"]


def echo(body: dict[str, Any], attempt: int) -> str:
    return f"the answer to {question(body)}"


def slow_echo(body: dict[str, Any], attempt: int) -> str:
    """The first questions take longest, so that answers come in another order."""
    time.sleep(0.1 if question(body) in ("q0", "q1") else 0)
    return echo(body, attempt)


def distill(prompts: Path, source: Any, out: Path, *words: Any) -> int:
    return main(
        ["data", "distill", "--prompts", str(prompts), "--from", str(source), "--out", str(out), *map(str, words)]
    )


def read(path: Path) -> Lines:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def answers(path: Path) -> list[str]:
    return [line["conversations"][-1]["content"] for line in read(path)]


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "q.txt"
    path.write_text("".join(f"q{number}\n" for number in range(20)))
    return path


# ------------------------------------------------------------------------------------------------ what is asked


def test_lines_of_a_text_in_their_order(questions: Path, tmp_path: Path, capsys: Any) -> None:
    with teacher(slow_echo) as server:
        assert distill(questions, server.url, tmp_path / "out.jsonl", "--concurrency", 6) == 0
        assert 2 <= server.most_under_way <= 6
    wanted = [
        {
            "conversations": [
                {"role": "user", "content": f"q{n}"},
                {"role": "assistant", "content": f"the answer to q{n}"},
            ]
        }
        for n in range(20)
    ]
    assert read(tmp_path / "out.jsonl") == wanted
    assert capsys.readouterr().out == (
        f"{tmp_path}/out.jsonl: 20 conversations from 20 of 20 prompts\n20 requests, 300 tokens\n"
    )
    header, *records = read(tmp_path / "out.answers.jsonl")
    assert header["settings"]["teacher"] == "oracle"
    assert {(one["file"], one["line"]) for one in records} == {(str(questions), n) for n in range(1, 21)}
    assert [one["file"] for one in records] != [f"q{n}" for n in range(20)]
    assert records[0]["samples"][0]["teacher"] == "oracle"
    assert records[0]["samples"][0]["temperature"] == 0.7


def test_records_of_every_schema(tmp_path: Path, capsys: Any) -> None:
    rows = [
        {"prompt": "a?"},
        {"prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "b?"}]},
        {"text": "c?\nOr not?"},
        {"instruction": "d?", "output": "old"},
        {"conversations": [{"role": "user", "content": "e?"}, {"role": "assistant", "content": ""}]},
        {"chosen": [{"role": "user", "content": "f?"}, {"role": "assistant", "content": "y"}],
         "rejected": [{"role": "user", "content": "f?"}, {"role": "assistant", "content": "n"}]},
        {"prompt": " a? "},
        {"question": "e?"},
        {"conversations": [{"role": "system", "content": "", "tools": '[{"name": "x"}]'},
                           {"role": "user", "content": "g?"}, {"role": "assistant", "content": "h"}]},
        {"nothing": 1},
    ]  # fmt: skip
    prompts = write_jsonl(tmp_path / "q.jsonl", rows)
    with teacher(echo) as server:
        assert distill(prompts, server.url, tmp_path / "out.jsonl", "--system", "You are kind.") == 0
    asked = ["a?", "b?", "c?\nOr not?", "d?", "e?", "f?"]
    assert answers(tmp_path / "out.jsonl") == [f"the answer to {one}" for one in asked]
    systems = [line["conversations"][0]["content"] for line in read(tmp_path / "out.jsonl")]
    assert systems == ["You are kind.", "Be brief.", *["You are kind."] * 4]
    said = capsys.readouterr().out
    assert "2 prompts were there before and are asked once\n" in said
    assert f"2 no prompts:\n  {prompts}:9: no question in words: it has tools, or asks nothing\n" in said
    assert f"  {prompts}:10: unknown schema: its keys are nothing;" in said


def test_all_turns_are_asked_with_the_teachers_own_answers(tmp_path: Path) -> None:
    old = [("one?", "old 1"), ("two?", "old 2"), ("three?", "old 3")]
    turns = [m for q, a in old for m in ({"role": "user", "content": q}, {"role": "assistant", "content": a})]
    prompts = write_jsonl(tmp_path / "q.jsonl", [{"conversations": turns}])
    with teacher(echo) as server:
        assert distill(prompts, server.url, tmp_path / "out.jsonl", "--system", "S", "--hide-system") == 0
        assert [len(body["messages"]) for body in server.asked] == [2, 4, 6]
        assert server.asked[-1]["messages"][2] == {"role": "assistant", "content": "the answer to one?"}
    (line,) = read(tmp_path / "out.jsonl")
    contents = [message["content"] for message in line["conversations"]]
    assert contents == [text for q, _ in old for text in (q, f"the answer to {q}")]


def test_what_a_server_is_told(questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIMIND_API_KEY", "secret")
    words = ["--temperature", 0.2, "--top-p", 0.5, "--max-tokens", 7, "--seed", 3, "--think", "--model", "big"]
    with teacher(echo) as server:
        assert distill(questions, server.url, tmp_path / "out.jsonl", *words) == 0
    body = server.asked[0]
    assert {name: body[name] for name in ("model", "temperature", "top_p", "max_tokens")} == {
        "model": "big", "temperature": 0.2, "top_p": 0.5, "max_tokens": 7,
    }  # fmt: skip
    assert body["chat_template_kwargs"]["enable_thinking"] is True
    assert len({one["seed"] for one in server.asked}) == 20
    assert server.keys == {"Bearer secret"}
    assert not [path for path in tmp_path.iterdir() if b"secret" in path.read_bytes()]


def test_thinking_is_kept(questions: Path, tmp_path: Path) -> None:
    def think(body: dict[str, Any], attempt: int) -> dict[str, str]:
        number = question(body)
        if number == "q0":
            return {"reasoning_content": "hm", "content": "so q0"}
        return {"content": f"<think>\nwell\n</think>\n\nso {number}"}

    with teacher(think) as server:
        assert distill(questions, server.url, tmp_path / "out.jsonl") == 0
    said = [line["conversations"][1] for line in read(tmp_path / "out.jsonl")]
    assert said[0] == {"role": "assistant", "content": "so q0", "reasoning_content": "hm"}
    assert said[1] == {"role": "assistant", "content": "so q1", "reasoning_content": "well"}


# ------------------------------------------------------------------------------------------------ what is left out


def test_reasons(questions: Path, tmp_path: Path, capsys: Any) -> None:
    long = "A long sentence, which somebody says again and again"
    said: dict[str, Any] = {
        "q0": {"content": "   "},
        "q1": {"content": "half a", "finish_reason": "length"},
        "q2": "I'm sorry, but I can't help with that.",
        "q3": "抱歉，我无法提供这方面的信息。",
        "q4": {"content": "", "finish_reason": "content_filter"},
        "q5": long,
        "q6": long.upper() + "!!",
        "q7": "42",
        "q8": "42",
        "q9": {
            "content": "x",
            "tool_calls": [{"index": 0, "id": "1", "function": {"name": "f", "arguments": "{}"}}],
        },
    }
    with teacher(lambda body, attempt: said.get(question(body), f"fine, {question(body)}")) as server:
        assert distill(questions, server.url, tmp_path / "out.jsonl") == 0
        text = capsys.readouterr().out
        assert "left out: 3 refused, 1 empty, 1 truncated, 1 duplicate, 1 called a tool\n" in text
        assert answers(tmp_path / "out.jsonl")[:3] == [long, "42", "42"]
        # What is kept may change later: nobody is asked again.
        assert (
            distill(questions, server.url, tmp_path / "out.jsonl", "--keep", "refused", "truncated", "--json") == 0
        )
    report = json.loads(capsys.readouterr().out)
    assert report["left_out"] == {"empty": 1, "refused": 1, "duplicate": 1, "called a tool": 1}
    assert report["usage"] == {"requests": 20, "prompt_tokens": 200, "completion_tokens": 100}
    assert len(server.asked) == 20


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("I cannot provide medical advice.", True),
        ("As an AI language model, I am unable to create images.", True),
        ("Unfortunately I’m not able to help with this.", True),
        ("作为一个人工智能助手，我不能回答这个问题。", True),
        ("很抱歉，我没有办法回答。", True),
        ("我无法回答这个问题。", True),
        ("I can help with that: first, boil the water.", False),
        ("I can't help but wonder at it.", False),
        ("Penguins cannot fly. I think they swim.", False),
        ("Sorry for the delay. The answer is 4.", False),
        ("抱歉让你久等了，答案是四。", False),
        ("我不能吃花生，因为过敏。", False),
    ],
)
def test_refusals(text: str, refuses: bool) -> None:
    assert is_refusal(text) is refuses


def test_essence() -> None:
    assert essence("  The ＡＢＣ, of it:  水！") == "theabcofit水"


# ------------------------------------------------------------------------------------------------ pairs


def test_pairs_of_two_models(questions: Path, tmp_path: Path) -> None:
    with teacher(lambda body, attempt: f"{body['model']} at {body['temperature']}: {question(body)}") as server:
        words = ["--kind", "preference", "--model", "big", "--rejected-model", "small"]
        assert distill(questions, server.url, tmp_path / "out.jsonl", *words) == 0
        assert len(server.asked) == 40
    line = read(tmp_path / "out.jsonl")[0]
    assert line["chosen"] == [{"role": "user", "content": "q0"}, {"role": "assistant", "content": "big at 0.7: q0"}]
    assert line["rejected"][1]["content"] == "small at 0.7: q0"
    assert main(["data", "check", str(tmp_path / "out.jsonl")]) == 0


def test_pairs_of_two_temperatures(questions: Path, tmp_path: Path, capsys: Any) -> None:
    def answer(body: dict[str, Any], attempt: int) -> str:
        return "same" if question(body) == "q3" else f"at {body['temperature']}"

    with teacher(answer) as server:
        words = ["--kind", "preference", "--temperature", 0, "--rejected-temperature", 1.5]
        assert distill(questions, server.url, tmp_path / "out.jsonl", *words) == 0
    assert "19 pairs" in (said := capsys.readouterr().out)
    assert "left out: 1 equal\n" in said
    assert [read(tmp_path / "out.jsonl")[0][side][1]["content"] for side in ("chosen", "rejected")] == [
        "at 0.0",
        "at 1.5",
    ]


def marking(body: dict[str, Any], attempt: int) -> Any:
    """Answers with a number that depends on the seed; as a judge gives that number as the mark, and q1 always 7."""
    if body["model"] == "judge":
        return (
            "7" if "user: q1\n" in question(body) else f"I give it {question(body).split('mark: ')[1].split()[0]}."
        )
    return f"mark: {body['seed'] % 9 + 1} for {question(body)} ({body['seed']})"


@pytest.mark.parametrize("kind", ["sft", "preference"])
def test_best_of_several(kind: str, questions: Path, tmp_path: Path, capsys: Any) -> None:
    with teacher(marking) as server:
        words = ["--kind", kind, "--best-of", 4, "--judge", server.url, "--judge-model", "judge", "--seed", 1]
        assert distill(questions, server.url, tmp_path / "out.jsonl", *words) == 0
        assert len(server.asked) == 20 * 8
    said = capsys.readouterr().out
    assert "160 requests, 2,400 tokens\n" in said
    _, *records = read(tmp_path / "out.answers.jsonl")
    by_line = {record["line"]: record["samples"] for record in records}
    lines = read(tmp_path / "out.jsonl")
    if kind == "sft":
        assert len(lines) == 20
        for number, line in enumerate(lines, 1):
            scores = [sample["score"] for sample in by_line[number]]
            chosen = next(s for s in by_line[number] if s["message"] == line["conversations"][-1])
            assert chosen["score"] == max(scores)
    else:
        assert "left out: 1 tied\n" in said, "q1, whose marks are all 7"
        for line in lines:
            better, worse = (int(line[side][-1]["content"].split()[1]) for side in ("chosen", "rejected"))
            assert better > worse


def test_a_reward_model_as_the_judge(
    questions: Path, tokenizer_directory: Path, tmp_path: Path, capsys: Any
) -> None:
    """Its scores are those of `Model.reward`, its highest is chosen, and it costs no requests."""
    tokenizer = Tokenizer.load(tokenizer_directory)
    save_model(random_model(vocab_size=tokenizer.vocab_size, num_labels=1), tmp_path / "reward", tokenizer)
    words = ["--kind", "preference", "--best-of", 3, "--judge", tmp_path / "reward", "--device", "cpu", "--seed", 1]
    with teacher(lambda body, attempt: f"the cat sees {body['seed']}") as server:
        assert distill(questions, server.url, tmp_path / "out.jsonl", *words) == 0
        assert len(server.asked) == 60
    assert "60 requests, 900 tokens" in capsys.readouterr().out
    reward = Model(tmp_path / "reward", device="cpu").reward
    _, *records = read(tmp_path / "out.answers.jsonl")
    by_line = {record["line"]: [sample["score"] for sample in record["samples"]] for record in records}
    for number, line in enumerate(read(tmp_path / "out.jsonl"), 1):
        assert reward(line["chosen"]) == pytest.approx(max(by_line[number]), rel=1e-5)
        assert reward(line["rejected"]) == pytest.approx(min(by_line[number]), rel=1e-5)


def test_a_question_inside_a_conversation_keeps_what_was_before(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "one?"}, {"role": "assistant", "content": "old"}]
    turns += [{"role": "user", "content": "two?"}, {"role": "assistant", "content": "old 2"}]
    prompts = write_jsonl(tmp_path / "q.jsonl", [{"conversations": turns}])
    with teacher(marking) as server:
        words = ["--best-of", 2, "--judge", server.url, "--judge-model", "judge", "--seed", 1]
        assert distill(prompts, server.url, tmp_path / "out.jsonl", *words) == 0
    (line,) = read(tmp_path / "out.jsonl")
    assert line["conversations"][1] == {"role": "assistant", "content": "old", "train": False}
    assert [message["role"] for message in line["conversations"]] == ["user", "assistant"] * 2


def test_a_refusal_may_be_rejected_but_not_chosen() -> None:
    def sample(content: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": content}, "stop_reason": "stop"}

    good, refusal = sample("Boil it."), sample("I cannot help with that.")
    assert Selection("preference").choose([good, refusal]) == [good, refusal]
    assert Selection("preference").choose([refusal, good]) == "refused"


# ------------------------------------------------------------------------------------------------ faults


@pytest.mark.parametrize("fault", [429, 500, 503, None, b"data: {broken\n\n", b"<html>", b"data: [DONE]\n\n"[:6]])
def test_a_fault_that_passes_is_asked_again(fault: Any, questions: Path, tmp_path: Path, capsys: Any) -> None:
    with teacher(lambda body, attempt: fault if attempt <= 2 else echo(body, attempt)) as server:
        assert distill(questions, server.url, tmp_path / "out.jsonl", "--json") == 0
    assert len(answers(tmp_path / "out.jsonl")) == 20
    assert json.loads(capsys.readouterr().out)["usage"]["requests"] == 60


def test_retry_after_is_obeyed(questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry-After of 0 seconds stands in the answer: the waits of an hour are not taken."""
    monkeypatch.setattr(remote, "FIRST_WAIT", 3600)
    with teacher(lambda body, attempt: 429 if attempt == 1 else echo(body, attempt)) as server:
        assert distill(questions, server.url, tmp_path / "out.jsonl") == 0


def test_a_server_that_dies_midway(questions: Path, tmp_path: Path, capsys: Any) -> None:
    with teacher(echo) as whole:
        assert distill(questions, whole.url, tmp_path / "whole.jsonl") == 0
    alive = threading.Semaphore(7)

    def dying(body: dict[str, Any], attempt: int) -> str | None:
        return echo(body, attempt) if alive.acquire(blocking=False) else None

    with teacher(dying) as server:
        assert distill(questions, server.url, tmp_path / "out.jsonl", "--retries", 1, "--concurrency", 3) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.endswith(f"{tmp_path}/out.answers.jsonl has the answers so far, and the same command goes on\n")
    assert len(answers(tmp_path / "out.jsonl")) == 7
    with teacher(echo) as server:
        assert distill(questions, server.url, tmp_path / "out.jsonl") == 0
        assert len(server.asked) == 13
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_slow_server_costs_its_time(questions: Path, tmp_path: Path, capsys: Any) -> None:
    def slow(body: dict[str, Any], attempt: int) -> str:
        time.sleep(1.5 if attempt == 1 and question(body) == "q5" else 0)
        return echo(body, attempt)

    with teacher(slow) as server:
        assert distill(questions, server.url, tmp_path / "out.jsonl", "--timeout", 0.5, "--json") == 0
    assert json.loads(capsys.readouterr().out)["usage"]["requests"] == 21


def test_a_wrong_key_ends_it_at_once(questions: Path, tmp_path: Path, capsys: Any) -> None:
    with teacher(lambda body, attempt: 401) as server:
        assert distill(questions, server.url, tmp_path / "out.jsonl", "--concurrency", 2) == 2
        assert len(server.asked) <= 2
    assert "/chat/completions answers with status 401: status 401; " in capsys.readouterr().err


def test_one_prompt_that_is_refused_is_named(questions: Path, tmp_path: Path, capsys: Any) -> None:
    with teacher(lambda body, attempt: 400 if question(body) == "q9" else echo(body, attempt)) as server:
        assert distill(questions, server.url, tmp_path / "out.jsonl") == 0
    said = capsys.readouterr().out
    assert "19 conversations from 19 of 20 prompts\n" in said
    assert (
        f"1 refused by the teacher:\n  {questions}:10: {server.url}/chat/completions answers with status 400"
        in said
    )
    with teacher(lambda body, attempt: 400) as server:
        assert distill(questions, server.url, tmp_path / "none.jsonl", "--concurrency", 1) == 2
        assert len(server.asked) <= 5
    assert "no prompt can be asked; the last one: " in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ going on


def test_the_budget(questions: Path, tmp_path: Path, capsys: Any) -> None:
    with teacher(echo) as server:
        assert (
            distill(questions, server.url, tmp_path / "out.jsonl", "--max-requests", 7, "--prices", 1000, 2000) == 0
        )
        assert len(server.asked) == 7
        said = capsys.readouterr().out
        assert (
            "7 conversations from 7 of 20 prompts\n7 requests, 105 tokens, cost 0.1400\nthe budget is spent" in said
        )
        assert distill(questions, server.url, tmp_path / "out.jsonl", "--max-requests", 7) == 0
        assert len(server.asked) == 7
        words = ["--max-tokens-total", 150, "--concurrency", 1]
        assert distill(questions, server.url, tmp_path / "out.jsonl", *words) == 0
        assert len(server.asked) in (10, 11), "at most one was begun before the tokens of the tenth were counted"
        assert distill(questions, server.url, tmp_path / "out.jsonl") == 0
        assert len(server.asked) == 20
    assert len(answers(tmp_path / "out.jsonl")) == 20


def test_other_settings_are_refused_and_more_prompts_are_not(questions: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out.jsonl"
    with teacher(echo) as server:
        assert distill(questions, server.url, out) == 0
        assert distill(questions, server.url, out, "--temperature", 0.9) == 2
        assert capsys.readouterr().err == (
            f"error: {tmp_path}/out.answers.jsonl was begun with temperature = 0.7, not 0.9; give the same again, "
            "or another --out\n"
        )
        questions.write_text("new\n" + questions.read_text())
        assert distill(questions, server.url, out) == 0
        assert len(server.asked) == 21
    assert answers(out)[:2] == ["the answer to new", "the answer to q0"]


def test_a_line_that_a_kill_cut_is_asked_again(questions: Path, tmp_path: Path) -> None:
    out, journal = tmp_path / "out.jsonl", tmp_path / "out.answers.jsonl"
    with teacher(echo) as server:
        assert distill(questions, server.url, out, "--concurrency", 1) == 0
        wanted = out.read_bytes(), journal.read_bytes()
        for cut in (3, len(wanted[1]) - 30, journal.read_bytes().index(b"\n") - 2):
            journal.write_bytes(wanted[1][:cut])
            assert distill(questions, server.url, out, "--concurrency", 1) == 0
            assert (out.read_bytes(), journal.read_bytes()) == wanted


def command(prompts: Path, source: str, out: Path) -> list[str]:
    return ["data", "distill", "--prompts", str(prompts), "--from", source, "--out", str(out), "--concurrency", "2"]


def wait_until(holds: Callable[[], bool], process: BaseProcess) -> None:
    while not holds():
        assert process.is_alive()
        time.sleep(0.01)


def test_a_killed_run_goes_on(questions: Path, tmp_path: Path) -> None:
    """kill -9 in the middle, twice; the file is the one that an undisturbed run writes, and no answer is lost."""
    with teacher(slow_echo) as server:
        assert distill(questions, server.url, tmp_path / "whole.jsonl") == 0
    gate = threading.Semaphore(0)

    def gated(body: dict[str, Any], attempt: int) -> str:
        gate.acquire()
        return echo(body, attempt)

    out, journal = tmp_path / "out.jsonl", tmp_path / "out.answers.jsonl"
    lines = lambda: journal.read_bytes().count(b"\n") if journal.exists() else 1  # noqa: E731
    with teacher(gated) as server:
        for _ in range(2):
            before = lines()
            process = start(command(questions, server.url, out), tmp_path / "log")
            gate.release(5)  # of which two may go to requests of the process that was killed before
            wait_until(lambda least=before + 3: lines() >= least, process)  # type: ignore[misc]
            process.kill()
            process.join()
        done, asked = lines() - 1, len(server.asked)
        assert 6 <= done <= 10
        gate.release(100)
        assert distill(questions, server.url, out) == 0
        assert len(server.asked) - asked == 20 - done
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_ctrl_c_waits_for_what_is_under_way(questions: Path, tmp_path: Path) -> None:
    gate = threading.Semaphore(3)

    def gated(body: dict[str, Any], attempt: int) -> str:
        gate.acquire()
        return echo(body, attempt)

    out, log = tmp_path / "out.jsonl", tmp_path / "log"
    with teacher(gated) as server:
        process = start(command(questions, server.url, out), log)
        wait_until(lambda: len(server.asked) == 5, process)  # three are answered, two are under way
        assert process.pid is not None
        os.kill(process.pid, signal.SIGINT)
        stopping = "stopping: answers under way are waited for; Ctrl-C again leaves them\n"
        wait_until(lambda: stopping in log.read_text(), process)
        gate.release(100)
        process.join()
        assert process.exitcode == 130
    kept = f"stopped; {tmp_path}/out.answers.jsonl has the answers so far, and the same command goes on\n"
    assert log.read_text() == stopping + kept
    assert len(answers(out)) == len(server.asked) == 5


def test_one_process_at_a_time(questions: Path, tmp_path: Path, capsys: Any) -> None:
    inner: list[int] = []

    def answer(body: dict[str, Any], attempt: int) -> str:
        if not inner:
            inner.append(0)
            inner[0] = distill(questions, server.url, tmp_path / "out.jsonl")
        return echo(body, attempt)

    with teacher(answer) as server:
        assert distill(questions, server.url, tmp_path / "out.jsonl", "--concurrency", 1) == 0
    assert inner == [2]
    assert "is being written by another process; stop that one" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--kind preference", "a pair needs a worse answer: name --rejected-from, --rejected-model or"),
        ("--rejected-temperature 2", "the --rejected options are about pairs; add --kind preference"),
        ("--best-of 3", "--best-of and --judge belong together"),
        ("--judge m --best-of 2 --kind preference --rejected-temperature 1", "a pair is either two teachers' or"),
        (
            "--kind preference --rejected-temperature 0.7",
            "chosen and rejected answers would come from one model",
        ),
        ("--temperature -1", "temperature must be a number from 0 to 1,000, not -1.0"),
    ],
)
def test_options_that_do_not_fit(words: str, sentence: str, questions: Path, tmp_path: Path, capsys: Any) -> None:
    with teacher(echo) as server:
        assert distill(questions, server.url, tmp_path / "out.jsonl", *words.split()) == 2
        assert not server.asked
    assert capsys.readouterr().err.startswith(f"error: {sentence}")
    assert [path.name for path in tmp_path.iterdir()] == ["q.txt"]


def test_nothing_to_ask(tmp_path: Path, capsys: Any) -> None:
    prompts = write_jsonl(tmp_path / "q.jsonl", [{"nothing": 1}])
    assert distill(prompts, "http://127.0.0.1:9", tmp_path / "out.jsonl") == 2
    assert "holds no prompt; its first line: " in capsys.readouterr().err
    (tmp_path / "mine.answers.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "q.txt").write_text("hello\n")
    with teacher(echo) as server:
        assert distill(tmp_path / "q.txt", server.url, tmp_path / "mine.jsonl") == 2
        assert "is no journal of `minimind data distill`" in capsys.readouterr().err
        assert distill(tmp_path / "q.txt", server.url, tmp_path / "mine.txt") == 2
        assert "is no name of a .jsonl file" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ a local model


def test_a_local_model_teaches_and_its_answers_train(
    talker: Path, base_model: Path, tmp_path: Path, capsys: Any
) -> None:
    """Alone or in company it says the same; what it said passes the check, and a student trains on it."""
    (tmp_path / "q.txt").write_text(
        "".join(f"the {word} cat sees {n}\n" for n in range(8) for word in ("old", "red"))
    )
    words = ["--max-tokens", 12, "--seed", 1, "--keep", "truncated", "--device", "cpu", "--concurrency", "1"]
    for name, concurrency in (("one", 1), ("many", 7)):
        assert (
            distill(tmp_path / "q.txt", talker, tmp_path / f"{name}.jsonl", *words, "--concurrency", concurrency)
            == 0
        )
    out = tmp_path / "many.jsonl"
    assert out.read_bytes() == (tmp_path / "one.jsonl").read_bytes()
    assert len(read(out)) > 10
    assert main(["data", "check", str(out)]) == 0
    assert "16 prompts" in (said := capsys.readouterr().out)
    assert "0 bad lines" in said
    assert "keys that are not read" not in said
    settings = dict.fromkeys(("model__hidden_size", "model__num_hidden_layers", "model__num_attention_heads"))
    arguments = flags(**settings, model__intermediate_size=None, budget__steps=2)
    assert (
        main(
            [
                "train",
                "sft",
                "--data",
                str(out),
                "--from",
                str(base_model),
                "--out",
                str(tmp_path / "run"),
                *arguments,
            ]
        )
        == 0
    )
