"""Answers that follow a JSON Schema: at every token only what may come next is allowed (the library llguidance)."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from minimind.errors import UserError, missing_extra
from minimind.tokenizer import Tokenizer
from minimind.util.json_files import loads

if TYPE_CHECKING:
    import llguidance

# A small model that may write any white space writes nothing else, sooner or later.
WHITE_SPACE = r"[ \n]{0,2}[ ]{0,8}"


class Vocabulary:
    """What the tokens of a model spell, as the constraints need it; made once."""

    def __init__(self, tokenizer: Tokenizer, size: int) -> None:
        """`size`: how many ids the model has, at least those of the tokenizer."""
        try:
            import llguidance
        except ImportError:
            raise missing_extra("llguidance", "json") from None
        self.tokens = llguidance.LLTokenizer(tokenizer.backend.to_str(), n_vocab=size, eos_token=tokenizer.eos_id)
        self.size = size
        self.compiled = lru_cache(maxsize=32)(self._compile)

    def _compile(self, schema: str) -> llguidance.LLMatcher:
        from llguidance import LLMatcher

        grammar = LLMatcher.grammar_from_json_schema(schema, defaults={"whitespace_pattern": WHITE_SPACE})
        matcher = LLMatcher(self.tokens, grammar)
        if matcher.is_error():
            raise UserError(f"this JSON Schema cannot be followed: {_first_line(matcher.get_error())}")
        return matcher


class Constraint:
    """Where one answer stands in its schema. UserError for a schema that cannot be followed."""

    def __init__(self, schema: str, vocabulary: Vocabulary) -> None:
        self.size = vocabulary.size
        self.matcher = vocabulary.compiled(_object_schema(schema)).deep_copy()

    @property
    def finished(self) -> bool:
        """Whether nothing can follow any more, be it that the schema is followed or that this got too complex."""
        return self.matcher.is_stopped()

    @property
    def followed(self) -> bool:
        return self.matcher.is_accepting() and not self.matcher.is_error()

    def forbid(self, logits_V: torch.Tensor) -> None:
        """Set the logits of all tokens that may not come next to −inf."""
        words = torch.frombuffer(bytearray(self.matcher.compute_bitmask()), dtype=torch.uint8)
        allowed = (words[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1
        forbidden_V = allowed.flatten()[: self.size] == 0
        logits_V.masked_fill_(forbidden_V.to(logits_V.device), -torch.inf)

    def receive(self, token: int) -> None:
        self.matcher.consume_token(token)


def _object_schema(text: str) -> str:
    """The schema, where `{}` stands for any object."""
    try:
        schema: Any = loads(text)
    except ValueError as error:
        raise UserError(f"json_schema is not JSON: {error}") from None
    if not isinstance(schema, dict):
        raise UserError("json_schema must be a JSON object, for example {} for any JSON object")
    return json.dumps(schema or {"type": "object"})


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0][:200] if text.strip() else "no reason given"
