"""Values checked against type hints: what a setting may be, in code and in words.

A number declares its range beside its type, `Annotated[int, Range(1, 64)]`, and nowhere else: the flag's parser, a
recipe's reader, the help, the error and the dataclass itself all look there. A number is always finite.
"""

import math
import types
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from minimind.errors import UserError


@dataclass(frozen=True)
class Range:
    """From `low` to `high`, both included unless `above` (low) or `below` (high) is set."""

    low: float
    high: float
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        over = value > self.low if self.above else value >= self.low
        return over and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        low = f"above {_bound(self.low)}," if self.above else f"from {_bound(self.low)}"
        return f"{low} {'to below' if self.below else 'at most' if self.above else 'to'} {_bound(self.high)}"


def _bound(value: float) -> str:
    return f"{int(value):,}" if value == int(value) and (isinstance(value, int) or value < 1e16) else f"{value:g}"


# A setting that follows from others where nobody names it: None until it is derived, then a number.
if TYPE_CHECKING:
    DerivedInt = Any
    DerivedFloat = Any
else:
    DerivedInt, DerivedFloat = int | None, float | None

Count = Annotated[int, Range(1, 10**9)]
CountOrZero = Annotated[int, Range(0, 10**9)]
Share = Annotated[float, Range(0, 1)]
Decay = Annotated[float, Range(0, 1, below=True)]
Weight = Annotated[float, Range(0, 10)]
Seed = Annotated[int, Range(0, 2**63 - 1)]


def bare(hint: Any) -> tuple[Any, Range | None]:
    """A hint without its annotation, and the range that it was annotated with."""
    if get_origin(hint) is not Annotated:
        return hint, None
    kind, *notes = get_args(hint)
    return kind, next((note for note in notes if isinstance(note, Range)), None)


def range_of(hint: Any) -> Range | None:
    """The range of a number's hint, None for any other."""
    return next((found for option in (hint, *options(hint)) if (found := bare(option)[1])), None)


def options(hint: Any) -> tuple:
    """The members of a union; any other type alone."""
    hint = bare(hint)[0]
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def kinds(hint: Any) -> set[Any]:
    """The same without what is in brackets: `list[int] | None` is {list, NoneType}."""
    return {get_origin(option) or option for option in map(_kind, options(hint))}


def _kind(hint: Any) -> Any:
    return bare(hint)[0]


def convert(value: Any, hint: Any) -> Any:
    """The value as the type asks for it; of a union, the first option that fits. Raises ValueError."""
    hint, allowed = bare(hint)
    if allowed is not None:
        value = convert(value, hint)
        if value is not None and value not in allowed:
            raise ValueError
        return value
    if len(options(hint)) > 1:
        for option in options(hint):
            with suppress(ValueError):
                return convert(value, option)
    elif get_origin(hint) is Literal:
        for choice in get_args(hint):
            if (value == choice and type(value) is type(choice)) or value == str(choice):
                return choice
    elif get_origin(hint) in (list, tuple) and isinstance(value, list | tuple):
        return get_origin(hint)(convert(item, get_args(hint)[0]) for item in value)
    elif hint in (int, float) and type(value) in (int, float, str):
        return number(value, hint)
    elif type(value) is hint:
        return value
    raise ValueError


def number(value: int | float | str, kind: type) -> int | float:
    """Also from text, because YAML 1.1 reads `1e-3` as text, and `1e9` for a whole number."""
    if kind is int:
        with suppress(ValueError):
            return int(value if isinstance(value, str) else str(value))  # exact, however large
    as_float = float(str(value))  # through text, so that a huge whole number is no overflow
    if not math.isfinite(as_float) or (kind is int and not as_float.is_integer()):
        raise ValueError
    return int(as_float) if kind is int else as_float


def expected(hint: Any) -> str:
    """A type in words."""
    hint, allowed = bare(hint)
    if allowed is not None:
        first, *others = (expected(option) for option in options(hint))
        return " or ".join([f"{first} {allowed}", *others])
    if len(options(hint)) > 1:
        return " or ".join(expected(option) for option in options(hint))
    if get_origin(hint) is Literal:
        return " or ".join(str(choice) for choice in get_args(hint))
    if get_origin(hint) in (list, tuple):
        return f"a list of ({expected(get_args(hint)[0])})"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(hint, "null")


def from_words(words: list[str], hint: Any) -> Any:
    """The words after a flag as YAML would have given them."""
    text = " ".join(words)
    if type(None) in kinds(hint) and text.lower() in ("null", "none"):
        return None
    if {list, tuple} & kinds(hint):
        return words
    if bool in kinds(hint):
        return {"": True, "true": True, "false": False}.get(text.lower(), text)
    return text


def hints(owner: type) -> dict[str, Any]:
    """The type of every field of a dataclass, ranges included."""
    declared = get_type_hints(owner, include_extras=True)
    return {field.name: declared[field.name] for field in fields(owner) if field.init}


def ranges(owner: type) -> dict[str, Range | None]:
    """The range of every field of a dataclass, looked up once."""
    if owner not in _RANGES:
        _RANGES[owner] = {name: range_of(hint) for name, hint in hints(owner).items()}
    return _RANGES[owner]


_RANGES: dict[type, dict[str, Range | None]] = {}


def check_fields(instance: Any, prefix: str = "") -> None:
    """Raise UserError for a number of a dataclass, or of a section in it, that is outside its declared range.

    A dataclass calls it in `__post_init__`, so that values from Python meet the same limits as those from flags.
    """
    for name, allowed in ranges(type(instance)).items():
        value = getattr(instance, name)
        if is_dataclass(value):
            check_fields(value, f"{prefix}{name}.")
        elif allowed is not None and value is not None and not (_is_number(value) and value in allowed):
            hint = hints(type(instance))[name]
            raise UserError(f"{prefix}{name} must be {expected(hint)}, not {value!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
