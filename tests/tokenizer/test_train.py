import json
import warnings

import pytest

from minimind.errors import UserError
from minimind.tokenizer import Tokenizer
from minimind.tokenizer.train import SMALLEST_VOCAB, train
from minimind.tokenizer.windows import WINDOW

# MiniMind's published table, written out once more: the ids of weights and data hang on it.
PUBLISHED = [
    *["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"],
    *["<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>"],
    *["<|vision_pad|>", "<|image_pad|>", "<|video_pad|>", "<|audio_start|>", "<|audio_end|>", "<|audio_pad|>"],
    *["<tts_pad>", "<tts_text_bos>", "<tts_text_eod>", "<tts_text_bos_single>"],
    *["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"],
    *["<|buffer1|>", "<|buffer2|>", "<|buffer3|>", "<|buffer4|>", "<|buffer5|>"],
    *["<|buffer6|>", "<|buffer7|>", "<|buffer8|>", "<|buffer9|>"],
]


def test_reserved_tokens_have_the_published_ids(tokenizer: Tokenizer):
    assert tokenizer.reserved == {token: index for index, token in enumerate(PUBLISHED)}
    assert (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id) == (0, 1, 2)
    added = tokenizer.backend.get_added_tokens_decoder()
    assert [index for index in range(36) if added[index].special] == list(range(21))


def test_every_byte_is_a_token_after_the_reserved_ones(tokenizer: Tokenizer):
    ids = {tokenizer.encode(chr(code))[0] for code in range(0x80)}
    assert ids <= set(range(36, 292))
    assert [tokenizer.encode(character) for character in '!"#A'] == [[36], [37], [38], [68]]
    assert len(tokenizer.encode("\U0001f9ff")) == 4  # never seen in training: its four bytes


def test_same_texts_give_the_same_files(texts, tokenizer: Tokenizer, tmp_path):
    tokenizer.save(tmp_path / "a")
    train(iter(texts), 380).save(tmp_path / "b")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"tokenizer.json", "tokenizer_config.json"}


def test_words_are_split_as_llama_cpp_splits_qwen2(tokenizer: Tokenizer):
    def split(text: str) -> list[str]:
        return [text[start:end] for _, (start, end) in tokenizer.backend.pre_tokenizer.pre_tokenize_str(text)]

    assert split("It's 2026,  ok") == ["It", "'s", " ", "2", "0", "2", "6", ",", " ", " ok"]
    assert split("WE'LL say：你好，世界!!\n\n  x") == ["WE", "'LL", " say", "：你好", "，世界", "!!\n\n", " ", " x"]
    assert split("a\n \n\tb  ") == ["a", "\n \n", "\tb", "  "]
    assert split("it'ſ") == ["it", "'ſ"]


def test_digits_stay_single(tokenizer: Tokenizer):
    assert len(tokenizer.encode("2026")) == 4
    assert train(["2026 " * 100], 292).encode("2026") == tokenizer.encode("2026")


def test_text_is_not_normalized(tokenizer: Tokenizer):
    composed, decomposed = "\u00e9", "e\u0301"
    assert tokenizer.backend.normalizer is None
    assert tokenizer.encode(composed) != tokenizer.encode(decomposed)
    assert tokenizer.decode(tokenizer.encode(decomposed)) == decomposed


def test_vocabulary_sizes(texts):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [train(texts, size).vocab_size for size in (SMALLEST_VOCAB, 300, 333)] == [292, 300, 333]
    with pytest.warns(UserWarning, match=r"294 tokens only, not 6400"):
        assert train(["abc"]).vocab_size == 294


def test_refused_input():
    with pytest.raises(UserError, match="at least 292"):
        train(["abc"], 291)
    for nothing in ([], ["", ""]):
        with pytest.raises(UserError, match="no text to train"):
            train(nothing)


def test_an_error_in_the_input_comes_through():
    def broken():
        yield "fine"
        raise UserError("mine.jsonl:2: not JSON")

    with pytest.raises(UserError, match=r"mine\.jsonl:2"):
        train(broken())


def test_control_strings_in_the_training_text_never_become_tokens():
    with pytest.warns(UserWarning, match="tokens only"):
        trained = train(["".join(PUBLISHED) * 20], 1000)
    for control in PUBLISHED:
        assert min(trained.encode(control)) >= 36
    merges = json.loads(trained.backend.to_str())["model"]["merges"]
    assert not {left + right for left, right in merges} & set(PUBLISHED)


def test_long_words_are_cut_and_learned_from_up_to_a_bound():
    word = "abcdefgh" * 2**18  # 2 MB
    with pytest.warns(UserWarning, match=r"cut in 16,368 places, and 1,046,528 characters of them left out"):
        tokenizer = train([word, "the cat " * 50], 309)
    assert len(tokenizer.encode("abcdefgh" * 10)) < 80
    assert tokenizer.decode(tokenizer.encode(word[:200_001])) == word[:200_001]


def test_a_long_text_is_learned_from_in_parts_without_a_change(monkeypatch):
    text = "it's a red house, and the cat sees 世界。\n\n" * 8_000
    assert len(text) > 2 * WINDOW
    in_parts = train([text], 330)
    monkeypatch.setattr("minimind.tokenizer.train.WINDOW", len(text))
    assert train([text], 330).fingerprint == in_parts.fingerprint
