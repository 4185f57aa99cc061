"""The command line's frame: the table of verbs, and one sentence with the right exit code for every error."""

import argparse
import errno
import os
import subprocess
import sys
import types

import pytest

from minimind import cli
from minimind.errors import UserError, WorkFailed

HEAVY = {"torch", "numpy", "tokenizers", "transformers", "safetensors", "jinja2", "yaml", "rich"}


@pytest.fixture
def verb(monkeypatch):
    """Add a verb `probe` that runs the given function."""

    def add(function):
        module = types.ModuleType("minimind_probe")
        module.run = function
        monkeypatch.setitem(sys.modules, "minimind_probe", module)
        monkeypatch.setitem(cli.VERBS, "probe", ("minimind_probe:run", "a probe"))

    return add


def raising(error):
    def run(argv):
        raise error

    return run


@pytest.mark.parametrize("encoding", ["ascii", "gbk", "cp1252", "utf-8:strict"])
def test_no_console_is_too_small(encoding, tmp_path):
    """What an encoding lacks is replaced: in help, in answers, in errors that name a file."""
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    for argv, code in [(["--help"], 0), (["train", "sft", "--help"], 0), (["models", "list"], 0), (["🍜"], 2)]:
        done = subprocess.run(
            [sys.executable, "-m", "minimind", *argv], capture_output=True, env=environment, cwd=tmp_path
        )
        assert done.returncode == code, done.stderr
        assert b"Traceback" not in done.stderr


def typed(*argv, **kwargs):
    return subprocess.run([sys.executable, "-m", "minimind", *argv], capture_output=True, text=True, **kwargs)


def test_help_lists_every_verb(capsys):
    assert cli.main(["--help"]) == 0
    page = capsys.readouterr().out
    for name, (_, text) in cli.VERBS.items():
        assert f"  {name} " in page
        assert text in page
    assert cli.main([]) == 0
    assert capsys.readouterr().out == page


def test_help_imports_nothing_heavy():
    probe = "import sys; from minimind.cli import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stderr.split())
    assert "usage: minimind" in done.stdout


def test_every_verb_is_there_and_has_help(capsys):
    for name in cli.VERBS:
        assert cli.main([name, "--help"]) == 0, name
        page = capsys.readouterr().out
        assert f"minimind {name}" in page
        assert "example" in page.lower()


def test_as_typed():
    done = typed("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("minimind ")
    done = typed("trian")
    assert done.returncode == 2
    assert done.stdout == ""
    assert (
        done.stderr
        == "error: unknown command 'trian'; did you mean 'train'? `minimind --help` lists all commands\n"
    )


def test_unknown_verb_without_a_neighbour(capsys):
    assert cli.main(["zzzz"]) == 2
    assert capsys.readouterr().err == "error: unknown command 'zzzz'; `minimind --help` lists all commands\n"


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (1, 1), (2, 2)])
def test_a_verb_gets_the_rest_and_gives_the_exit_code(verb, returned, code):
    seen = []
    verb(lambda argv: seen.append(argv) or returned)
    assert cli.main(["probe", "a", "--b"]) == code
    assert seen == [["a", "--b"]]


def test_user_error_is_one_line(verb, capsys, monkeypatch):
    monkeypatch.delenv("MINIMIND_DEBUG", raising=False)
    verb(raising(UserError("no such file: x")))
    assert cli.main(["probe"]) == 2
    assert capsys.readouterr().err == "error: no such file: x\n"
    monkeypatch.setenv("MINIMIND_DEBUG", "1")
    assert cli.main(["probe"]) == 2
    assert "Traceback" in (err := capsys.readouterr().err)
    assert err.endswith("error: no such file: x\n")


def test_wrong_option_is_one_line(verb, capsys):
    def run(argv):
        parser = argparse.ArgumentParser(prog="minimind probe")
        parser.add_argument("--rows", type=int)
        parser.parse_args(argv)

    original = argparse.ArgumentParser.error
    verb(run)
    assert cli.main(["probe", "--rows", "x"]) == 2
    assert (
        capsys.readouterr().err == "error: argument --rows: invalid int value: 'x'; see `minimind probe --help`\n"
    )
    assert argparse.ArgumentParser.error is original
    assert cli.main(["probe", "--help"]) == 0


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "model.safetensors"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_full_disk(verb, capsys, error):
    verb(raising(error))
    assert cli.main(["probe"]) == 2
    assert capsys.readouterr().err == "error: the disk is full; free some space and run the same command again\n"


def test_failed_work_is_one_line_too(verb, capsys):
    verb(raising(WorkFailed("the loss is not finite")))
    assert cli.main(["probe"]) == 1
    assert capsys.readouterr().err == "error: the loss is not finite\n"


def test_an_error_never_floods_the_console(tmp_path, capsys):
    """What a message quotes may be of any length: its beginning and its end are shown."""
    recipe = tmp_path / "long.yaml"
    recipe.write_text(f"seed: {'x' * 10**6}")
    assert cli.main(["train", "pretrain", "--recipe", str(recipe)]) == 2
    said = capsys.readouterr().err
    assert len(said) < 2000
    assert "seed: expected a whole number" in said
    assert "long.yaml:1" in said


def test_our_fault_has_a_traceback(verb, capsys):
    verb(raising(ZeroDivisionError("oops")))
    assert cli.main(["probe"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "ZeroDivisionError: oops" in err
    assert "please report it" in err


def test_interrupt_is_quiet(verb, capsys):
    verb(raising(KeyboardInterrupt()))
    assert cli.main(["probe"]) == 130
    assert capsys.readouterr().err == ""


def test_reader_that_goes_away_is_quiet():
    probe = (
        "import sys, types; from minimind import cli\n"
        "m = sys.modules['p'] = types.ModuleType('p')\n"
        "m.run = lambda argv: print('x' * 1000000)\n"
        "cli.VERBS['p'] = ('p:run', '')\n"
        "sys.exit(cli.main(['p']))"
    )
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", probe], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")
