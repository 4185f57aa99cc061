"""What a tool is: a name, a description, a JSON schema of its arguments, and something that runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any


class ToolError(Exception):
    """Why a call came to nothing, in words for the model, which may try again."""


@dataclass(frozen=True)
class Limits:
    """What tools may take."""

    seconds: float = 10.0
    """of one call, by the clock"""
    characters: int = 4000
    """of one result; the rest is left out"""
    memory: int = 2 << 30
    """bytes of address space for the process of one call of a Python function"""
    isolated: bool = False
    """for code that a model wrote: no network, no processes, no file to write, none of our environment"""
    rounds: int = 8
    """how often in one turn the model may call tools and see their results"""

    def for_context(self, context: int) -> Limits:
        """For a model with so many tokens of context: a result goes into it, and must leave room for the rest."""
        return replace(self, characters=min(self.characters, context // 2))


def given(arguments: dict[str, Any], name: str) -> Any:
    """An argument that the schema does not require, but the tool does."""
    if name not in arguments:
        raise ToolError(f"arguments must have {name}")
    return arguments[name]


@dataclass(frozen=True)
class Tool:
    """run: from arguments that fit `parameters` to the result, text or anything that JSON can say; may raise."""

    name: str
    description: str
    parameters: dict[str, Any]
    run: Callable[[dict[str, Any]], Any]

    @property
    def schema(self) -> dict[str, Any]:
        """The description that a model is given, in OpenAI's form."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}
