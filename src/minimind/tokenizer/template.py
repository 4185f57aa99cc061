"""Chat templates: Jinja sources, rendered as transformers renders them."""

import datetime
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension

from minimind.tokenizer.allowance import Allowance, allowing
from minimind.tokenizer.bounded import BoundedEnvironment

# Unicode noncharacters, which the standard keeps for a program's private use: a break inside a control string
# that somebody typed, and the borders of what the assistant wrote, until chat.py has read them.
BREAK, TURN_START, TURN_END = "\ufdd0", "\ufdd1", "\ufdd2"
_UNMARKED = str.maketrans("", "", BREAK + TURN_START + TURN_END)

_GENERATION_TAG = re.compile(r"(\{%[-+]?\s*)(end)?generation(\s*[-+]?%\})")


class GenerationBlock(Extension):
    """`{% generation %}…{% endgeneration %}`, transformers' tag around what the assistant wrote."""

    tags = {"generation"}  # noqa: RUF012 (Jinja's own form)

    def parse(self, parser: jinja2.parser.Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_enclose"), [], [], body).set_lineno(line)

    def _enclose(self, caller: Any) -> str:
        return TURN_START + caller() + TURN_END


# They differ from today's in tags within answers and in content as a list of parts.
FORMER_DEFAULTS = (
    "89ba6874dd26e47d6093c945b899e165460b28c5a578367064e3587be95a49fc",
    "a23803f6df519c39ffdfc409e1c472e5423d1d14573dc8ee9f4b8a9da2cc2832",
)


@cache
def default_template() -> str:
    """The source of MiniMind's own chat template."""
    return Path(__file__).with_name("template.jinja").read_text(encoding="utf-8")


@cache
def _environment() -> BoundedEnvironment:
    # Settings, filters and globals are transformers', for which chat templates are written.
    environment = BoundedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlock, "jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = strftime_now
    return environment


def compile_template(source: str) -> jinja2.Template:
    """Raises jinja2.TemplateError for a source that is no template."""
    try:
        return _environment().from_string(source)
    except Exception as error:  # beside errors of syntax: nested too deep for Jinja or for Python
        raise jinja2.TemplateError(reason(error)) from None


def render(template: jinja2.Template, allowance: Allowance, **variables: Any) -> str:
    """Render within the allowance. Raises jinja2.TemplateError, whatever the template does wrong."""
    allowance.written = 0
    try:
        with allowing(allowance):
            return template.render(variables)
    except Exception as error:  # a template is a program: it may divide by zero, recurse for ever, …
        raise jinja2.TemplateError(reason(error)) from error


def reason(error: Exception) -> str:
    """What went wrong, in one short line."""
    said = " ".join(str(error).translate(_UNMARKED).split())
    if not said or isinstance(error, KeyError):  # whose text is only the key
        said = f"{type(error).__name__} {said}".rstrip()
    return said if len(said) <= 300 else f"{said[:300]}…"


def is_default(source: str | None) -> bool:
    """Whether a template is MiniMind's own, as it is or as models trained earlier have it."""
    return source == default_template() or hashlib.sha256((source or "").encode()).hexdigest() in FORMER_DEFAULTS


def has_generation_blocks(source: str) -> bool:
    return any(not match[2] for match in _GENERATION_TAG.finditer(source))


def without_generation_blocks(source: str) -> str:
    """The template in plain Jinja, for programs that do not know transformers' tag; it renders the same text.

    A condition that always holds takes the tag's place, so that white space around it is trimmed as before.
    """
    return _GENERATION_TAG.sub(lambda match: f"{match[1]}{'endif' if match[2] else 'if true'}{match[3]}", source)


def raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def strftime_now(form: str) -> str:
    return datetime.datetime.now().strftime(form)
