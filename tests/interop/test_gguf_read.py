"""GGUF files read as models of ours, and what is no such file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.llama_cpp import LlamaCpp
from gguf import GGML_QUANT_SIZES, GGUFWriter
from gguf import GGMLQuantizationType as Type
from tests.interop.test_gguf import error
from tests.random_models import random_ids, random_model

from minimind import Model
from minimind.cli import main
from minimind.errors import UserError
from minimind.interop.gguf import export_gguf
from minimind.interop.gguf_file import read, write
from minimind.interop.gguf_read import read_gguf
from minimind.model import save_model
from minimind.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def file(talker: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "talker.gguf"
    export_gguf(talker, path, "f32")
    return path


def test_a_file_is_a_model_like_any_other(
    file: Path, talker: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = Model.load(talker), Model.load(file)
    ids = random_ids(2, 30, vocab_size=ours.tokenizer.vocab_size)
    assert torch.equal(theirs.logits(ids), ours.logits(ids))
    question = [{"role": "user", "content": "the cat 很大"}]
    assert theirs.chat(question, seed=1, max_tokens=20) == ours.chat(question, seed=1, max_tokens=20)
    answers = []
    for model in (talker, file):
        assert main(["chat", str(model), "--prompt", "the cat", "--seed", "2", "--max-tokens", "20"]) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]
    with pytest.raises(UserError, match="leave version and config out"):
        Model.load(file, version="minimind2")


def test_the_tokenizer_is_the_same_and_can_be_saved(file: Path, talker: Path, tmp_path: Path) -> None:
    model, tokenizer = read_gguf(file)
    original = Tokenizer.load(talker / "model")
    assert tokenizer.fingerprint == original.fingerprint
    save_model(model, tmp_path / "model", tokenizer)
    saved = Tokenizer.load(tmp_path / "model")
    assert saved.fingerprint == original.fingerprint
    assert (saved.config["bos_token"], saved.config["eos_token"]) == ("<|im_start|>", "<|im_end|>")


def test_a_file_cut_off_anywhere_is_one_sentence(file: Path, tmp_path: Path) -> None:
    content = file.read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in [*range(0, 200, 9), *range(200, len(content) - 64, len(content) // 30)]:
        cut.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"cut\.gguf is no GGUF file, or is damaged .* it again$"):
            read_gguf(cut)


def test_damaged_lengths_and_types_are_one_sentence(file: Path, tmp_path: Path) -> None:
    """Bytes of the header overwritten one at a time: each file opens all the same, or is refused."""
    content = bytearray(file.read_bytes())
    damaged = tmp_path / "damaged.gguf"
    refused = 0
    for place in range(0, 1400, 29):
        changed = content.copy()
        changed[place] ^= 255
        damaged.write_bytes(changed)
        try:
            read_gguf(damaged)
        except UserError:
            refused += 1
    assert refused > 20


def test_no_file_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="does not exist; give a GGUF file"):
        Model.load(tmp_path / "none.gguf")
    (tmp_path / "text.gguf").write_text("Once upon a time there was a file of text.")
    assert main(["chat", str(tmp_path / "text.gguf")]) == 2
    assert "is no GGUF file, or is damaged (GGUF magic invalid)" in capsys.readouterr().err


Fields = dict[str, Any]
Tensors = dict[str, tuple[torch.Tensor, Type]]


def put(name: str, value: Any) -> Callable[[Fields, Tensors], None]:
    return lambda fields, tensors: fields.update({name: value})


def drop(name: str) -> Callable[[Fields, Tensors], None]:
    return lambda fields, tensors: fields.pop(name)


def drop_tensor(fields: Fields, tensors: Tensors) -> None:
    del tensors["blk.1.ffn_up.weight"]


def add_tensor(fields: Fields, tensors: Tensors) -> None:
    tensors["blk.0.attn_q.bias"] = (torch.ones(64), Type.F32)


def shorten_tensor(fields: Fields, tensors: Tensors) -> None:
    tensors["output_norm.weight"] = (torch.ones(31), Type.F32)


CHANGES: dict[str, tuple[Callable[[Fields, Tensors], None], str]] = {
    "architecture": (
        put("general.architecture", "gemma3"),
        "architecture 'gemma3' is not supported; supported are llama, qwen3, qwen3moe, bailingmoe, glm4moe",
    ),
    "sentencepiece": (
        put("tokenizer.ggml.model", "llama"),
        "tokenizer is 'llama' with pre-tokenizer 'qwen2', which is not supported",
    ),
    "pre-tokenizer": (put("tokenizer.ggml.pre", "llama-bpe"), r"supported is byte-level BPE \('gpt2'\) with"),
    "merges": (put("tokenizer.ggml.merges", ["Q Qx"]), "its tokenizer is not complete or damaged"),
    "tokens": (put("tokenizer.ggml.tokens", ["a", "b"]), "its tokenizer is not complete or damaged"),
    "end": (drop("tokenizer.ggml.eos_token_id"), "its tokenizer is not complete or damaged"),
    "template": (put("tokenizer.chat_template", "{% if %}"), "the chat template has an error"),
    "setting": (drop("qwen3.block_count"), "setting qwen3.block_count is missing; the file is damaged"),
    "list": (put("qwen3.attention.head_count", [4, 2]), "attention.head_count differs between layers"),
    "text": (put("qwen3.embedding_length", "wide"), "its settings are damaged|hidden_size must be a whole number"),
    "width": (put("qwen3.embedding_length", 33), r"shape \(\d+, 32\), its settings say \(\d+, 33\)"),
    "great width": (put("qwen3.embedding_length", 2**19), "hidden_size 524,288 make a matrix of more numbers"),
    "no width": (put("qwen3.embedding_length", 2**31), "hidden_size must be a whole number from 1 to 1,048,576"),
    "layers": (put("qwen3.block_count", 9999), "num_hidden_layers is 9,999, and the weights are 24 tensors"),
    "heads": (put("qwen3.attention.head_count", 3), "num_attention_heads 3 is not a multiple"),
    "no heads": (put("qwen3.attention.head_count", 0), "num_attention_heads must be a whole number from 1"),
    "rotary": (put("qwen3.rope.dimension_count", 8), "qwen3.rope.dimension_count = 8 is not supported"),
    "window": (put("qwen3.attention.sliding_window", 64), "attention.sliding_window = 64 is not supported"),
    "experts": (put("qwen3.expert_count", 8), "expert_count = 8 is not supported"),
    "scaling": (put("qwen3.rope.scaling.type", "longrope"), "'longrope' is not supported; supported are linear"),
    "parts": (put("split.count", 3), "one of several parts; join them"),
    "too few": (drop_tensor, "tensor blk.1.ffn_up.weight is missing"),
    "too many": (add_tensor, "tensor blk.0.attn_q.bias is not supported"),
    "shape": (shorten_tensor, r"tensor output_norm.weight has shape \(31,\), its settings say \(32,\)"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_cannot_be_read_is_named(file: Path, tmp_path: Path, name: str) -> None:
    change, message = CHANGES[name]
    fields, stored = read(file)
    fields = {name: value for name, value in fields.items() if not name.startswith("GGUF.")}
    tensors = {name: (tensor.numbers(), tensor.kind) for name, tensor in stored.items()}
    change(fields, tensors)
    kind = fields.pop("general.architecture")
    write(tmp_path / "changed.gguf", kind, fields, [(name, *tensor) for name, tensor in tensors.items()])
    with pytest.raises(UserError, match=message) as refused:
        read_gguf(tmp_path / "changed.gguf")
    assert str(refused.value).startswith(str(tmp_path / "changed.gguf"))


def test_a_type_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "odd.gguf", "qwen3")
    writer.add_tensor("token_embd.weight", np.zeros((4, 32), np.int8))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UserError, match=r"token_embd\.weight is of type I8.*readable types: F32, F16, .*Q4_K"):
        read_gguf(tmp_path / "odd.gguf")


def k_quants(kind: Type, rows: int, columns: int) -> np.ndarray:
    """Blocks of small random numbers, as llama.cpp's llama-quantize lays them out."""
    size = GGML_QUANT_SIZES[kind][1]
    blocks = np.random.default_rng(0).integers(0, 256, (rows, columns // 256, size), dtype=np.uint8)
    small = np.frombuffer(np.float16(5e-5).tobytes(), np.uint8)
    if kind == Type.Q6_K:
        blocks[..., -2:] = small
    else:
        blocks[..., :4] = np.tile(small, 2)
    return blocks.reshape(rows, -1)


def test_files_of_llama_quantize(tmp_path: Path, tokenizer_directory: Path) -> None:
    tokenizer = Tokenizer.load(tokenizer_directory)
    shape = {"vocab_size": tokenizer.vocab_size, "hidden_size": 256, "intermediate_size": 256}
    save_model(random_model(std=0.05, **shape), tmp_path / "model", tokenizer)
    export_gguf(tmp_path / "model", tmp_path / "f32.gguf", "f32")
    fields, stored = read(tmp_path / "f32.gguf")
    writer = GGUFWriter(tmp_path / "mixed.gguf", "qwen3")
    add = {bool: "add_bool", int: "add_uint32", float: "add_float32", str: "add_string", list: "add_array"}
    for name, value in fields.items():
        if not name.startswith(("GGUF.", "general.architecture")):
            getattr(writer, add[type(value)])(name, value)
    kinds = {"ffn_up": Type.Q4_K, "ffn_gate": Type.Q5_K, "ffn_down": Type.Q6_K}
    for name, tensor in stored.items():
        kind = next((kind for part, kind in kinds.items() if part in name), None)
        if kind is None:
            writer.add_tensor(name, np.array(tensor.data))
        else:
            writer.add_tensor(name, k_quants(kind, *tensor.shape), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model, _ = read_gguf(tmp_path / "mixed.gguf")
    assert error(model, LlamaCpp(tmp_path / "mixed.gguf")) < 2**-7
