"""Long texts are encoded in windows, and nobody can tell."""

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers

from minimind.tokenizer import Tokenizer, windows
from minimind.tokenizer.encode import encode_texts
from minimind.tokenizer.train import WORDS
from minimind.tokenizer.windows import Encoder

# White space and signs in runs, contractions, characters of one to four bytes and of several code points.
PIECES = [
    "the",
    "cat",
    " ",
    "  ",
    "\n",
    "\n  \n",
    "\t",
    "it's",
    "we'LL",
    "世界",
    "你好，",
    "2026",
    "3.14",
    "ABCdef",
]
PIECES += ["e\u0301", "!!!", "\r\n", "\u3000", "🙂", "👨‍👩‍👧", "ß", "_x_", "'", "r", "      ", "<|im_end|>"]
texts = st.lists(st.sampled_from(PIECES), min_size=1, max_size=200).map("".join)

BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
CAPITALS = (
    r"[^\r\n\p{L}\p{N}]?\p{Lu}*\p{Ll}+(?i:'s|'ll)?|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+"
)
PRE_TOKENIZERS = {
    "ours": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(WORDS), "isolated"), BYTES]),
    "capitals": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(CAPITALS), "isolated"), BYTES]),
    "GPT-2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "with a space before": pre_tokenizers.ByteLevel(add_prefix_space=True),
    "SentencePiece": pre_tokenizers.Metaspace(prepend_scheme="first"),
    "always": pre_tokenizers.Metaspace(),
    "without spaces": pre_tokenizers.BertPreTokenizer(),
}


def encoder(
    pre_tokenizer: pre_tokenizers.PreTokenizer | None, normalizer: normalizers.Normalizer | None
) -> Encoder:
    backend = tokenizers.Tokenizer(models.BPE(unk_token="?"))
    if pre_tokenizer is not None:
        backend.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        backend.normalizer = normalizer
    alphabet = [*pre_tokenizers.ByteLevel.alphabet(), *"".join(PIECES)]
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=["?"], initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator([" ".join(PIECES), "".join(PIECES)] * 3, trainer)
    return Encoder(backend)


ENCODERS = {
    (name, bool(normalizer)): encoder(pre_tokenizer, normalizer)
    for name, pre_tokenizer in PRE_TOKENIZERS.items()
    for normalizer in (None, normalizers.Sequence([normalizers.NFKC(), normalizers.Strip()]))
}


@given(st.sampled_from(sorted(ENCODERS)), texts)
@settings(max_examples=300, deadline=None)
def test_windows_have_the_tokens_of_the_whole_text(name: tuple[str, bool], text: str):
    whole = ENCODERS[name].first.encode(text, add_special_tokens=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "WINDOW", 50)
        parts = list(ENCODERS[name].windows(text))
    if not any(part.cut for part in parts):
        assert [index for part in parts for index in part.ids] == whole.ids
        assert [span for part in parts for span in part.offsets] == whole.offsets


@given(st.sampled_from(["a", "啊", "🙂", "-", " ", "\n", "0", "ab", "e\u0301"]), st.integers(1, 300))
@settings(max_examples=100, deadline=None)
def test_a_word_without_borders_is_cut_and_kept(tokenizer: Tokenizer, piece: str, count: int):
    text = piece * count
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "WINDOW", 64)
        parts = list(tokenizer.windows(text))
    assert tokenizer.decode([index for part in parts for index in part.ids]) == text
    assert max(len(part.ids) for part in parts) <= 64 * 4
    if piece not in ("0", "e\u0301"):  # of which each is a word or two
        assert sum(part.cut for part in parts) == (len(text) - 1) // 64


def test_text_that_goes_on_has_no_space_put_before_it():
    prefixing = encoder(None, normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "WINDOW", 50)
        parts = list(prefixing.windows("cat" * 100))
    vocabulary = {index: token for token, index in prefixing.first.get_vocab().items()}
    tokens = "".join(vocabulary[index] for part in parts for index in part.ids)
    assert tokens.replace("▁", "?") == "?" + "cat" * 100


def test_documents_count_their_cut_words(tokenizer: Tokenizer):
    short, long, word = "the cat " * 10, "the cat " * 40_000, "x" * 300_000
    encoded = encode_texts([short, long, word], tokenizer)
    assert [document.cut_words for document in encoded] == [0, 0, 2]
    for document, text in zip(encoded, (short, long, word)):
        assert document.ids[1:-1].tolist() == tokenizer.encode(text)
        assert tokenizer.decode(document.ids[1:-1].tolist()) == text
        assert document.bytes == len(text)


def test_an_answer_of_any_length_is_trained_on_whole(tokenizer: Tokenizer):
    ids, mask = tokenizer.encode_chat(
        [{"role": "user", "content": "q"}, {"role": "assistant", "content": "x" * 300_000}]
    )
    trained = [index for index, flag in zip(ids, mask) if flag]
    assert tokenizer.decode(trained, skip_special=False) == "x" * 300_000 + "<|im_end|>"
