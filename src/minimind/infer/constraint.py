"""Answers that follow a JSON Schema, and calls of the tools on offer: at every token only what may come next is
allowed, which the library llguidance says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from minimind.errors import UserError, missing_extra
from minimind.infer.sampler import SamplingParams
from minimind.tokenizer import Tokenizer
from minimind.tokenizer.parse import CALL, END_CALL, marker_ids
from minimind.util.json_files import loads

if TYPE_CHECKING:
    import llguidance

# A small model that may write any white space writes nothing else, sooner or later.
WHITE_SPACE = r"[ \n]{0,2}[ ]{0,8}"
ANY_OBJECT = {"type": "object"}
LONGEST_GRAMMAR = 2**18
"""characters"""
COMPILE_SECONDS = 5.0
CHECK = "import llguidance, sys; print(llguidance.LLMatcher.validate_grammar(sys.stdin.read()))"


class SchemaError(UserError):
    """A schema, of an answer or of a tool's arguments, that cannot be followed."""


class Vocabulary:
    """What the tokens of a model spell, as the constraints need it; made once, used by any thread."""

    def __init__(self, tokenizer: Tokenizer, size: int) -> None:
        """`size`: how many ids the model has, at least those of the tokenizer."""
        try:
            import llguidance
        except ImportError:
            raise missing_extra("llguidance", "json") from None
        self.tokens = llguidance.LLTokenizer(tokenizer.backend.to_str(), n_vocab=size, eos_token=tokenizer.eos_id)
        self.size = size
        markers = {fragment: token for token, fragment in marker_ids(tokenizer).items()}
        self.call, self.end_call = markers.get(CALL), markers.get(END_CALL)
        self.compiled = lru_cache(maxsize=32)(self._compile)

    def constraint(self, params: SamplingParams) -> Constraint | None:
        """What the parameters ask for; None for free text. Raises SchemaError.

        Where a tokenizer spells the marker of a call in several tokens, only calls that the prompt opens are
        constrained.
        """
        tools, answer = params.offered_tools, ""
        if tools is not None and params.open_call:
            return self._begin(f"start: call\n{_calls(tools)}")
        if params.json_schema is not None:
            answer = f"answer: {_json_schema(params.json_schema)}"
        if tools is None or self.call is None:
            return self._begin(f"start: answer\n{answer}") if answer else None
        call = f'"\\n"? call "\\n"? <[{self.end_call}]>'
        begin = f'start: answer | (<[{self.call}]> {call} "\\n"?)+\n{answer}' if answer else f"start: {call}"
        begins_with = None if answer else self.call
        try:
            return self._begin(f"{begin}\n{_calls(tools)}", begins_with)
        except SchemaError:  # some describe tools by more than can be followed; their names can be
            return self._begin(f"{begin}\n{_calls(tools, names_only=True)}", begins_with)

    def _begin(self, grammar: str, begins_with: int | None = None) -> Constraint:
        matcher = self.compiled(grammar)
        if isinstance(matcher, str):
            raise SchemaError(f"this JSON Schema cannot be followed: {matcher}")
        return Constraint(matcher, self.size, begins_with)

    def _compile(self, lark: str) -> llguidance.LLMatcher | str:
        """The grammar's matcher; or why there is none.

        It is compiled by a process first, which is stopped if that takes too long: a short schema may ask for
        endless work. No other thread waits for any of it.
        """
        from llguidance import LLMatcher, LLParserLimits

        if len(lark) > LONGEST_GRAMMAR:
            return f"it has more than {LONGEST_GRAMMAR} characters"
        grammar = LLMatcher.grammar_from_lark(lark)
        program = [sys.executable, "-c", CHECK]
        try:
            check = subprocess.run(program, input=grammar.encode(), capture_output=True, timeout=COMPILE_SECONDS)
        except subprocess.TimeoutExpired:
            return f"it is not compiled within {COMPILE_SECONDS:g} seconds; make it simpler"
        if problem := check.stdout.decode().strip() or check.returncode:
            return _reason(str(problem))
        matcher = LLMatcher(self.tokens, grammar, log_level=0, limits=LLParserLimits(verbose_errors=False))
        first = matcher.deep_copy()
        first.try_consume_tokens(self.tokens.tokenize_str("{"))  # too many properties are too complex here
        return _reason(first.get_error()) if first.is_error() else matcher


class Constraint:
    """Where one answer stands in its grammar.

    begins_with  the token after which the grammar holds, until it is followed; then the answer is free again, up to
                 the next such token. None: the whole answer follows it.
    """

    def __init__(self, grammar: llguidance.LLMatcher, size: int, begins_with: int | None = None) -> None:
        self.grammar = grammar
        self.size = size
        self.begins_with = begins_with
        self.restart()

    @property
    def holds(self) -> bool:
        """Whether it forbids anything at this place."""
        return self.matcher is not None

    @property
    def finished(self) -> bool:
        """Whether nothing can follow any more."""
        return self.matcher is not None and self.matcher.is_stopped()

    @property
    def followed(self) -> bool:
        """Whether the answer may end here."""
        return self.matcher is None or self.matcher.is_accepting()

    def forbid(self, logits_V: torch.Tensor) -> torch.Tensor:
        """The logits, −inf for all tokens that may not come next."""
        if self.matcher is None:
            return logits_V
        words = torch.frombuffer(bytearray(self.matcher.compute_bitmask()), dtype=torch.uint8)
        allowed = (words[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1
        forbidden_V = allowed.flatten()[: self.size] == 0
        if self.matcher.is_error() or forbidden_V.all():
            raise SchemaError(f"the JSON Schema is too complex to follow: {_reason(self.matcher.get_error())}")
        return logits_V.masked_fill(forbidden_V.to(logits_V.device), -torch.inf)

    def restart(self) -> None:
        """Begin again, where what came so far was broken off."""
        self.matcher = self.grammar.deep_copy() if self.begins_with is None else None

    def receive(self, token: int) -> None:
        if self.matcher is None:
            self.matcher = self.grammar.deep_copy() if token == self.begins_with else None
        elif not self.matcher.consume_token(token):
            raise SchemaError(f"the JSON Schema is too complex to follow: {_reason(self.matcher.get_error())}")
        elif self.begins_with is not None and self.matcher.is_stopped():
            self.matcher = None


def _calls(tools: str, names_only: bool = False) -> str:
    """The rules of `call`: one of the tools' names with its arguments. Each tool's schema is a document of its own,
    whose references mean places in it."""
    try:
        functions = [tool.get("function", tool) for tool in json.loads(tools)]
        names = [json.dumps(function["name"], ensure_ascii=False) for function in functions]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SchemaError("offered_tools must be a JSON list of tools in OpenAI's form") from None
    rules = ["call: " + " | ".join(f"call_{number}" for number in range(len(functions)))]
    for number, (function, name) in enumerate(zip(functions, names)):
        arguments = ANY_OBJECT if names_only else function.get("parameters") or ANY_OBJECT
        fields = ("{", '"name"', ":", name, ",", '"arguments"', ":")
        rule = " WS ".join([*map(json.dumps, fields), f"arguments_{number}", '"}"'])
        rules += [f"call_{number}: {rule}", f"arguments_{number}: {_rule(arguments)}"]
    return "\n".join([*rules, f"WS: /{WHITE_SPACE}/"])


def _json_schema(text: str) -> str:
    """The schema of an answer, where `{}` stands for any object."""
    try:
        schema: Any = loads(text)
    except ValueError as error:
        raise SchemaError(f"json_schema is not JSON: {error}") from None
    if not isinstance(schema, dict):
        raise SchemaError("json_schema must be a JSON object, for example {} for any JSON object")
    return _rule(schema or ANY_OBJECT)


def _rule(schema: dict[str, Any]) -> str:
    """The right side of a rule for what a schema allows."""
    if not any(_combines(part) for part in _objects(schema)):
        schema = _closed(schema)
    return "%json " + json.dumps({"x-guidance": {"whitespace_pattern": WHITE_SPACE}, **schema})


def _closed(schema: Any) -> Any:
    """The schema with no other properties than those that it names: a small model invents names without end."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("properties", "$defs", "definitions") and isinstance(value, dict):  # whose keys are names
            closed[key] = {name: _closed(one) for name, one in value.items()}
        else:
            closed[key] = value if key in ("enum", "const") else _closed(value)
    named = schema.get("properties")
    if isinstance(named, dict) and named and set(schema.get("required", ())) <= named.keys():
        closed.setdefault("additionalProperties", False)
    return closed


def _combines(schema: dict[str, Any]) -> bool:
    """Whether the properties of an object come from several schemas, none of which may then exclude the others'."""
    if schema.keys() & {"allOf", "if", "not", "dependentSchemas", "patternProperties", "minProperties"}:
        return True
    return "properties" in schema and bool(schema.keys() & {"anyOf", "oneOf", "$ref"})


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for inside in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _objects(inside)


def _reason(text: str) -> str:
    return text.strip().splitlines()[0][:200] if text.strip() else "no reason given"
