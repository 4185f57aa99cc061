"""`minimind chat` as typed: piped, one answer, and in a terminal."""

import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.random_models import random_model

from minimind import Model
from minimind.cli import main
from minimind.commands import chat
from minimind.model import save_model
from minimind.tokenizer import Tokenizer


def ask(talker: Path, *arguments: str) -> list[str]:
    return ["chat", str(talker), "--device", "cpu", "--max-tokens", "12", "--seed", "1", *arguments]


def test_one_answer(talker: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(ask(talker, "--prompt", "the cat")) == 0
    message = [{"role": "user", "content": "the cat"}]
    wanted = Model(talker, device="cpu").chat(message, max_tokens=12, seed=1)
    printed = capsys.readouterr()
    assert printed.out == wanted["content"] + "\n"
    assert printed.err == ""


def test_sampling_flags_reach_the_engine(talker: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--temperature", "1.5", "--top-p", "0.9", "--top-k", "40", "--min-p", "0.01"]
    flags += ["--repetition-penalty", "1.2", "--system", "old dog"]
    assert main(ask(talker, *flags, "--prompt", "the cat")) == 0
    messages = [{"role": "system", "content": "old dog"}, {"role": "user", "content": "the cat"}]
    sampling = {"temperature": 1.5, "top_p": 0.9, "top_k": 40, "min_p": 0.01, "repetition_penalty": 1.2}
    wanted = Model(talker, device="cpu").chat(messages, max_tokens=12, seed=1, **sampling)
    assert capsys.readouterr().out == wanted["content"] + "\n"


def pipe(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(line + "\n" for line in lines)))


def test_every_piped_line_is_a_turn(
    talker: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe(monkeypatch, "the cat", "", "a dog")
    assert main(ask(talker)) == 0
    model = Model(talker, device="cpu")
    messages = [{"role": "user", "content": "the cat"}]
    messages.append(model.chat(messages, max_tokens=12, seed=1))
    answers = [messages[-1]["content"]]
    messages.append({"role": "user", "content": "a dog"})
    answers.append(model.chat(messages, max_tokens=12, seed=1)["content"])
    assert capsys.readouterr().out == "".join(answer + "\n" for answer in answers)


def test_commands(talker: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    conversations = []
    answer = chat.answer
    monkeypatch.setattr(chat, "answer", lambda c, text: (conversations.append(c), answer(c, text)))
    pipe(
        monkeypatch,
        "the cat",
        "/reset",
        "/system old dog",
        "/set temperature 0.25",
        "/set top-k 5",
        "/set seed null",
        "/think",
        "a dog",
        "/set temperature hot",
        "/set temperature -1",
        "/set color red",
        "/dance",
        "/help",
        "/quit",
        "never asked",
    )
    assert main(ask(talker)) == 0
    conversation = conversations[-1]
    assert len(conversations) == 2
    assert [message["content"] for message in conversation.messages[:1]] == ["a dog"]
    assert conversation.system == "old dog"
    assert conversation.think
    assert (conversation.params.temperature, conversation.params.top_k, conversation.params.seed) == (0.25, 5, None)
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        "error: /set temperature: the value must be a number from 0 to 1,000, not 'hot'",
        "error: /set temperature: the value must be a number from 0 to 1,000, not '-1'",
        "error: /set color: name one of temperature, top_k, top_p, min_p, repetition_penalty, "
        "presence_penalty, frequency_penalty, max_tokens, thinking_budget, seed, "
        "then its value",
        "error: there is no command /dance; /help names them",
    ]
    assert "/system TEXT" in printed.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "error: nowhere is no directory; give a model directory or a run directory"),
        (["{talker}", "--temperature", "-1"], "error: temperature must be a number from 0 to 1,000, not -1.0"),
        (["{talker}", "--device", "abacus"], "error: device 'abacus' cannot be used here; try auto or cpu"),
        (["{talker}", "--prompt", "cat " * 1000], "error: the message is too long"),
        (["{talker}", "--top-k", "many"], "error: argument --top-k: invalid int value: 'many'"),
    ],
)
def test_mistakes_are_one_sentence(
    talker: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert main(["chat", *(argument.format(talker=talker) for argument in arguments)]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(sentence)
    assert printed.count("\n") == 1


def test_help_needs_no_torch_and_shows_examples() -> None:
    code = "import sys; from minimind.cli import main; main(['chat', '--help']); print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert "examples:" in out
    assert out.endswith("False\n")


def test_ctrl_c_at_the_prompt_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = iter([KeyboardInterrupt, KeyboardInterrupt, EOFError])

    def read(prompt: str) -> str:
        raise next(typed)

    monkeypatch.setattr("builtins.input", read)
    chat.talk(None)
    assert list(typed) == []


class Terminal:
    """A command in a pseudo-terminal."""

    def __init__(self, *arguments: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(
                sys.executable, [sys.executable, "-m", "minimind", *arguments], {**os.environ, "TERM": "xterm"}
            )
        self.seen = ""

    def read_more(self) -> None:
        ready, _, _ = select.select([self.fd], [], [], 240)
        assert ready, f"nothing comes after {self.seen!r}"
        self.seen += os.read(self.fd, 4096).decode(errors="replace")

    def read_until(self, text: str) -> str:
        """All output up to the first `text` after what was read before."""
        while text not in self.seen:
            self.read_more()
        before, _, self.seen = self.seen.partition(text)
        return before

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def endless(tmp_path: Path, tokenizer_directory: Path) -> Path:
    """A model that, asked for the likeliest tokens, never ends by itself, and has room to speak for seconds."""
    tokenizer = Tokenizer.load(tokenizer_directory)
    model = random_model(vocab_size=tokenizer.vocab_size, max_position_embeddings=32768)
    model.output_weight.data[[tokenizer.pad_id, tokenizer.eos_id]] = 0  # never the largest of all logits
    save_model(model, tmp_path / "endless", tokenizer)
    return tmp_path / "endless"


def test_in_a_terminal_ctrl_c_stops_an_answer_and_ctrl_d_ends(endless: Path) -> None:
    terminal = Terminal("chat", str(endless), "--device", "cpu", "--max-tokens", "30000", "--temperature", "0")
    try:
        terminal.read_until("> ")
        terminal.type("/set max_tokens 5\n")
        terminal.read_until("> ")
        terminal.type("the cat\n")
        assert "tokens/s" in terminal.read_until("> ")
        for command in ("/set max_tokens 30000", "/reset"):
            terminal.type(command + "\n")
            terminal.read_until("> ")
        terminal.type("a dog\n")
        terminal.read_until("dog\r\n")  # the echo
        # Until a word is there: before it stand control sequences of the line editor, which takes signals itself.
        while not re.search(r"\w", re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", terminal.seen)):
            terminal.read_more()
        os.kill(terminal.pid, signal.SIGINT)
        said = terminal.read_until(" tokens, ").split("\x1b[2m")[-1]
        assert int(said.replace(",", "")) < 29_900
        terminal.read_until("> ")
        terminal.type("\x04")
        assert terminal.wait() == 0
    except BaseException:
        os.kill(terminal.pid, signal.SIGKILL)
        raise
