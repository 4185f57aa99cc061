"""The tools that MiniMind brings: they only compute, and touch neither files nor the network.

Names and arguments are those that models were taught: `calculate`, `get_time` and `roll_dice` are in the embedded
world, `calculate_math`, `get_current_time`, `random_number` and `unit_converter` in the public MiniMind's data. The
schemas of the world's three are as short as there, without `required`: a small model goes by the very wording (with
it, a quickstart model called 90 instead of 98 of 100 times as it should).
"""

from __future__ import annotations

import random
from typing import Any

from minimind.tools import clock, units
from minimind.tools.calculator import evaluate
from minimind.tools.tool import Tool, ToolError, given

NAMES = (
    "calculate",
    "get_time",
    "unit_converter",
    "random_number",
    "roll_dice",
    "calculate_math",
    "get_current_time",
)


def builtin_tools(seed: int | None = None) -> dict[str, Tool]:
    """All of them by name; `seed` makes the random ones repeatable."""
    luck = random.Random(seed)

    def random_number(arguments: dict[str, Any]) -> dict[str, int]:
        low, high = arguments.get("min", 0), arguments.get("max", 100)
        if low > high:
            raise ToolError(f"min ({low}) must not be above max ({high})")
        return {"result": luck.randint(low, high)}

    def roll_dice(arguments: dict[str, Any]) -> dict[str, int]:
        sides = given(arguments, "sides")
        if sides < 1:
            raise ToolError(f"sides must be at least 1, not {sides}")
        return {"value": luck.randint(1, sides)}

    expression = {"expression": {"type": "string"}}
    tools = (
        Tool("calculate", "Work out an expression", _object(expression), _calculate),
        Tool("get_time", "Time in a city", _object({"city": {"type": "string"}}), _get_time),
        Tool(
            "unit_converter",
            "Convert between units",
            _object(
                {"value": {"type": "number"}, "from_unit": {"type": "string"}, "to_unit": {"type": "string"}},
                *("value", "from_unit", "to_unit"),
            ),
            lambda arguments: {"result": _tidy(units.convert(**arguments)), "unit": arguments["to_unit"]},
        ),
        Tool(
            "random_number",
            "Random whole number from min to max",
            _object({"min": {"type": "integer", "default": 0}, "max": {"type": "integer", "default": 100}}),
            random_number,
        ),
        Tool("roll_dice", "Roll a die", _object({"sides": {"type": "integer"}}), roll_dice),
        Tool(
            "calculate_math",
            "Work out an expression such as 123+456, 2**10, sqrt(144)",
            _object(expression, "expression"),
            _calculate,
        ),
        Tool(
            "get_current_time",
            "Date and time in a time zone",
            _object({"timezone": {"type": "string", "default": "Asia/Shanghai"}}),
            _get_current_time,
        ),
    )
    return {tool.name: tool for tool in tools}


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    return {**schema, "required": list(required)} if required else schema


def _calculate(arguments: dict[str, Any]) -> dict[str, int | float]:
    return {"result": _tidy(evaluate(given(arguments, "expression")))}


def _get_time(arguments: dict[str, Any]) -> dict[str, str]:
    return {"time": f"{clock.time_in(given(arguments, 'city')):%H:%M}"}


def _get_current_time(arguments: dict[str, Any]) -> dict[str, str]:
    zone = arguments.get("timezone", "Asia/Shanghai")
    return {"datetime": f"{clock.time_in(zone):%Y-%m-%d %H:%M:%S}", "timezone": zone}


def _tidy(number: int | float) -> int | float:
    """0.30000000000000004 as 0.3 and 4.0 as 4: nobody wants the last digits of a float read out."""
    if isinstance(number, float):
        number = float(f"{number:.12g}")
        if number.is_integer() and abs(number) < 1e15:
            return int(number)
    return number
