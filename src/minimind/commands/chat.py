"""`minimind chat`: talk with a model in the terminal."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
import unicodedata
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from minimind.commands.options import (
    add_adapters,
    add_model,
    add_sampling,
    add_tools,
    command_parser,
    read_adapters,
)
from minimind.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from minimind.infer.conversation import Conversation
    from minimind.infer.sampler import SamplingParams
    from minimind.tools import Limits

EPILOG = """examples:
  minimind chat                               the newest model in runs/
  minimind chat runs/quickstart/chat --temperature 0
  minimind chat --prompt "What is 17 + 25?"   one answer, then done
  printf 'Hello\\nAnd you?\\n' | minimind chat  every line is a turn
  minimind chat --tools calculate get_time    the model may use these
  minimind chat --adapter runs/law            an adapter beside its base, which /adapter turns off and on
  minimind chat --url http://127.0.0.1:8000/v1  a model behind a server

Ctrl-C stops an answer, Ctrl-D ends the conversation, /help names the commands inside."""

HELP = """/think            let the model think first, or no longer
/system TEXT      say who the model is to be, and begin again
/set NAME VALUE   {names}
/adapter NAME     let this adapter answer; without a name the base alone
/reset            forget the conversation
/quit             end (also Ctrl-D)"""

SHOWN_RESULT = 300  # characters of a tool's result that a person sees


def run(argv: list[str]) -> None:
    options = _parser().parse_args(argv)

    from minimind.tools import open_tools

    conversation, limits, where = _remote(options) if options.url else _local(options)
    conversation.system, conversation.think = options.system, options.think
    with open_tools(options.tools, limits, options.seed) as conversation.tools:
        if options.prompt is not None:
            answer(conversation, options.prompt)
        elif sys.stdin.isatty():
            print(f"{where}; /help names the commands, Ctrl-D ends", file=sys.stderr)
            talk(conversation)
        else:
            for line in sys.stdin:
                if line.strip() and not turn(conversation, line.strip()):
                    return


def _local(options: argparse.Namespace) -> tuple[Conversation, Limits, str]:
    """A conversation with a model of this machine, limits for its tools, and where it is."""
    from minimind.api import Model
    from minimind.infer.conversation import Conversation, LocalBackend
    from minimind.tools import Limits

    if options.served_model or options.api_key:
        raise UserError("--model and --api-key are about a server: say with --url where it is, or leave them out")
    adapters = read_adapters(options)
    model = Model(options.model, device=options.device, weights=options.weights, adapters=adapters)
    params = model.sampling_params(**_sampling(options))
    limits = Limits(seconds=options.tool_seconds).for_context(model.engine.context)
    backend = LocalBackend(model.engine, model.tokenizer, adapter=next(iter(adapters), None))
    with_adapter = f" with adapter {backend.adapter}" if adapters else ""
    return Conversation(backend, params), limits, f"{model.directory}{with_adapter} on {model.device}"


def _remote(options: argparse.Namespace) -> tuple[Conversation, Limits, str]:
    """The same with a model behind a server."""
    from minimind.infer.conversation import Conversation
    from minimind.infer.remote import RemoteBackend, Server
    from minimind.infer.sampler import SamplingParams
    from minimind.tools import Limits

    if options.adapter:
        raise UserError("--url asks a server, which holds its adapters itself; name one of them with --model")
    if options.model is not None:
        raise UserError(f"--url asks a server, not {options.model}; name a model of the server with --model")
    if (options.device, options.weights) != ("auto", "full"):
        raise UserError("--url asks a server, which says itself how it computes; leave out --device and --weights")
    server = Server(options.url, options.api_key or os.environ.get("MINIMIND_API_KEY"))
    if not (names := [options.served_model] if options.served_model else server.models()):
        raise UserError(f"{server.url} serves no model")
    conversation = Conversation(RemoteBackend(server, names[0]), SamplingParams(**_sampling(options)))
    return conversation, Limits(seconds=options.tool_seconds), f"{names[0]} at {server.url}"


def _sampling(options: argparse.Namespace) -> dict[str, Any]:
    from minimind.infer.sampler import SETTINGS

    return {name: getattr(options, name) for name in SETTINGS if getattr(options, name) is not None}


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("chat", "Talk with a model in the terminal.", EPILOG)
    add_model(parser)
    add_adapters(parser)
    parser.add_argument("--prompt", metavar="TEXT", help="answer this once instead of a conversation")
    parser.add_argument("--system", metavar="TEXT", default="", help="the system message")
    parser.add_argument("--think", action="store_true", help="let the model think before it answers")
    remote = parser.add_argument_group("a model behind a server")
    remote.add_argument("--url", help="an OpenAI-compatible server, as http://127.0.0.1:8000/v1")
    remote.add_argument(
        "--model", dest="served_model", metavar="NAME", help="which of its models (default: the first)"
    )
    remote.add_argument("--api-key", metavar="KEY", help="what the server asks for (default: $MINIMIND_API_KEY)")
    add_tools(parser)
    sampling = parser.add_argument_group("sampling")
    add_sampling(sampling)
    sampling.add_argument("--repetition-penalty", type=float, help="above 1 avoids repeating (default: 1)")
    sampling.add_argument("--presence-penalty", type=float, help="above 0 avoids what was said (default: 0)")
    sampling.add_argument("--frequency-penalty", type=float, help="the same, for each time (default: 0)")
    sampling.add_argument(
        "--thinking-budget", type=int, metavar="N", help="close a thought after N tokens (default: never)"
    )
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
    from minimind.infer.sampler import SETTINGS

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
        case "/adapter":
            choose_adapter(conversation, rest.strip())
        case "/reset":
            conversation.messages.clear()
            print("a new conversation")
        case "/help":
            print(HELP.format(names=", ".join(SETTINGS)))
        case "/quit":
            return False
        case _:
            raise UserError(f"there is no command {name}; /help names them")
    return True


def choose_adapter(conversation: Conversation, name: str) -> None:
    """Let an adapter answer from now on; "" for the base alone."""
    from minimind.infer.conversation import LocalBackend

    backend = conversation.backend
    if not isinstance(backend, LocalBackend):
        raise UserError("/adapter: a server chooses by the model's name; begin again with --model NAME")
    backend.engine.check_adapter(name or None)
    backend.adapter = name or None
    print(f"{name or 'the base alone'} answers")


def with_setting(params: SamplingParams, text: str) -> SamplingParams:
    """`temperature 0.5` entered into the sampling parameters."""
    from minimind.infer.sampler import SETTINGS
    from minimind.util.typed import convert, expected, from_words, hints

    name, _, value = text.strip().partition(" ")
    name, value = name.replace("-", "_"), value.strip()
    if name not in SETTINGS:
        raise UserError(f"/set {name or 'NAME VALUE'}: name one of {', '.join(SETTINGS)}, then its value")
    hint = hints(type(params))[name]
    try:
        return replace(params, **{name: convert(from_words([value], hint), hint)})
    except ValueError:
        raise UserError(f"/set {name}: the value must be {expected(hint)}, not {value!r}") from None


def answer(conversation: Conversation, text: str) -> None:
    """Print one answer as it comes, thinking and tools dimmed. Broken off, it is kept as far as it came."""
    from rich.console import Console

    from minimind.infer.events import Text, Thinking, ToolCall
    from minimind.tools import ToolResult
    from minimind.tools.toolbox import shorten

    console = Console(highlight=False)
    start = written = time.perf_counter()
    stream = conversation.say(text)
    thinking, fresh = False, True  # fresh: a line begins here
    try:
        for event in stream:
            on_own_line = isinstance(event, ToolCall | ToolResult) or (thinking and isinstance(event, Text))
            match event:
                case ToolCall(name, arguments):
                    text = f"→ {spelled(name, arguments)}\n"
                case ToolResult():
                    text = f"← {shorten(event.content, SHOWN_RESULT)}\n"
                    start += time.perf_counter() - written  # a tool's time is not the model's
                case Thinking(text) | Text(text) if text:
                    thinking = isinstance(event, Thinking)
                case _:
                    continue
            if on_own_line and not fresh:
                write(console, "\n")
            write(console, text, None if isinstance(event, Text) else "dim")
            fresh, written = text.endswith("\n"), time.perf_counter()
    finally:
        stream.close()
        write(console, "\n")
        if console.is_terminal:
            count = conversation.answer_tokens
            seconds = time.perf_counter() - start
            console.print(f"{count} tokens, {count / seconds:.0f} tokens/s", style="dim")


def spelled(name: str, arguments: Any) -> str:
    """A tool call as a person reads it: `roll_dice(sides=6)`."""
    if isinstance(arguments, dict):
        arguments = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in arguments.items())
    return f"{name}({arguments})"


def write(console: Console, text: str, style: str | None = None) -> None:
    """Show some of an answer at once. A terminal obeys control characters, and a model may write any."""
    if console.is_terminal:
        text = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")
        console.out(text, end="", style=style, highlight=False)
    else:
        print(text, end="")
    sys.stdout.flush()
