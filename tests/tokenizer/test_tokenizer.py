import json
import pickle
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minimind.errors import UserError
from minimind.tokenizer import Tokenizer
from minimind.tokenizer.reserved import RESERVED

CHAT = [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "hello", "reasoning_content": "hm"}]

# Any Unicode text, with control strings and pieces of them more often than chance would have it.
any_text = st.lists(st.one_of(st.text(), st.sampled_from([*RESERVED, "<|im_", "end|>", "<", "\n", " "]))).map(
    "".join
)


@given(any_text)
@settings(max_examples=300, deadline=None)
def test_decode_undoes_encode_and_no_text_gives_reserved_ids(tokenizer: Tokenizer, text: str):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids, skip_special=False) == text
    assert all(len(RESERVED) <= index < tokenizer.vocab_size for index in ids)


@given(st.lists(any_text, max_size=5))
@settings(max_examples=50, deadline=None)
def test_a_batch_is_its_texts_one_by_one(tokenizer: Tokenizer, batch: list[str]):
    assert tokenizer.encode_batch(batch) == [tokenizer.encode(text) for text in batch]
    for text in batch:
        tokens = tokenizer.encode_with_offsets(text)
        assert [index for index, _ in tokens] == tokenizer.encode(text)
        assert all(0 <= start < end <= len(text) for _, (start, end) in tokens)


def test_half_a_surrogate_pair_becomes_the_replacement_character(tokenizer: Tokenizer):
    assert tokenizer.decode(tokenizer.encode("a\ud83db")) == "a\ufffdb"
    ids, _ = tokenizer.encode_chat(
        [{"role": "user", "content": "\ud83d"}, {"role": "assistant", "content": "x\udc00"}]
    )
    assert tokenizer.decode(ids).count("\ufffd") == 2


def test_decode_leaves_out_special_tokens_but_not_markers(tokenizer: Tokenizer):
    ids = [1, *tokenizer.encode("hi"), 25, 26, 21, 22, 2, 0]
    assert tokenizer.decode(ids) == "hi<think></think><tool_call></tool_call>"
    assert tokenizer.decode(ids, skip_special=False).startswith("<|im_start|>hi<think>")
    assert tokenizer.decode([]) == ""


def test_save_and_load(tokenizer: Tokenizer, tmp_path: Path):
    tokenizer.save(tmp_path)
    loaded = Tokenizer.load(str(tmp_path))
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.vocab_size == tokenizer.vocab_size == 380
    assert loaded.reserved == tokenizer.reserved
    assert loaded.encode_chat(CHAT) == tokenizer.encode_chat(CHAT)
    loaded.save(tmp_path / "again")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_the_fingerprint_knows_vocabulary_and_template(tokenizer: Tokenizer, texts):
    from minimind.tokenizer.train import train

    assert len(tokenizer.fingerprint) == 64
    assert train(texts, 379).fingerprint != tokenizer.fingerprint
    other_template = Tokenizer(tokenizer.backend, tokenizer.config, tokenizer.chat_template + "{# #}")
    assert other_template.fingerprint != tokenizer.fingerprint


def test_pickle(tokenizer: Tokenizer):
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.fingerprint == tokenizer.fingerprint
    assert copy.encode_chat(CHAT) == tokenizer.encode_chat(CHAT)


@pytest.fixture
def directory(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    tokenizer.save(tmp_path)
    return tmp_path


def change_config(directory: Path, **changes) -> None:
    path = directory / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | changes
    config = {key: value for key, value in config.items() if value is not None}
    path.write_text(json.dumps(config), encoding="utf-8")


def test_published_layout_template_in_its_own_file(directory: Path, tokenizer: Tokenizer):
    change_config(directory, chat_template=None)
    (directory / "chat_template.jinja").write_text(tokenizer.chat_template, encoding="utf-8")
    assert Tokenizer.load(directory).encode_chat(CHAT) == tokenizer.encode_chat(CHAT)


def test_published_layout_tokens_as_objects_and_a_byte_level_splitter(directory: Path, tokenizer: Tokenizer):
    change_config(directory, eos_token={"content": "<|im_end|>", "special": True, "__type": "AddedToken"})
    path = directory / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["pre_tokenizer"] = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    content["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    path.write_text(json.dumps(content), encoding="utf-8")
    loaded = Tokenizer.load(directory)
    assert loaded.eos_id == 2
    assert loaded.decode(loaded.encode("今天天气很好 <think> 2026")) == "今天天气很好 <think> 2026"
    ids, mask = loaded.encode_chat(CHAT)
    trained = [index for index, flag in zip(ids, mask) if flag]
    assert loaded.decode(trained, skip_special=False) == "<think>\nhm\n</think>\n\nhello<|im_end|>"


def test_saving_replaces_another_template_file(directory: Path, tokenizer: Tokenizer):
    (directory / "chat_template.jinja").write_text("other", encoding="utf-8")
    tokenizer.save(directory)
    assert Tokenizer.load(directory).chat_template == tokenizer.chat_template


def test_without_a_template_there_is_text_but_no_chat(directory: Path):
    change_config(directory, chat_template=None)
    loaded = Tokenizer.load(directory)
    assert loaded.decode(loaded.encode("hello")) == "hello"
    with pytest.raises(UserError, match=r"no chat template; add chat_template\.jinja"):
        loaded.encode_chat(CHAT)
    loaded.save(directory / "again")
    assert Tokenizer.load(directory / "again").chat_template is None


def test_a_directory_that_is_not_a_tokenizer(directory: Path):
    def refused(match: str) -> None:
        with pytest.raises(UserError, match=match):
            Tokenizer.load(directory)

    change_config(directory, chat_template="{% if %}")
    refused(r"tokenizer_config\.json: the chat template has an error")
    change_config(directory, chat_template=["no"])
    refused(r"tokenizer_config\.json: chat_template is neither a text nor a list")
    change_config(directory, chat_template=None, pad_token="<none>")
    refused(r": pad_token '<none>' is not in the vocabulary")
    (directory / "tokenizer_config.json").write_text("{", encoding="utf-8")
    refused(r"tokenizer_config\.json is not valid JSON")
    (directory / "tokenizer_config.json").write_text("[]", encoding="utf-8")
    refused(r"tokenizer_config\.json is no JSON object")
    (directory / "tokenizer_config.json").unlink()
    refused(r"tokenizer_config\.json does not exist")
    (directory / "tokenizer.json").write_text("{}", encoding="utf-8")
    refused(r"tokenizer\.json is not a tokenizer file")
    shutil.rmtree(directory)
    refused(r"tokenizer\.json does not exist")


def test_a_template_cannot_leave_its_sandbox(directory: Path):
    change_config(directory, chat_template="{{ ''.__class__.__mro__ }}{{ messages.append(1) }}")
    with pytest.raises(
        ValueError,
        match=r"template in .*tokenizer_config\.json cannot render this conversation: __class__ of a str",
    ):
        Tokenizer.load(directory).render(CHAT)
