"""Paths at which nothing can be read or written: one sentence and exit code 2, in every command."""

import errno
import os
import sys

import pytest
from tests.helpers import mounted

from minimind.cli import main
from minimind.util.system import explain

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="paths as Linux has them")


@pytest.fixture(scope="module")
def run(tmp_path_factory, corpus, tokenizer_directory):
    """A run with all that commands read."""
    from tests.helpers import flags

    out = tmp_path_factory.mktemp("home") / "run"
    paths = ["--data", str(corpus), "--tokenizer", str(tokenizer_directory), "--out", str(out)]
    assert main(["train", "pretrain", *paths, *flags(budget__steps=2), "--quiet"]) == 0
    return out


COMMANDS = {
    "train": "train pretrain --data DATA --tokenizer TOKENIZER --preset micro --budget.steps 1 --quiet --out PATH",
    "sft": "train sft --data CHATS --from RUN --budget.steps 1 --compile false --quiet --out PATH",
    "recipe": "train pretrain --recipe PATH --data DATA --tokenizer TOKENIZER",
    "from": "train sft --from PATH --data CHATS",
    "data": "train pretrain --preset micro --data PATH --tokenizer TOKENIZER",
    "tokenizer": "train pretrain --preset micro --data DATA --tokenizer PATH",
    "tokenizer train": "tokenizer train --data DATA --vocab-size 300 --out PATH",
    "tokenizer show": "tokenizer show PATH",
    "tokenizer compare": "tokenizer compare TOKENIZER PATH",
    "data prepare": "data prepare PATH --tokenizer TOKENIZER",
    "cache": "data prepare DATA --tokenizer TOKENIZER --cache PATH",
    "data check": "data check PATH",
    "data show": "data show PATH",
    "data world": "data world --out PATH",
    "export hf": "export hf RUN --out PATH",
    "export gguf": "export gguf RUN --out PATH",
    "export ollama": "export ollama RUN --out PATH",
    "export": "export hf PATH --out OUT",
    "import": "import PATH --to OUT",
    "import to": "import WEIGHTS --to PATH",
    "plot": "runs plot RUN --out PATH.svg",
    "report": "runs report RUN --out PATH.html",
    "runs show": "runs show PATH",
    "runs list": "runs list PATH",
    "models show": "models show PATH",
    "models verify": "models verify PATH",
    "chat": "chat PATH",
    "serve": "serve PATH --port 0",
    "web": "web --runs PATH",
    "eval": "eval ppl PATH --data DATA",
    "eval data": "eval ppl RUN --data PATH",
    "quickstart": "quickstart --smoke --out PATH",
}
WRITES = [name for name, command in COMMANDS.items() if "--out PATH" in command or "--to PATH" in command]


@pytest.fixture
def typed(run, corpus, chat_file, tokenizer_directory, tmp_path, capsys, monkeypatch):
    """`typed(name, path)`: type a command with a bad path; returns what it says."""
    monkeypatch.chdir(tmp_path)
    words = {"DATA": corpus, "CHATS": chat_file, "TOKENIZER": tokenizer_directory, "RUN": run}
    words |= {"OUT": tmp_path / "out", "WEIGHTS": run / "model"}

    def answer(name, path, may_work=False):
        argv = [str(words.get(word, word)).replace("PATH", str(path)) for word in COMMANDS[name].split()]
        code = main(argv)
        said = capsys.readouterr().err
        if code == 0 and may_work:
            return said
        assert code == 2, said
        assert "Traceback" not in said
        assert said.splitlines()[-1].startswith("error: ")
        assert said.splitlines()[-1].count("error: ") == 1
        return said

    return answer


@pytest.mark.parametrize("name", COMMANDS)
def test_a_name_longer_than_the_system_takes(name, typed, tmp_path):
    typed(name, tmp_path / ("long" * 70))


@pytest.mark.parametrize("name", COMMANDS)
def test_links_in_a_circle(name, typed, tmp_path):
    for place in ("circle", "circle.svg", "circle.html"):
        (tmp_path / place).symlink_to(tmp_path / place)
    typed(name, tmp_path / "circle" / "x")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_for_a_directory(name, typed, tmp_path):
    (tmp_path / "file").write_text("no directory")
    typed(name, tmp_path / "file/x")
    assert (tmp_path / "file").read_text() == "no directory"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_name_that_is_not_utf8(name, typed, tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    typed(name, path, may_work=name in WRITES or name == "cache")


@pytest.mark.parametrize("name", sorted({*WRITES, "cache"} - {"export gguf", "plot", "report"}))
def test_a_file_where_a_directory_is_to_be(name, typed, tmp_path):
    (tmp_path / "file").write_text("somebody's own")
    assert str(tmp_path / "file") in typed(name, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "somebody's own"


@pytest.fixture
def read_only(tmp_path):
    """A file system that takes nothing."""
    with mounted(tmp_path / "disk", "ro") as place:
        yield place


@pytest.mark.parametrize("name", [*WRITES, "cache"])
def test_a_read_only_file_system(name, typed, read_only):
    assert "Read-only file system" in typed(name, read_only / "x")


def as_rust_says_it():
    return Exception(f"I/O error: {os.strerror(errno.EROFS)} (os error {errno.EROFS})")


def as_torch_save_says_it():
    try:
        try:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        except OSError:
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704")  # noqa: B904
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            OSError(errno.EMFILE, "Too many open files", "a"),
            "a: Too many open files; close some",
        ),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files; close some"),
        (OSError(errno.ETXTBSY, "Text file busy", "a", None, "b"), "b: Text file busy; choose another path"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", b"a"), "a: No such file or directory; check"),
        (as_rust_says_it(), "Read-only file system; choose another path"),
        (as_torch_save_says_it(), "Input/output error; check the disk"),
        (OSError(errno.EBADF, "Bad file descriptor"), None),
        (RuntimeError("a fault"), None),
    ],
)
def test_what_the_system_refuses_is_one_sentence(error, sentence):
    said = explain(error)
    assert said == sentence or said.startswith(sentence)
