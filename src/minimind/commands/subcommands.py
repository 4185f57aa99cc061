"""A command made of subcommands, each with a help of its own that ends in an example."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from minimind.commands.options import command_parser


class Subcommands:
    """`minimind COMMAND SUBCOMMAND …`: add the subcommands, then call."""

    def __init__(self, command: str, description: str, epilog: str) -> None:
        self.parser = command_parser(command, description, epilog)
        self._children = self.parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(
        self, name: str, function: Callable[[argparse.Namespace], Any], text: str, example: str, note: str = ""
    ) -> argparse.ArgumentParser:
        """Add a subcommand that calls `function` with its parsed options; add these to what is returned."""
        child = self._children.add_parser(
            name,
            help=text,
            description=text,
            epilog="\n\n".join(filter(None, [f"example:\n  {example}", note])),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        child.set_defaults(run=function)
        return child

    def mention(self, name: str, text: str) -> None:
        """List a subcommand in the help that is parsed elsewhere."""
        self._children.add_parser(name, help=text, add_help=False)

    def call(self, argv: list[str]) -> Any:
        options = self.parser.parse_args(argv)
        return options.run(options)
