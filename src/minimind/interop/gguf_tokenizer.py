"""A tokenizer as llama.cpp reads it: vocabulary, merges, and the name of a pre-tokenizer that is built into it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jinja2
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers

from minimind.errors import UserError
from minimind.tokenizer import Tokenizer
from minimind.tokenizer.template import default_template, without_generation_blocks
from minimind.tokenizer.train import WORDS

# Qwen2's and Qwen3's own way of writing the same; `(?i:…)` also folds "ſ" to "s", which llama.cpp does not.
QWEN2 = WORDS.replace(WORDS[: WORDS.index("|[^")], "(?i:'s|'t|'re|'ve|'m|'ll|'d)")
NAMES = {WORDS: "qwen2", QWEN2: "qwen2"}
"""regular expression -> the name by which llama.cpp knows what it does"""

# llama.cpp sets enable_thinking where nobody asked for thinking. In our template that opens the thinking, which few
# models have learned; put in front of the template, this leaves it to open_thinking.
QUIET = "{%- set enable_thinking = false %}"
OPENED_BY_IT = "enable_thinking is true"

# llama.cpp's numbers for kinds of tokens. A control token is read in text only where the caller asks for it, a
# user-defined one always, and it is shown to a reader.
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5


@dataclass
class GGUFVocabulary:
    """What a GGUF file says of a tokenizer."""

    pre: str
    """name of the pre-tokenizer"""
    tokens: list[str]
    """one for each row of the embedding"""
    types: list[int]
    """their kinds"""
    merges: list[str] = field(default_factory=list)
    """pairs with a space between them, the first learned first"""
    chat_template: str | None = None
    notes: list[str] = field(default_factory=list)


def vocabulary(tokenizer: Tokenizer, size: int) -> GGUFVocabulary:
    """The vocabulary of a model with `size` ids; UserError where llama.cpp would find other tokens in a text."""
    content = json.loads(tokenizer.backend.to_str())
    words = GGUFVocabulary(_pre_tokenizer(content["pre_tokenizer"]), *_tokens(tokenizer, content, size))
    words.chat_template = tokenizer.chat_template and without_generation_blocks(tokenizer.chat_template)
    if OPENED_BY_IT in (words.chat_template or ""):
        words.chat_template = f"{QUIET}{words.chat_template}"
    model = content["model"]
    unknown = [
        name for name, value in model.items() if value and name not in ("type", "vocab", "merges", "unk_token")
    ]
    if model["type"] != "BPE" or unknown:
        raise _refused("model", ", ".join([model["type"], *unknown]))
    words.merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    match content["normalizer"]:
        case None:
            pass
        case {"type": "NFC"}:
            words.notes.append(
                "llama.cpp does not compose accents (NFC) as this tokenizer does; give it composed text"
            )
        case other:
            raise _refused("normalizer", other["type"])
    return words


def _pre_tokenizer(content: dict[str, Any] | None) -> str:
    """llama.cpp's name for the pre-tokenizer of a tokenizer.json."""
    match content:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}:
            return "gpt-2"
        case {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            ],
        } if regex in NAMES:
            return NAMES[regex]
    raise _refused("pre_tokenizer", json.dumps(content, ensure_ascii=False))


def _tokens(tokenizer: Tokenizer, content: dict[str, Any], size: int) -> tuple[list[str], list[int]]:
    """The strings of ids 0 to size - 1 and their kinds; an id without a token gets a name of its own."""
    by_id = {index: token for token, index in tokenizer.backend.get_vocab(with_added_tokens=True).items()}
    if max(by_id) >= size:
        raise UserError(
            f"the tokenizer has ids up to {max(by_id)} and the model only {size}; it is another model's tokenizer"
        )
    types = [NORMAL if index in by_id else UNUSED for index in range(size)]
    for token in content["added_tokens"]:
        if token["lstrip"] or token["rstrip"] or token["single_word"]:
            raise _refused("added token", f"{token['content']} (lstrip, rstrip or single_word)")
        types[token["id"]] = CONTROL if token["special"] else USER_DEFINED
    return [by_id.get(index, f"[PAD{index}]") for index in range(size)], types


def _refused(part: str, what: str) -> UserError:
    known = "byte-level BPE as `minimind tokenizer train` makes it, as in GPT-2 or as in Qwen2"
    return UserError(
        f"GGUF: the tokenizer's {part} is not supported: {what}; llama.cpp finds the same tokens with {known}"
    )


def restore(fields: Mapping[str, Any], where: str) -> Tokenizer:
    """The tokenizer that a file's fields describe, with the same ids; `where` the file is, for messages."""
    model, pre = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre")
    if model != "gpt2" or pre not in ("qwen2", "gpt-2"):
        raise UserError(
            f"{where}: its tokenizer is {model!r} with pre-tokenizer {pre!r}, which is not supported; supported is "
            "byte-level BPE ('gpt2') with 'qwen2' or 'gpt-2'"
        )
    ids = {name: fields.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos", "padding")}
    try:
        tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
        pairs = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
        used = {token: index for index, token in enumerate(tokens) if types[index] != UNUSED}
        backend = tokenizers.Tokenizer(models.BPE(used, pairs))
        eos = tokens[ids["eos"]]
        bos, pad = (eos if ids[name] is None else tokens[ids[name]] for name in ("bos", "padding"))
    except Exception as error:  # the library raises bare Exception for merges that the vocabulary has not
        raise UserError(f"{where}: its tokenizer is not complete or damaged ({error!r})") from None
    backend.pre_tokenizer = _pre_tokenizer_named(pre)
    backend.decoder = decoders.ByteLevel()
    added = [
        AddedToken(token, special=kind == CONTROL, normalized=False)
        for token, kind in zip(tokens, types)
        if kind in (CONTROL, USER_DEFINED)
    ]
    backend.add_special_tokens([token for token in added if token.special])
    backend.add_tokens([token for token in added if not token.special])
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": bos,
        "eos_token": eos,
        "pad_token": pad,
        "add_bos_token": bool(fields.get("tokenizer.ggml.add_bos_token", False)),
        "add_eos_token": bool(fields.get("tokenizer.ggml.add_eos_token", False)),
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
    }
    template = fields.get("tokenizer.chat_template")
    template = template and template.removeprefix(QUIET)
    if template == without_generation_blocks(default_template()):
        template = default_template()
    try:
        tokenizer = Tokenizer(backend, config, template)
        ends = [fields.get(f"tokenizer.ggml.{name}_token_id") for name in ("eot", "eom")]
        tokenizer.stop_also_at(index for index in ends if index is not None)
        return tokenizer
    except jinja2.TemplateError as error:
        raise UserError(f"{where}: the chat template has an error: {error}") from None


def _pre_tokenizer_named(name: str) -> pre_tokenizers.PreTokenizer:
    if name == "gpt-2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    split = pre_tokenizers.Split(Regex(WORDS), behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
