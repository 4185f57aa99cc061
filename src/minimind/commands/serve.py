"""`minimind serve`: a model behind an OpenAI-compatible HTTP API."""

from __future__ import annotations

import argparse
import ipaddress
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from minimind.commands.options import (
    add_adapters,
    add_model,
    command_parser,
    count,
    name_of,
    port,
    read_adapters,
    seconds,
)
from minimind.errors import UserError, missing_extra

if TYPE_CHECKING:
    from minimind.serve.app import ServerSettings

EPILOG = """examples:
  minimind serve runs/quickstart/chat
  minimind serve runs/chat --name chat --port 9000 --forget
  minimind serve runs/chat --adapter law=runs/law --adapter med=runs/med    requests choose by name
  MINIMIND_API_KEY=secret minimind serve runs/chat --host 0.0.0.0

Ctrl-C or SIGTERM: running answers are finished, new requests refused; a second Ctrl-C ends them."""


def run(argv: list[str]) -> None:
    options = _parser().parse_args(argv)
    try:
        from minimind.serve.app import ServerSettings, create_app
        from minimind.serve.server import UvicornServer
    except ModuleNotFoundError as error:
        raise missing_extra(error.name or "fastapi", "serve") from None
    from minimind.api import Model

    listener = listen(options.host, options.port)
    adapters = read_adapters(options)
    model = Model(options.model, device=options.device, weights=options.weights, adapters=adapters)
    model.engine.max_batch = options.batch
    name = options.name or name_of(model.directory)
    if name in adapters:
        raise UserError(
            f"{name} is the name of the model and of an adapter; give another --name or --adapter NAME=DIR"
        )
    settings = ServerSettings(
        name=name,
        api_keys=api_keys(options),
        origins=tuple(options.cors),
        max_body=options.max_body,
        max_tokens=options.max_tokens,
        max_waiting=options.max_waiting,
        timeout=options.timeout,
        forget=options.forget,
    )
    app = create_app(model, settings)
    names = ", ".join([name, *adapters])
    announce(settings, names, listener, f"{model.directory} on {model.device}, context {model.engine.context}")
    UvicornServer(app, options.shutdown_timeout).serve_at(listener)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("serve", "Serve a model over HTTP, with OpenAI's API.", EPILOG)
    add_model(parser)
    add_adapters(parser)
    parser.add_argument("--name", help="what clients call the model (default: the directory's name)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen at; 0.0.0.0: all (default: 127.0.0.1)"
    )
    parser.add_argument("--port", type=port, default=8000, help="port; 0: any free one (default: 8000)")
    access = parser.add_argument_group("access")
    access.add_argument(
        "--api-key",
        action="append",
        default=[],
        metavar="KEY",
        help="clients must send it, or another one given (default: $MINIMIND_API_KEY, else anybody may ask)",
    )
    access.add_argument("--api-key-file", type=Path, metavar="FILE", help="a file with one key a line")
    access.add_argument(
        "--cors", nargs="+", default=[], metavar="ORIGIN", help="web pages that may ask, as https://name; '*': all"
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument("--batch", type=count, default=32, help="answers generated together (default: 32)")
    limits.add_argument("--max-waiting", type=whole, default=64, help="answers that may wait (default: 64)")
    limits.add_argument("--max-tokens", type=count, help="longest answer (default: what the context has room for)")
    limits.add_argument("--max-body", type=count, default=1_000_000, help="bytes of a request (default: 1000000)")
    limits.add_argument("--timeout", type=seconds, default=300, help="seconds for an answer (default: 300)")
    limits.add_argument(
        "--shutdown-timeout", type=seconds, default=30, help="seconds for running answers (default: 30)"
    )
    limits.add_argument(
        "--forget",
        action="store_true",
        help="leave out the oldest turns of a conversation that is too long, instead of refusing it",
    )
    return parser


def whole(text: str) -> int:
    """The type of an option that counts something and may be 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def api_keys(options: argparse.Namespace) -> tuple[str, ...]:
    keys = list(options.api_key)
    if options.api_key_file:
        try:
            lines = options.api_key_file.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--api-key-file {options.api_key_file} cannot be read: {error}") from None
        keys += [line.strip() for line in lines if line.strip()]
        if not keys:
            raise UserError(f"{options.api_key_file} holds no key; write one a line")
    if not keys and os.environ.get("MINIMIND_API_KEY"):
        keys.append(os.environ["MINIMIND_API_KEY"])
    if not all(key.isascii() and key.isprintable() and key.strip() == key != "" for key in keys):
        raise UserError(
            "an API key must be printable ASCII without spaces around it; HTTP headers carry nothing else"
        )
    return tuple(keys)


def listen(host: str, port: int) -> socket.socket:
    """An open socket, before a model is loaded for nothing."""
    try:
        (family, _, _, _, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        listener = socket.create_server((address[0], port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot listen at {host} port {port}: {reason}; choose another --host or --port") from None
    return listener


def announce(settings: ServerSettings, names: str, listener: socket.socket, what: str) -> None:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"serving {names} at http://{shown}:{port}/v1 ({what}); Ctrl-C ends", file=sys.stderr, flush=True)
    if not settings.api_keys and not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        print("warning: everybody who reaches this machine may ask; --api-key asks for a key", file=sys.stderr)
