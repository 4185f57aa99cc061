"""The same tokens and the same chats in llama.cpp as here.

A trained tokenizer rarely shows where a text is cut into words: most borders are borders of tokens anyway. So
beside one there is a vocabulary here in which any two characters that stand side by side are one token, unless a
border of words runs between them.
"""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from benchmarks.llama_cpp import LlamaCpp
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.interop.test_ollama import CASES
from tests.random_models import random_model
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from minimind.errors import UserError
from minimind.interop.gguf import export_gguf
from minimind.interop.gguf_file import read
from minimind.interop.gguf_read import read_gguf
from minimind.interop.gguf_tokenizer import QWEN2, vocabulary
from minimind.model import save_model
from minimind.tokenizer import Tokenizer
from minimind.tokenizer.reserved import MARKERS, RESERVED, SPECIAL
from minimind.tokenizer.template import default_template
from minimind.tokenizer.train import WORDS

TEXTS = {
    "Chinese": "今天的天气很好，我们一起去公园散步吧。《红楼梦》第１２回：“好了”——他说……",
    "English": "It's the dog's; THEY'LL say I'd've won. Don't! o'clock 'tis 'S 'Ll re-read, naïve café",
    "digits": "2026 3.14159 1,000,000 0x1F 12:30 ２０２６ ٣٤ ½ x² Ⅷ 一二三 １st 2nd",
    "code": "def f(x):\n    return [i**2 for i in x]  # ok\n\n\tif (a && b) { c += '\\n'; }\r\n</html>",
    "emoji": "🙂👍🏽 👩‍👩‍👧 ❤️ 🇨🇳x🫠1 ©®™ ☺︎",
    "white space": " a  b   c\n d \n\n e\t\tf \u3000g\u00a0h\u2003i\u2028j\x0bk\x85l \r\n\r m\n  ",
    "mixed": "用 Python3.11 训练了2个epoch，loss=1.23！ＡＢＣ и ещё мир हिन्दी ไทย العربية 한국어 e\u0301 ﬁ ſ ß İ",
    "signs": "!!!  ??\n--- *** <<>> `x` \\ ~^|  .\n.\r\n。 。\n ",
    "control characters": "\x00\x01\x1b[0m\x7f\u200b\ufeff\ufffd\u200d",
    "nothing": "",
}
MARKED = "<|im_start|>user\n<think>a</think> <tool_call>{}</tool_call><|im_end|>\n<|endoftext|><|buffer1|>< think >"

# A letter of Unicode 3.2 is one everywhere; those that Unicode 16 brought are none to llama.cpp yet.
CATEGORY = unicodedata.ucd_3_2_0.category
KNOWN = [chr(code) for code in range(0x30000) if CATEGORY(chr(code)) not in ("Cn", "Cs", "Co")]
PIECES = [*" \n\t\u3000'aZ7中，é🙂<", "  ", "\r\n", "'s", "'LL", "._"]
unicode_text = st.lists(st.sampled_from(PIECES) | st.sampled_from(KNOWN), max_size=40).map("".join)


def byte_characters() -> list[str]:
    """The character that stands for each byte, as in GPT-2: itself if it can be seen, else one from 256 on."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    unseen = [byte for byte in range(256) if byte not in seen]
    return [chr(byte) if byte in seen else chr(256 + unseen.index(byte)) for byte in range(256)]


def pairing(pre_tokenizer: pre_tokenizers.PreTokenizer) -> Tokenizer:
    """A tokenizer in which the last byte of a character and the first of the next are one token."""
    characters = byte_characters()
    ascii_bytes = sorted(set("".join(PIECES).encode()) & set(range(128)))
    lasts, firsts = [*ascii_bytes, *range(0x80, 0xC0)], [*ascii_bytes, *range(0xC2, 0xF5)]
    merges = [(characters[last], characters[first]) for last in lasts for first in firsts]
    tokens = [*RESERVED, *characters, *map("".join, merges)]
    backend = tokenizers.Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, merges))
    backend.pre_tokenizer = pre_tokenizer
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in MARKERS])
    return Tokenizer(backend, {}, default_template())


def split(regex: str) -> pre_tokenizers.PreTokenizer:
    words = pre_tokenizers.Split(Regex(regex), behavior="isolated")
    return pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


Pair = tuple[Tokenizer, LlamaCpp, Path]


@pytest.fixture(scope="module", params=["trained", "pairs", "pairs as in Qwen2", "pairs as in GPT-2"])
def both(
    request: pytest.FixtureRequest, tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Pair:
    """A tokenizer, llama.cpp with it, and the file."""
    tokenizer = {
        "trained": lambda: Tokenizer.load(tokenizer_directory),
        "pairs": lambda: pairing(split(WORDS)),
        "pairs as in Qwen2": lambda: pairing(split(QWEN2)),
        "pairs as in GPT-2": lambda: pairing(pre_tokenizers.ByteLevel(add_prefix_space=False)),
    }[request.param]()
    folder = tmp_path_factory.mktemp("gguf")
    model = random_model(vocab_size=tokenizer.vocab_size + 2, num_hidden_layers=1)
    save_model(model, folder / "model", tokenizer)
    export_gguf(folder / "model", folder / "model.gguf")
    return tokenizer, LlamaCpp(folder / "model.gguf"), folder / "model.gguf"


def test_same_tokens(both: Pair) -> None:
    tokenizer, llama, _ = both
    for name, text in TEXTS.items():
        assert llama.tokenize(text) == tokenizer.encode(text), name
        assert llama.post("/detokenize", tokens=tokenizer.encode(text))["content"] == text


def test_control_strings_in_text(both: Pair) -> None:
    """Where asked for they are their tokens; else the turn borders are text, and only the markers are tokens."""
    tokenizer, llama, _ = both
    assert llama.tokenize(MARKED) == tokenizer.backend.encode(MARKED, add_special_tokens=False).ids
    borders = "a<|im_start|>b<|im_end|>\n<|endoftext|> <|vision_pad|>"
    assert llama.tokenize(borders, special=False) == tokenizer.encode(borders)
    assert llama.tokenize("<think>", special=False) == [tokenizer.reserved["<think>"]]


def test_same_tokens_in_any_text(both: Pair) -> None:
    tokenizer, llama, _ = both

    @settings(max_examples=150, deadline=None, database=None, derandomize=True)
    @given(unicode_text)
    @example("'sS'Re 'll'LL'd1'")
    def check(text: str) -> None:
        assert llama.tokenize(text, special=False) == tokenizer.encode(text)

    check()


def test_the_file_says_which_tokens_begin_and_end(both: Pair) -> None:
    tokenizer, llama, path = both
    fields, _ = read(path)
    named = {name: fields[f"tokenizer.ggml.{name}_token_id"] for name in ("bos", "eos", "padding")}
    assert named == {"bos": 1, "eos": 2, "padding": 0}
    assert fields["tokenizer.ggml.add_bos_token"] is fields["tokenizer.ggml.add_eos_token"] is False
    assert llama.tokenize("a") == tokenizer.encode("a")  # nothing is put around a text
    types = dict(zip(fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]))
    assert [types[token] for token in ("<|im_end|>", "<think>", "a")] == [3, 4, 1]
    assert fields["tokenizer.ggml.tokens"][-1] == f"[PAD{tokenizer.vocab_size + 1}]"
    assert fields["tokenizer.ggml.token_type"][-2:] == [5, 5]


def test_the_tokenizer_comes_back(both: Pair) -> None:
    tokenizer, _, path = both
    _, back = read_gguf(path)
    assert back.reserved == tokenizer.reserved
    assert back.chat_template == tokenizer.chat_template
    for text in [*TEXTS.values(), MARKED]:
        assert back.encode(text) == tokenizer.encode(text)
    assert back.backend.encode(MARKED).ids == tokenizer.backend.encode(MARKED).ids
    if "(?i:" not in tokenizer.backend.to_str():  # llama.cpp's way of writing it comes back
        assert back.fingerprint == tokenizer.fingerprint


def for_llama_cpp(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages as OpenAI's interface has them: the arguments of a call are JSON text."""
    changed = []
    for message in messages:
        calls = [
            {"type": "function", "function": {**call, "arguments": json.dumps(call["arguments"])}}
            for call in message.get("tool_calls", [])
        ]
        changed.append({**message, **({"tool_calls": calls} if calls else {})})
    return changed


@pytest.fixture(scope="module")
def talking(tokenizer_directory: Path, talker: Path, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    path = tmp_path_factory.mktemp("gguf") / "talker.gguf"
    export_gguf(talker, path)
    return Tokenizer.load(tokenizer_directory), LlamaCpp(path), path


@pytest.mark.parametrize("name", CASES)
def test_the_chat_template_renders_the_same(talking: Pair, name: str) -> None:
    tokenizer, llama, _ = talking
    messages, tools, think = CASES[name]
    options: dict[str, Any] = {"tools": tools} if tools else {}
    if think:
        options["chat_template_kwargs"] = {"open_thinking": True}
    rendered = llama.render(for_llama_cpp(messages), **options)
    assert rendered == tokenizer.render(messages, tools, add_generation_prompt=True, open_thinking=think is True)


def test_llama_cpp_takes_over_how_the_model_is_sampled(talking: Pair) -> None:
    _, llama, _ = talking
    proposed = llama.get("/props")["default_generation_settings"]["params"]
    found = {name: proposed[name] for name in ("temperature", "top_k", "top_p", "min_p", "repeat_penalty")}
    ours = {"temperature": 0.7, "top_k": 0, "top_p": 0.95, "min_p": 0.0, "repeat_penalty": 1.0}
    assert found == pytest.approx(ours)


def changed(tokenizer: Tokenizer, **parts: Any) -> Tokenizer:
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
    for name, part in parts.items():
        setattr(backend, name, part)
    return Tokenizer(backend, {}, None)


def test_tokenizers_that_llama_cpp_has_not(tokenizer_directory: Path) -> None:
    tokenizer = Tokenizer.load(tokenizer_directory)
    size = tokenizer.vocab_size
    with pytest.raises(UserError, match=r"pre_tokenizer is not supported: .*Whitespace.*llama.cpp finds the same"):
        vocabulary(changed(tokenizer, pre_tokenizer=pre_tokenizers.Whitespace()), size)
    with pytest.raises(UserError, match=r"pre_tokenizer is not supported: .*N\}\{1,3\}"):
        vocabulary(changed(tokenizer, pre_tokenizer=split(WORDS.replace(r"\p{N}|", r"\p{N}{1,3}|"))), size)
    with pytest.raises(UserError, match="normalizer is not supported: Lowercase"):
        vocabulary(changed(tokenizer, normalizer=normalizers.Lowercase()), size)
    with pytest.raises(UserError, match="the tokenizer has ids up to"):
        vocabulary(tokenizer, size - 1)
    stripping = changed(tokenizer)
    stripping.backend.add_special_tokens([AddedToken("<x>", lstrip=True)])
    with pytest.raises(UserError, match=r"added token is not supported: <x> \(lstrip"):
        vocabulary(stripping, size + 1)
    words = changed(tokenizer)
    words.backend.model = models.WordLevel({token: index for index, token in enumerate(RESERVED)}, "<think>")
    with pytest.raises(UserError, match="model is not supported: WordLevel"):
        vocabulary(words, size)
    composed = vocabulary(changed(tokenizer, normalizer=normalizers.NFC()), size)
    (note,) = composed.notes
    assert note == "llama.cpp does not compose accents (NFC) as this tokenizer does; give it composed text"
