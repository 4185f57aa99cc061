"""A calculator for expressions that a model wrote: read as a tree, worked out node by node, never run as code."""

from __future__ import annotations

import ast
import math
import operator
import warnings
from collections.abc import Callable
from typing import Any

from minimind.tools.tool import ToolError

MAX_LENGTH = 500  # characters of an expression
MAX_BITS = 4096  # of a whole number, about 1,200 digits
MAX_FACTORIAL = 500

Number = int | float


def _power(base: Number, exponent: Number) -> Any:
    """Refused before it is worked out: `9**9**9` would fill the memory."""
    if isinstance(base, int) and isinstance(exponent, int):
        _check_bits((base.bit_length() - 1) * exponent)  # it has at least so many
    return base**exponent


def _round(number: Number, digits: int = 0) -> Number:
    if not isinstance(digits, int) or abs(digits) > 100:
        raise ToolError("round takes a number and a whole number of digits, at most 100")
    return round(number, digits) if digits else round(number)


def _factorial(number: int) -> int:
    if not isinstance(number, int) or not 0 <= number <= MAX_FACTORIAL:
        raise ToolError(f"factorial takes a whole number from 0 to {MAX_FACTORIAL}")
    return math.factorial(number)


OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}
SIGNS: dict[type, Callable[[Any], Any]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(math, name) for name in ("sqrt", "exp", "log", "log2", "log10", "floor", "ceil", "gcd")},
    **{name: getattr(math, name) for name in ("sin", "cos", "tan", "asin", "acos", "atan", "degrees", "radians")},
    "abs": abs,
    "min": min,
    "max": max,
    "round": _round,
    "factorial": _factorial,
}
CONSTANTS = {"pi": math.pi, "e": math.e}
ALLOWED = f"numbers, + - * / // % **, parentheses, {', '.join([*CONSTANTS, *FUNCTIONS])}"

# How people write it: full-width characters, and the signs of arithmetic.
FULL_WIDTH = {chr(code + 0xFEE0): chr(code) for code in range(0x21, 0x7F)}
WRITTEN = str.maketrans({**FULL_WIDTH, "×": "*", "÷": "/", "−": "-", "^": "**", "＾": "**", "π": "pi"})


def evaluate(expression: str) -> Number:
    """The value of an expression, as Python works it out; `^` is a power. ToolError where there is none."""
    text = expression.translate(WRITTEN).strip().rstrip("=? ")
    if len(text) > MAX_LENGTH:
        raise ToolError(f"the expression is longer than {MAX_LENGTH} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `1if` and the like
            tree = ast.parse(text, mode="eval")
        return _value(tree.body)
    except ToolError:
        raise
    except (RecursionError, MemoryError):
        raise ToolError("the expression is nested too deep") from None
    except SyntaxError:
        raise ToolError(f"this is no expression; use {ALLOWED}") from None
    except OverflowError:
        raise ToolError("a number in it is too large") from None
    except (ArithmeticError, TypeError, ValueError) as error:
        raise ToolError(str(error)) from None


def _value(node: ast.expr) -> Number:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return _bounded(value)
        case ast.Name(id=name) if name in CONSTANTS:
            return CONSTANTS[name]
        case ast.UnaryOp(op=sign) if type(sign) in SIGNS:
            return SIGNS[type(sign)](_value(node.operand))
        case ast.BinOp(op=op) if type(op) in OPERATORS:
            return _bounded(OPERATORS[type(op)](_value(node.left), _value(node.right)))
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name in FUNCTIONS:
            return _bounded(FUNCTIONS[name](*map(_value, node.args)))
    raise ToolError(f"only these can be used: {ALLOWED}")


def _bounded(value: Any) -> Number:
    if isinstance(value, int):
        _check_bits(value.bit_length())
    elif isinstance(value, complex):
        raise ToolError("the root of a negative number is no real number")
    elif not math.isfinite(value):
        raise OverflowError
    return value


def _check_bits(bits: int) -> None:
    if bits > MAX_BITS:
        raise OverflowError
