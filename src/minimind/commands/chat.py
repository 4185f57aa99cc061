"""`minimind chat`: talk with a model in the terminal."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
import unicodedata
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from minimind.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from minimind.infer.conversation import Conversation
    from minimind.infer.sampler import SamplingParams

EPILOG = """examples:
  minimind chat                               the newest model in runs/
  minimind chat runs/quickstart/chat --temperature 0
  minimind chat --prompt "What is 17 + 25?"   one answer, then done
  printf 'Hello\\nAnd you?\\n' | minimind chat  every line is a turn

Ctrl-C stops an answer, Ctrl-D ends the conversation, /help names the commands inside."""

HELP = """/think            let the model think first, or no longer
/system TEXT      say who the model is to be, and begin again
/set NAME VALUE   {names}
/reset            forget the conversation
/quit             end (also Ctrl-D)"""


def run(argv: list[str]) -> None:
    options = _parser().parse_args(argv)

    from minimind.api import Model
    from minimind.infer.conversation import Conversation

    model = Model(options.model, device=options.device)
    given = {name: getattr(options, name) for name in settings() if getattr(options, name) is not None}
    conversation = Conversation(
        model.engine, model.tokenizer, model.sampling_params(**given), options.system, options.think
    )
    if options.prompt is not None:
        answer(conversation, options.prompt)
    elif sys.stdin.isatty():
        print(f"{model.directory} on {model.device}; /help names the commands, Ctrl-D ends", file=sys.stderr)
        talk(conversation)
    else:
        for line in sys.stdin:
            if line.strip() and not turn(conversation, line.strip()):
                return


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "minimind chat",
        description="Talk with a model in the terminal.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help="a model or run directory (default: the newest)")
    parser.add_argument("--prompt", metavar="TEXT", help="answer this once instead of a conversation")
    parser.add_argument("--system", metavar="TEXT", default="", help="the system message")
    parser.add_argument("--think", action="store_true", help="let the model think before it answers")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (default: auto)")
    sampling = parser.add_argument_group("sampling")
    sampling.add_argument("--temperature", type=float, help="0 always takes the likeliest token (default: 0.7)")
    sampling.add_argument("--top-p", type=float, help="only the likeliest tokens up to this sum (default: 0.95)")
    sampling.add_argument("--top-k", type=int, help="only the k likeliest tokens; 0 = all (default: 0)")
    sampling.add_argument("--min-p", type=float, help="only tokens this likely beside the likeliest (default: 0)")
    sampling.add_argument("--repetition-penalty", type=float, help="above 1 avoids repeating (default: 1)")
    sampling.add_argument("--max-tokens", type=int, help="longest answer (default: 512)")
    sampling.add_argument("--seed", type=int, help="the same seed gives the same answers (default: a new one)")
    return parser


def talk(conversation: Conversation) -> None:
    """Read turns from a person until Ctrl-D or /quit."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (input() then has history and line editing)
    while True:
        try:
            line = input("> ").strip()
            if line and not turn(conversation, line):
                return
        except KeyboardInterrupt:  # ends an answer or clears the line, never the conversation
            print()
        except EOFError:
            print()
            return


def turn(conversation: Conversation, line: str) -> bool:
    """Answer a line or obey its command; False when it ends the conversation. A mistake is said, not fatal."""
    try:
        if line.startswith("/"):
            return command(conversation, line)
        answer(conversation, line)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
    return True


def command(conversation: Conversation, line: str) -> bool:
    """Obey one /command; False for /quit."""
    name, _, rest = line.partition(" ")
    match name:
        case "/think":
            conversation.think = not conversation.think
            print(f"thinking is {'on' if conversation.think else 'off'}")
        case "/system":
            conversation.system = rest.strip()
            conversation.messages.clear()
            print("a new conversation with this system message")
        case "/set":
            conversation.params = with_setting(conversation.params, rest)
        case "/reset":
            conversation.messages.clear()
            print("a new conversation")
        case "/help":
            print(HELP.format(names=", ".join(settings())))
        case "/quit":
            return False
        case _:
            raise UserError(f"there is no command {name}; /help names them")
    return True


def settings() -> list[str]:
    """The sampling parameters that a person may set."""
    from minimind.infer.sampler import SamplingParams

    return [field.name for field in fields(SamplingParams) if field.name != "stop_ids"]


def with_setting(params: SamplingParams, text: str) -> SamplingParams:
    """`temperature 0.5` entered into the sampling parameters."""
    from typing import get_type_hints

    from minimind.typed import convert, expected, from_words

    name, _, value = text.strip().partition(" ")
    name, value = name.replace("-", "_"), value.strip()
    if name not in settings():
        raise UserError(f"/set {name or 'NAME VALUE'}: name one of {', '.join(settings())}, then its value")
    hint = get_type_hints(type(params))[name]
    try:
        return replace(params, **{name: convert(from_words([value], hint), hint)})
    except ValueError:
        raise UserError(f"/set {name}: the value must be {expected(hint)}, not {value!r}") from None


def answer(conversation: Conversation, text: str) -> None:
    """Print one answer as it comes, thinking dimmed. Broken off, it is kept as far as it came."""
    from rich.console import Console

    console = Console(highlight=False)
    start = time.perf_counter()
    stream = conversation.say(text)
    thinking = False
    try:
        for part in stream:
            if thinking and not part.thinking:
                write(console, "\n")
            thinking = part.thinking
            write(console, part.text, "dim" if thinking else None)
    finally:
        stream.close()
        write(console, "\n")
        if console.is_terminal:
            count = len(conversation.answer_ids)
            seconds = time.perf_counter() - start
            console.print(f"{count} tokens, {count / seconds:.0f} tokens/s", style="dim")


def write(console: Console, text: str, style: str | None = None) -> None:
    """Show a piece of an answer at once. A terminal obeys control characters, and a model may write any."""
    if console.is_terminal:
        text = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")
        console.out(text, end="", style=style, highlight=False)
    else:
        print(text, end="")
    sys.stdout.flush()
