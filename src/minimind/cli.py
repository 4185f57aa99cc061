"""The command line: one table from verb to function, and how errors are shown.

Nothing heavy is imported here: the verb's module is loaded when its verb is typed, so `minimind --help`
answers at once.
"""

import argparse
import importlib
import io
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from minimind.errors import UserError, WorkFailed
from minimind.util.suggest import nearest
from minimind.util.system import explain

# verb -> (module:function, help). The function takes the arguments after the verb; None returned means 0.
VERBS: dict[str, tuple[str, str]] = {
    "quickstart": (
        "minimind.commands.quickstart:run",
        "from an empty machine to a model that talks, in one go",
    ),
    "data": ("minimind.commands.data:run", "prepare, look at and check training data"),
    "tokenizer": ("minimind.commands.tokenizer:run", "train a tokenizer, look at one, compare some"),
    "train": ("minimind.commands.train:run", "train a model: pretrain, sft, …"),
    "adapt": ("minimind.commands.adapt:run", "make a model an expert of your own texts and questions"),
    "eval": ("minimind.commands.eval:run", "measure a model: bits per byte, skills, …"),
    "chat": ("minimind.commands.chat:run", "talk with a model in the terminal"),
    "web": ("minimind.commands.web:run", "chat, runs, data and models in the browser"),
    "serve": ("minimind.commands.serve:run", "serve a model over HTTP, with OpenAI's API"),
    "import": ("minimind.commands.import_:run", "read the public MiniMind's published weights"),
    "export": ("minimind.commands.export:run", "write a model for other programs: llama.cpp, Ollama, …"),
    "merge": ("minimind.commands.merge:run", "one model from several of one shape: mean, SLERP, task vectors"),
    "runs": ("minimind.commands.runs:run", "list, show, compare and plot training runs"),
    "bench": ("minimind.commands.bench:run", "what this machine can do: matrix products, training, data"),
    "models": ("minimind.commands.models:run", "list and show the named model shapes"),
}

EXAMPLES = """\
examples:
  minimind quickstart              train a tiny model on this machine, then talk with it
  minimind train pretrain --help   every setting of a stage
  minimind runs list               what was trained here

exit codes: 0 done, 1 the work failed, 2 the input is wrong"""


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 the work failed, 2 the user's input is wrong."""
    argv = sys.argv[1:] if argv is None else argv
    show_what_the_console_can()
    try:
        with one_sentence_usage_errors():
            code = dispatch(argv)
        sys.stdout.flush()  # a reader that went away shows here, not at interpreter exit
        return code
    except SystemExit as stop:  # argparse after --help
        return stop.code if isinstance(stop.code, int) else 0
    except UserError as error:
        if os.environ.get("MINIMIND_DEBUG") == "1":
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return 2
    except WorkFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `minimind runs list | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        sentence = explain(error)
        if sentence is None or os.environ.get("MINIMIND_DEBUG") == "1":
            traceback.print_exc()
        if sentence:
            print(f"error: {sentence}", file=sys.stderr)
            return 2
        print("error: this is a fault in MiniMind; please report it with the lines above", file=sys.stderr)
        return 1


def show_what_the_console_can() -> None:
    """Let a character that the console's encoding lacks be shown, and bytes that are no text be read, as `?`."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a test's or an embedding program's own may be something else
            stream.reconfigure(errors="replace")


def dispatch(argv: list[str]) -> int:
    """Find the verb, load its module, call its function with the rest of the arguments."""
    if not argv or argv[0] in ("-h", "--help"):
        print(help_text())
        return 0
    verb, *rest = argv
    if verb == "--version":
        print(f"minimind {version()}")
        return 0
    if verb not in VERBS:
        match = nearest(verb, VERBS, cutoff=0.5)
        hint = f"did you mean '{match}'? " if match else ""
        raise UserError(f"unknown command '{verb}'; {hint}`minimind --help` lists all commands")
    module, function = VERBS[verb][0].split(":")
    return getattr(importlib.import_module(module), function)(rest) or 0


def help_text() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}   {text}" for verb, (_, text) in VERBS.items())
    return (
        "usage: minimind COMMAND [OPTION…]\n\n"
        "Train a small GPT from zero, on one machine, and understand every line.\n\n"
        f"commands (each has --help):\n{verbs}\n\n"
        f"options:\n  -h, --help   this help\n  --version    the version of MiniMind\n\n{EXAMPLES}"
    )


def version() -> str:
    from importlib import metadata  # slow to import, and only needed here

    try:
        return metadata.version("minimind")
    except metadata.PackageNotFoundError:
        return "(run from source, not installed)"


@contextmanager
def one_sentence_usage_errors() -> Iterator[None]:
    """While a command runs, argparse answers a wrong option with one sentence instead of its whole usage.

    Replaced here, in one place, so that every command can use the plain `argparse.ArgumentParser`.
    """

    def error(parser: argparse.ArgumentParser, message: str) -> NoReturn:
        raise UserError(f"{message}; see `{parser.prog} --help`")

    original = argparse.ArgumentParser.error
    setattr(argparse.ArgumentParser, "error", error)  # noqa: B010 (mypy knows that methods are not assigned)
    try:
        yield
    finally:
        setattr(argparse.ArgumentParser, "error", original)  # noqa: B010
