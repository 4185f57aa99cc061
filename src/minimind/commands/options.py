"""What several commands have in common: how their parsers begin, and options."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from minimind.errors import UserError
from minimind.util.typed import Count, Range, Seed, convert, expected

if TYPE_CHECKING:
    from minimind.model import Transformer
    from minimind.tokenizer import Tokenizer


def command_parser(command: str, description: str, epilog: str, **more: Any) -> argparse.ArgumentParser:
    """The parser of `minimind COMMAND`; the epilog of its help keeps its lines."""
    return argparse.ArgumentParser(
        f"minimind {command}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **more,
    )


def typed(hint: Any) -> Callable[[str], Any]:
    """The `type=` of an option whose values are declared by a type hint, with its range."""

    def read(text: str) -> Any:
        try:
            return convert(text, hint)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected {expected(hint)}, got {text!r}") from None

    return read


count, seed, port = typed(Count), typed(Seed), typed(Annotated[int, Range(0, 65535)])
seconds = typed(Annotated[float, Range(0, 86_400, above=True)])
length = typed(Annotated[int, Range(2, 2**20)])  # in tokens


def add_json(*parsers: argparse.ArgumentParser) -> None:
    for parser in parsers:
        parser.add_argument("--json", action="store_true", help="print the result as JSON, for programs")


def add_device(*parsers: argparse.ArgumentParser) -> None:
    for parser in parsers:
        parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (default: auto)")


def add_data(parser: argparse.ArgumentParser, text: str, required: bool = False) -> None:
    parser.add_argument("--data", nargs="+", type=Path, required=required, metavar="FILE", help=text)
    add_encoding(parser)


def add_encoding(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--encoding", metavar="NAME", help="of text files that are not UTF-8: gb18030, big5, utf-16, cp1252, …"
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """Which model of this machine, and where and how it computes."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="a model or run directory (default: the newest)")
    add_device(parser)
    parser.add_argument(
        "--weights",
        choices=["full", "int8"],
        default="full",
        help="int8 is about twice as fast on a CPU (default: full)",
    )


def add_adapters(parser: argparse.ArgumentParser) -> None:
    """LoRA adapters that are held beside the model; `read_adapters` gives them by name."""
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="[NAME=]DIR",
        help="a LoRA adapter beside MODEL, known by NAME (default: the directory's); may be given several times. "
        "MODEL is then by default the first one's base",
    )


def read_adapters(options: argparse.Namespace) -> dict[str, Path]:
    """Adapter directories by name, in the order given."""
    adapters: dict[str, Path] = {}
    for text in options.adapter:
        name, separator, directory = text.partition("=")
        path = Path(directory if separator else text)
        name = name if separator else name_of(path)
        if not name or name in adapters:
            raise UserError(f"--adapter {text}: each adapter needs a name of its own; give it as NAME=DIR")
        adapters[name] = path
    return adapters


def name_of(directory: Path) -> str:
    """`runs/chat/model` is known as `chat`."""
    directory = directory.resolve()
    return directory.parent.name if directory.name == "model" else directory.stem


def add_sampling(group: argparse._ArgumentGroup) -> None:
    """Fields of SamplingParams, which checks them; None: its default."""
    group.add_argument("--temperature", type=float, help="0 always takes the likeliest token (default: 0.7)")
    group.add_argument("--top-p", type=float, help="only the likeliest tokens up to this sum (default: 0.95)")
    group.add_argument("--top-k", type=int, help="only the k likeliest tokens; 0 = all (default: 0)")
    group.add_argument("--min-p", type=float, help="only tokens this likely beside the likeliest (default: 0)")
    group.add_argument("--max-tokens", type=int, help="longest answer (default: 512)")


def add_tools(parser: argparse.ArgumentParser) -> None:
    """What `minimind.tools.open_tools` is told."""
    tools = parser.add_argument_group("tools")
    tools.add_argument(
        "--tools",
        nargs="+",
        default=[],
        metavar="TOOL",
        help="what the model may call: calculate, get_time, unit_converter, random_number, roll_dice, …; functions "
        "in a FILE.py; an OpenAPI document (file or address); mcp:COMMAND or mcp:http://…",
    )
    tools.add_argument("--tool-seconds", type=seconds, default=10.0, help="longest call of a tool (default: 10)")


def load_named(options: argparse.Namespace) -> tuple[Path, Transformer, Tokenizer]:
    """The directory of MODEL, the model on its device, and its tokenizer."""
    from minimind.hardware import pick_device
    from minimind.model import load_model
    from minimind.model.hf.weights import model_directory
    from minimind.tokenizer import Tokenizer

    directory = model_directory(options.model)
    return directory, load_model(directory, device=pick_device(options.device)), Tokenizer.load(directory)
