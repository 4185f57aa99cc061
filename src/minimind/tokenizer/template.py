"""Chat templates: Jinja sources, rendered as transformers renders them."""

import datetime
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

# Unicode noncharacters, which the standard keeps for a program's private use: the borders of what the
# assistant wrote, until chat.py has turned them into positions.
TURN_START, TURN_END = "\ufdd1", "\ufdd2"

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


@cache
def default_template() -> str:
    """The source of MiniMind's own chat template."""
    return Path(__file__).with_name("template.jinja").read_text(encoding="utf-8")


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    # Settings, filter and globals are transformers', for which chat templates are written. A template comes
    # with a downloaded model, so it runs in Jinja's sandbox.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlock, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return environment


def compile_template(source: str) -> jinja2.Template:
    """Raises jinja2.TemplateError for a source with a syntax error."""
    return _environment().from_string(source)


def has_generation_blocks(source: str) -> bool:
    return any(not match[2] for match in _GENERATION_TAG.finditer(source))


def without_generation_blocks(source: str) -> str:
    """The template in plain Jinja, for programs that do not know transformers' tag; it renders the same text.

    A condition that always holds takes the tag's place, so that white space around it is trimmed as before.
    """
    return _GENERATION_TAG.sub(lambda match: f"{match[1]}{'endif' if match[2] else 'if true'}{match[3]}", source)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)
