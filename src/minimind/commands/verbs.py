"""A command made of sub-commands, each with a help of its own that ends in an example."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from minimind.commands.options import command_parser


class Verbs:
    """`minimind COMMAND VERB …`: add the verbs, then call."""

    def __init__(self, command: str, description: str, epilog: str) -> None:
        self.parser = command_parser(command, description, epilog)
        self._verbs = self.parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(
        self, name: str, function: Callable[[argparse.Namespace], Any], text: str, example: str, note: str = ""
    ) -> argparse.ArgumentParser:
        """A verb that calls `function` with its parsed options; add these to what is returned."""
        child = self._verbs.add_parser(
            name,
            help=text,
            description=text,
            epilog="\n\n".join(filter(None, [f"example:\n  {example}", note])),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        child.set_defaults(run=function)
        return child

    def mention(self, name: str, text: str) -> None:
        """List a verb in the help that is parsed elsewhere."""
        self._verbs.add_parser(name, help=text, add_help=False)

    def call(self, argv: list[str]) -> Any:
        options = self.parser.parse_args(argv)
        return options.run(options)


def positive(text: str) -> int:
    """The type of an option that counts something."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
