"""Jinja that ends: templates that cannot run for ever, fill the memory or write without end.

A chat template comes with a downloaded model and is a program. Here it may do MOST_WORK units of work (about a
second) and hold or write MOST_LENGTH characters, and some more for each character of the conversation. Work is
counted, not timed, so that the same template and conversation always end alike: every round of a loop and every
call costs a step, every value that is made, compared or taken apart its weight. What could grow at one stroke
(`'x' * 10**10`, a width in a format) is refused before it is made. And as no value
unfolds to more than MOST_LENGTH, no single operation takes long.
"""

from __future__ import annotations

import json
import re
import string
import types
from collections.abc import Callable
from functools import wraps
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.runtime import Context, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from minimind.tokenizer.allowance import CALL, ITEM, MOST_BITS, TooMuch, bounded, current, step, tested, weigh

MOST_SOURCE = 2**18  # characters of a template


@jinja2.pass_context  # with the context, so that Jinja does not fold constants before there is an allowance
def _finalize(context: Context, value: Any) -> str:
    bounded(value)
    text = value if isinstance(value, str) else str(value)
    current().write(len(text))
    return text


def to_json(value: Any, ensure_ascii=False, indent=None, separators=None, sort_keys=False) -> str:  # type: ignore[no-untyped-def]
    """transformers' `tojson`, which unlike Jinja's leaves `<` and its kind alone."""
    encoder = json.JSONEncoder(ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    if indent is None:
        return encoder.encode(value)
    current().hold(indent if isinstance(indent, int) else len(indent))
    parts = []
    for part in encoder.iterencode(value):
        step(0)
        current().spend(len(part))
        parts.append(part)
    return "".join(parts)


def _number_sum(filter: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(filter)
    def total(environment: Any, iterable: Any, attribute: Any = None, start: Any = 0) -> Any:
        if not isinstance(start, int | float):  # adding up lists takes the square of their number
            raise TooMuch("sum adds numbers only")
        return filter(environment, iterable, attribute, start)

    return total


# How long the result of a filter or a method may get, where that is more than a few times its arguments.
GROWTH: dict[str, Callable[..., int]] = {
    "center": lambda s, width=80, *rest: width,
    "ljust": lambda s, width, *rest: width,
    "rjust": lambda s, width, *rest: width,
    "zfill": lambda s, width: width,
    "indent": lambda s, width=4, *rest, **more: (
        (str(s).count("\n") + 1) * (width if isinstance(width, int) else len(width))
    ),
    "replace": lambda s, old, new, *rest, **more: str(s).count(str(old)) * len(str(new)),
    "join": lambda value, d="", *rest, **more: len(value) * len(str(d)),
    "batch": lambda value, linecount, *rest, **more: linecount * ITEM,
    "slice": lambda value, slices, *rest, **more: slices * ITEM,
    "round": lambda value, precision=0, *rest, **more: abs(precision) << 12,  # computes 10 ** precision
    "format": lambda value, *args, **more: _formatted(str(value), args or more),
    "strftime_now": lambda form: _formatted(form, ()) + len(form) << 10,
}

# Filters that take the square of the length of their input, or make up text; methods that no template needs.
LEFT_OUT = ("pprint", "striptags", "urlize", "wordwrap", "xmlattr")
LEFT_OUT_METHODS = ("encode", "expandtabs", "fromkeys", "maketrans", "translate")
FREE = {"count", "d", "default", "first", "last", "length"}
COMPARING = {"!=", "<", "<=", "==", ">", ">=", "eq", "equalto", "ge", "greaterthan", "gt", "in", "le", "lessthan"}
COMPARING |= {"lower", "lt", "ne", "upper"}


def _formatted(form: str, arguments: Any) -> int:
    """The most that `form % arguments` may give."""
    if re.search(r"%[^%a-zA-Z]*(?:\d{4}|\*)", form):
        raise TooMuch("a width in a format is too large")
    return len(form) + form.count("%") * (weigh(arguments) + 999)


def _bounded_filter(name: str, filter: Callable[..., Any]) -> Callable[..., Any]:
    if name in FREE:
        return filter
    skipped = int(hasattr(filter, "jinja_pass_arg"))  # Jinja's own first argument

    @wraps(filter)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        _pay(name, args[skipped:], kwargs)
        result = filter(*args, **kwargs)
        return bounded(list(result) if isinstance(result, types.GeneratorType) else result)

    return wrapper


def _bounded_test(test: Any) -> Callable[..., Any]:
    @wraps(test)
    def wrapper(*args: Any) -> Any:
        bounded(args)
        return test(*args)

    return wrapper


def _pay(name: str, args: tuple, kwargs: dict) -> None:
    """For a call and its arguments, and see that its result keeps within bounds."""
    current().spend(CALL)
    bounded(args)
    if kwargs:
        bounded(kwargs)
    if name in GROWTH:
        current().hold(GROWTH[name](*args, **kwargs))


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox with bounds. Its templates are rendered in an `allowing` block."""

    intercepted_binops = frozenset(["+", "-", "*", "/", "//", "%", "**"])

    def __init__(self, **options: Any) -> None:
        super().__init__(optimized=False, finalize=_finalize, **options)
        del self.globals["lipsum"]
        for name in LEFT_OUT:
            del self.filters[name]
        self.filters["tojson"] = to_json
        self.filters["sum"] = _number_sum(self.filters["sum"])
        for name, filter in self.filters.items():
            self.filters[name] = _bounded_filter(name, filter)
        for name in COMPARING:
            self.tests[name] = _bounded_test(self.tests[name])
        self.filters |= {function.__name__: function for function in (bounded, step, tested)}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        if len(source) > MOST_SOURCE:
            raise jinja2.TemplateError(f"it is longer than {MOST_SOURCE:,} characters")
        return _Hooks().visit(super()._parse(source, name, filename))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        known = attr not in LEFT_OUT_METHODS and not isinstance(obj, int | float)
        return known and super().is_safe_attribute(obj, attr, value)

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        raise jinja2.exceptions.SecurityError(f"{attribute} of a {type(obj).__name__} is out of bounds")

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        method = super().wrap_str_format(value)
        if method is None:
            return None

        def wrapper(*args: Any, **kwargs: Any) -> str:
            fields = list(string.Formatter().parse(value.__self__))
            if any(spec and re.search(r"\{|\d{4}", spec) for _, _, spec, _ in fields):
                raise TooMuch("a width in a format is too large")
            current().hold(len(fields) * (weigh([args, kwargs]) + 999))
            return method(*args, **kwargs)

        return wrapper

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        # Two underscores as in Jinja: a template's own keyword may have any name.
        owner = getattr(__obj, "__self__", None)
        name = __obj.__name__ if isinstance(owner, str) or isinstance(__obj, types.FunctionType) else ""
        _pay(name, (owner, *args) if isinstance(owner, str) else args, kwargs)
        result = super().call(__context, __obj, *args, **kwargs)
        return result if isinstance(__obj, Macro) else bounded(result)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        bounded(left)
        bounded(right)
        if operator == "*" and not isinstance(left, float) and not isinstance(right, float):
            times, repeated = (left, right) if isinstance(left, int) else (right, left)
            if isinstance(times, int) and not isinstance(repeated, int):
                current().hold(times * weigh(repeated))
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            if left.bit_length() * right > MOST_BITS:
                raise TooMuch("a number has thousands of digits")
        elif operator == "%" and isinstance(left, str):
            current().hold(_formatted(left, right))
        return bounded(super().call_binop(context, operator, left, right))


class _Hooks(NodeTransformer):
    """Puts the counting into a parsed template, where the sandbox has no hook of its own."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        if node.test is not None:
            node.test = _filtered(node.test, "tested")
        return self._counted(node)

    def _counted(self, node: nodes.Node) -> nodes.Node:
        self.generic_visit(node)
        node.body.insert(0, _step(node, 0))  # type: ignore[attr-defined]
        return node

    visit_Macro = visit_CallBlock = visit_Block = _counted

    def visit_Output(self, node: nodes.Output) -> Any:
        self.generic_visit(node)
        written = sum(len(child.data) for child in node.nodes if isinstance(child, nodes.TemplateData))
        return [_step(node, written), node] if written else node

    def _result(self, node: Any) -> nodes.Node:
        self.generic_visit(node)
        stored = isinstance(node, nodes.Tuple) and node.ctx != "load"
        constant = all(isinstance(child, nodes.Const) for child in node.iter_child_nodes())
        return node if stored or constant else _filtered(node, "bounded")

    visit_List = visit_Tuple = visit_Dict = _result

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [_filtered(part, "bounded") for part in node.nodes]
        return _filtered(node, "bounded")

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = _filtered(node.expr, "bounded")
        for operand in node.ops:
            operand.expr = _filtered(operand.expr, "bounded")
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            return _filtered(node, "bounded")
        node.arg = _filtered(node.arg, "bounded")
        return node


def _filtered(node: Any, name: str) -> nodes.Expr:
    if isinstance(node, nodes.Const):
        return node
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _step(node: nodes.Node, written: int) -> nodes.Node:
    call = nodes.Filter(nodes.Const(written), "step", [], [], None, None, lineno=node.lineno)
    return nodes.ExprStmt(call, lineno=node.lineno)
