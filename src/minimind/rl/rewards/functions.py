"""From a function's name and the options after it to a reward: built in, or the user's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, get_type_hints

from minimind.errors import UserError
from minimind.rl.types import Rollout
from minimind.util.suggest import did_you_mean
from minimind.util.typed import convert, expected, from_words

Reward = Callable[[Sequence[Rollout]], Sequence[float]]


def bind(target: Callable[..., Any], options: Mapping[str, str], given: Mapping[str, Any], where: str) -> Reward:
    """A function with its options filled in, or an object of a class that is made with them and then called.

    A parameter named as one of `given` gets that; the others are options, read by their type hints. UserError for
    an option that is unknown, missing or of another type.
    """
    is_class = inspect.isclass(target)
    parameters = list(inspect.signature(target).parameters.values())[0 if is_class else 1 :]
    hints = get_type_hints(target.__init__ if is_class else target, include_extras=True)  # type: ignore[misc]
    known = {one.name: one for one in parameters if one.name not in given}
    values = {one.name: given[one.name] for one in parameters if one.name in given}
    for name, text in options.items():
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise UserError(f"{where}: there is no option {name}; {did_you_mean(name, known, has)}")
        hint = hints.get(name, str)
        try:
            values[name] = convert(from_words([text], hint), hint)
        except ValueError:
            raise UserError(f"{where}: {name} must be {expected(hint)}, not {text}") from None
    if missing := [name for name, one in known.items() if one.default is one.empty and name not in values]:
        raise UserError(f"{where}: {missing[0]} is missing; add ,{missing[0]}=…")
    return target(**values) if is_class else partial(target, **values)
