"""Values checked against type hints: what a setting may be, in code and in words."""

import types
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

# A setting that follows from others where nobody names it: None until it is derived, then a number.
if TYPE_CHECKING:
    DerivedInt = Any
    DerivedFloat = Any
else:
    DerivedInt, DerivedFloat = int | None, float | None


def options(hint: Any) -> tuple:
    """The members of a union; any other type alone."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def kinds(hint: Any) -> set[Any]:
    """The same without what is in brackets: `list[int] | None` is {list, NoneType}."""
    return {get_origin(option) or option for option in options(hint)}


def convert(value: Any, hint: Any) -> Any:
    """The value as the type asks for it; of a union, the first option that fits. Raises ValueError."""
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
            return int(str(value))  # exact, however large
    as_float = float(str(value))  # through text, so that a huge whole number is no overflow
    if as_float != as_float or (kind is int and not as_float.is_integer()):
        raise ValueError
    return int(as_float) if kind is int else as_float


def expected(hint: Any) -> str:
    """A type in words."""
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
