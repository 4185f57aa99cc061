"""What the built-in tools answer, and that models were taught their names and arguments."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from minimind.errors import UserError
from minimind.tools import Limits, Tool, Toolbox, ToolError, open_tools
from minimind.tools.builtin import NAMES, builtin_tools
from minimind.tools.clock import time_in
from minimind.tools.units import convert
from minimind.world.skills.tools import TOOLS
from minimind.world.tables.geography import COUNTRIES


@pytest.fixture(scope="module")
def toolbox() -> Toolbox:
    return Toolbox(list(builtin_tools(seed=1).values()))


def test_the_names_are_those_that_are_offered() -> None:
    assert tuple(builtin_tools()) == NAMES


@pytest.mark.parametrize("tool", [tool for tool in TOOLS if tool.name in NAMES], ids=lambda tool: tool.name)
def test_the_embedded_world_teaches_the_same_arguments(tool: Tool) -> None:
    ours = builtin_tools()[tool.name].schema["function"]
    assert ours["parameters"] == tool.schema["function"]["parameters"]


KM = {"value": 100, "from_unit": "km", "to_unit": "miles"}


@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [
        ("calculate", {"expression": "17 * 23"}, {"result": 391}),
        ("calculate", {"expression": "0.1 + 0.2"}, {"result": 0.3}),
        ("calculate", {"expression": "8 / 2"}, {"result": 4}),
        ("calculate_math", '{"expression": "sqrt(144)"}', {"result": 12}),
        ("unit_converter", KM, {"result": 62.13711922, "unit": "miles"}),
        ("roll_dice", {"sides": 1}, {"value": 1}),
        ("random_number", {"min": 5, "max": 5}, {"result": 5}),
    ],
)
def test_answers(toolbox: Toolbox, name: str, arguments: object, answer: dict[str, object]) -> None:
    assert json.loads(toolbox.call(name, arguments)) == answer


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("calculate", {"expression": "9**9**9"}, "a number in it is too large"),
        ("calculate", {}, "arguments must have expression"),
        ("calculate", {"expression": 5}, "expression must be string, not 5"),
        ("calculate", {"formula": "1"}, 'there is no argument "formula"; there is expression'),
        ("calculate", '{"expression": ', "the arguments are not JSON: Expecting value: line 1 column 16 (char 15)"),
        ("calculate", "[" * 100_000, "the arguments are not JSON: nested deeper than 100 levels"),
        ("calculate", None, "arguments must be object, not null"),
        ("unit_converter", KM | {"to_unit": "kg"}, "km is a unit of length, kg one of mass"),
        ("unit_converter", KM | {"value": 1e308, "to_unit": "mm"}, "the value is too large"),
        ("unit_converter", KM | {"value": 10**400}, "OverflowError: int too large to convert to float"),
        ("roll_dice", {"sides": 0}, "sides must be at least 1, not 0"),
        ("random_number", {"min": 6, "max": 5}, "min (6) must not be above max (5)"),
        ("get_time", {"city": "Atlantis"}, "the place 'Atlantis' is not known; give a large city or a time zone"),
        ("no", {}, f"there is no tool 'no'; there is {', '.join(NAMES)}"),
    ],
)
def test_errors(toolbox: Toolbox, name: str, arguments: object, error: str) -> None:
    answered = json.loads(toolbox.call(name, arguments))
    assert answered["error"].startswith(error)


def test_a_seed_repeats_the_luck() -> None:
    def rolls(seed: int) -> list[str]:
        with open_tools(["random_number", "roll_dice"], seed=seed) as tools:
            return [tools.call("random_number", {})] + [tools.call("roll_dice", {"sides": 6}) for _ in range(20)]

    assert rolls(1) == rolls(1) != rolls(2)
    assert {json.loads(text)["value"] for text in rolls(3)[1:]} <= set(range(1, 7))


@pytest.mark.parametrize(
    ("place", "zone"),
    [
        ("Rome", "Europe/Rome"),
        ("罗马", "Europe/Rome"),
        ("new york", "America/New_York"),
        ("北京", "Asia/Shanghai"),
        ("america/new_york", "America/New_York"),
        ("UTC", "UTC"),
    ],
)
def test_times(toolbox: Toolbox, place: str, zone: str) -> None:
    wanted = datetime.now(ZoneInfo(zone))
    assert abs(time_in(place) - wanted) < timedelta(seconds=5)
    assert time_in(place).utcoffset() == wanted.utcoffset()
    later = wanted + timedelta(seconds=5)
    assert json.loads(toolbox.call("get_time", {"city": place}))["time"] in (f"{wanted:%H:%M}", f"{later:%H:%M}")
    answer = json.loads(toolbox.call("get_current_time", {"timezone": place}))
    assert answer["timezone"] == place
    assert f"{wanted:%Y-%m-%d %H:%M:%S}" <= answer["datetime"] <= f"{later:%Y-%m-%d %H:%M:%S}"


def test_the_clock_knows_every_capital_of_the_embedded_world() -> None:
    for _, _, capital, chinese, *_ in COUNTRIES:
        assert time_in(capital).tzinfo == time_in(chinese).tzinfo


@pytest.mark.parametrize(
    ("value", "from_unit", "to_unit", "result"),
    [
        (1, "公里", "米", 1000),
        (30, "celsius", "Fahrenheit", 86),
        (-40, "°F", "摄氏度", -40),
        (0, "K", "C", -273.15),
        (6, "feet", "cm", 182.88),
        (2, "斤", "kg", 1),
        (90, "minutes", "hours", 1.5),
        (36, "km/h", "m/s", 10),
        (1, "GiB", "bytes", 2**30),
        (1, "pound", "g", 453.59237),
        (3, "亩", "m²", 2000),
    ],
)
def test_units(value: float, from_unit: str, to_unit: str, result: float) -> None:
    assert convert(value, from_unit, to_unit) == pytest.approx(result, rel=1e-9)
    assert convert(result, to_unit, from_unit) == pytest.approx(value, rel=1e-9, abs=1e-9)


def test_an_unknown_unit_is_named() -> None:
    with pytest.raises(ToolError, match="'parsec' is not known"):
        convert(1, "km", "parsec")


def test_only_named_tools_are_offered() -> None:
    with open_tools(["roll_dice", "calculate"]) as tools:
        assert [schema["function"]["name"] for schema in tools.schemas] == ["roll_dice", "calculate"]
        assert "no tool 'get_time'" in tools.call("get_time", {"city": "Rome"})


@pytest.mark.parametrize(
    ("sources", "sentence"),
    [
        (["nothing"], "there is no tool 'nothing'; built in are calculate, get_time"),
        (["calculate", "calculate"], "two of the tools are called calculate; leave one out"),
        (["nowhere.py"], "nowhere.py does not exist"),
        (["nowhere.json"], "cannot read nowhere.json: No such file or directory"),
        (["mcp:"], "mcp: names no server"),
    ],
)
def test_a_source_that_is_none(sources: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence), open_tools(sources):
        pass


def test_whatever_a_tool_raises_or_returns_is_text_of_bounded_length() -> None:
    def break_down(arguments: dict[str, object]) -> object:
        raise RuntimeError("x" * 500)

    nothing = {"type": "object", "properties": {}}
    long = Tool("long", "", nothing, lambda arguments: ["字"] * 100)
    odd = Tool("odd", "", nothing, lambda arguments: {"when": datetime(2026, 1, 2), "nothing": None})
    tools = Toolbox([Tool("broken", "", nothing, break_down), long, odd], Limits(characters=60))
    assert tools.call("broken", {}) == json.dumps(
        {"error": "RuntimeError: " + "x" * 46 + "… (cut off after 60 characters)"}, ensure_ascii=False
    )
    assert (
        tools.call("long", {})
        == json.dumps(["字"] * 100, ensure_ascii=False)[:60] + "… (cut off after 60 characters)"
    )
    assert tools.call("odd", {}) == '{"when": "2026-01-02 00:00:00", "nothing": null}'
