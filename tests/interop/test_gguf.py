"""GGUF files against llama.cpp itself: log-probabilities over the whole vocabulary and greedy text of every kind of
model that we have; and read back here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.llama_cpp import LlamaCpp
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from tests.random_models import random_ids, random_model

from minimind.infer.engine import Engine
from minimind.infer.sampler import SamplingParams
from minimind.interop.gguf import export_gguf
from minimind.interop.gguf_read import read_gguf
from minimind.model import Transformer, save_model
from minimind.model.config import RopeScaling
from minimind.tokenizer import Tokenizer

# Rows of 32 and 64 fill the quantized types' blocks.
SHAPE = {"intermediate_size": 64, "head_dim": 16}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
VARIANTS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "llama-untied": {"model_type": "llama", "tie_word_embeddings": False, "head_dim": 8, "num_key_value_heads": 4},
    "qwen3": {"original_max_position_embeddings": 100},
    "qwen3-untied": {"tie_word_embeddings": False, "num_key_value_heads": 1, "rope_theta": 1e4},
    "qwen3_moe": {"model_type": "qwen3_moe", **EXPERTS},
    "qwen3_moe-raw": {"model_type": "qwen3_moe", **EXPERTS, "norm_topk_prob": False},
    "qwen3_moe-top-1": {"model_type": "qwen3_moe", **EXPERTS, "num_experts_per_tok": 1},
    "qwen3_moe-raw-top-1": {
        "model_type": "qwen3_moe",
        **EXPERTS,
        "num_experts_per_tok": 1,
        "norm_topk_prob": False,
    },
    "qwen3_moe-every-expert": {
        "model_type": "qwen3_moe",
        **EXPERTS,
        "num_experts_per_tok": 4,
        "norm_topk_prob": False,
        "tie_word_embeddings": False,
    },
    "qwen2_moe": {"model_type": "qwen2_moe", **EXPERTS},
    "qwen2_moe-three-shared-raw": {
        "model_type": "qwen2_moe",
        **EXPERTS,
        "n_shared_experts": 3,
        "norm_topk_prob": False,
        "tie_word_embeddings": False,
    },
    "glm4_moe": {"model_type": "glm4_moe", **EXPERTS, "n_shared_experts": 1, "routed_scaling_factor": 1.7},
    "glm4_moe-two-shared-raw": {
        "model_type": "glm4_moe",
        **EXPERTS,
        "n_shared_experts": 2,
        "norm_topk_prob": False,
        "tie_word_embeddings": False,
    },
    "glm4_moe-no-shared": {"model_type": "glm4_moe", **EXPERTS},
    "linear": {"rope_scaling": RopeScaling("linear", 4.0), "rope_theta": 1e4},
    "yarn": {"rope_scaling": RopeScaling("yarn", 8.0, 32), "rope_theta": 1e4},
    "yarn-given": {
        "model_type": "llama",
        "rope_scaling": RopeScaling("yarn", 4.0, 64, attention_factor=1.0),
        "rope_theta": 1e4,
    },
    # Wide and long enough for channels that are not stretched at all.
    "yarn-fast-channels": {
        "model_type": "qwen2_moe",
        **EXPERTS,
        "head_dim": 32,
        "rope_scaling": RopeScaling("yarn", 2.0, 512, attention_factor=1.3),
        "max_position_embeddings": 1024,
        "rope_theta": 1e4,
    },
}
variants = pytest.mark.parametrize("name", VARIANTS)
# Bits that each type keeps of a matrix's largest numbers.
BITS = {"f16": 11, "bf16": 8, "q8_0": 7, "q5_1": 5, "q5_0": 5, "q4_1": 4, "q4_0": 4}
GREEDY = SamplingParams(temperature=0, max_tokens=24)


@pytest.fixture(scope="module")
def tokenizer(tokenizer_directory: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_directory)


def make(tokenizer: Tokenizer, **fields: Any) -> Transformer:
    """A random model with a few more ids than tokens, whose router's bias, where it has one, changes choices."""
    model = random_model(**{"vocab_size": tokenizer.vocab_size + 3, **SHAPE, **fields})
    for name, buffer in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            buffer.copy_(torch.tensor([0.3, -0.2, 0.1, 0.0]))
    return model


def export(model: Transformer, tokenizer: Tokenizer, folder: Path, kind: str) -> Path:
    save_model(model, folder / "model", tokenizer)
    export_gguf(folder / "model", folder / f"{kind}.gguf", kind)
    return folder / f"{kind}.gguf"


def prompts(model: Transformer) -> list[list[int]]:
    """The longest is beyond what a stretched model was trained at."""
    size, trained = model.config.vocab_size, model.config.original_max_position_embeddings or 60
    return [random_ids(length, seed=length, vocab_size=size).tolist() for length in (3, 17, trained * 3 // 2)]


@torch.inference_mode()
def error(model: Transformer, llama: LlamaCpp) -> float:
    """The largest difference of a log-probability, by the largest of them."""
    differences = []
    for ids in prompts(model):
        ours = model.logits(model(torch.tensor([ids])))[0, -1].log_softmax(-1)
        theirs = llama.log_probabilities(ids, len(ours))
        differences.append((ours - theirs).abs().max() / ours.abs().max())
    return float(max(differences))


@torch.inference_mode()
def assert_same_text(model: Transformer, llama: LlamaCpp, rounding: float = 0.0) -> None:
    """Token by token, up to a place where two tokens are as likely as each other within the rounding."""
    same = 0
    for prompt, ours in zip(prompts(model), Engine(model).generate(prompts(model), GREEDY)):
        theirs = [token for token in llama.greedy(prompt, GREEDY.max_tokens) if token not in GREEDY.stop_ids]
        if theirs != ours.ids and rounding:
            start = next(place for place, pair in enumerate(zip(theirs, ours.ids)) if pair[0] != pair[1])
            logits = model.logits(model(torch.tensor([prompt + theirs[:start]])))[0, -1]
            assert logits[ours.ids[start]] - logits[theirs[start]] < rounding * logits.log_softmax(-1).abs().max()
        else:
            assert theirs == ours.ids
            same += 1
    assert same >= 2


def assert_equal_weights(model: Transformer, wanted: Transformer) -> None:
    for (name, tensor), (_, other) in zip(model.state_dict().items(), wanted.state_dict().items(), strict=True):
        assert torch.equal(tensor, other), name


@variants
def test_f32_is_the_same_model(tmp_path: Path, tokenizer: Tokenizer, name: str) -> None:
    model = make(tokenizer, **VARIANTS[name])
    path = export(model, tokenizer, tmp_path, "f32")
    llama = LlamaCpp(path, model.config.max_position_embeddings)
    assert error(model, llama) < 1e-5
    assert_same_text(model, llama)

    back, _ = read_gguf(path)
    assert back.config == model.config
    assert_equal_weights(back, model)


@variants
def test_f16_says_the_same(tmp_path: Path, tokenizer: Tokenizer, name: str) -> None:
    model = make(tokenizer, **VARIANTS[name], std=0.1)
    llama = LlamaCpp(export(model, tokenizer, tmp_path, "f16"), model.config.max_position_embeddings)
    assert error(model, llama) < 2**-10
    assert_same_text(model, llama, rounding=2**-10)


@pytest.mark.parametrize("name", ["llama", "qwen3", "qwen3_moe-raw", "glm4_moe"])
@pytest.mark.parametrize("kind", [kind for kind in BITS if kind != "f16"])
def test_types_keep_their_bits(tmp_path: Path, tokenizer: Tokenizer, kind: str, name: str) -> None:
    model = make(tokenizer, **VARIANTS[name], std=0.1)
    path = export(model, tokenizer, tmp_path, kind)
    llama, (back, _) = LlamaCpp(path), read_gguf(path)
    # The numbers read back are the file's; llama.cpp also rounds what it multiplies them with, to 8 bits.
    assert error(back, llama) < 2**-7
    if not model.config.family.experts:  # of which a rounded hidden state may choose others
        assert error(model, llama) < 2 ** (1 - BITS[kind])


@pytest.mark.parametrize("kind", BITS)
def test_numbers_are_those_that_the_gguf_package_makes(tmp_path: Path, tokenizer: Tokenizer, kind: str) -> None:
    """The types of vectors, embeddings and rows of queries (which are moved) as well."""
    model = make(tokenizer, model_type="qwen2_moe", **EXPERTS)
    back, _ = read_gguf(export(model, tokenizer, tmp_path, kind))
    for (name, tensor), (_, original) in zip(back.state_dict().items(), model.state_dict().items(), strict=True):
        stored = GGMLQuantizationType[kind.upper()]
        if original.dim() == 1 or name.endswith("mlp.gate.weight"):
            stored = GGMLQuantizationType.F32
        elif "embed_tokens" in name and BITS[kind] < 7:
            stored = GGMLQuantizationType.Q8_0
        wanted = torch.from_numpy(dequantize(quantize(original.numpy(), stored), stored))
        assert torch.equal(tensor, wanted), name


def test_rows_that_fill_no_block_are_f16(tmp_path: Path, tokenizer: Tokenizer) -> None:
    model = make(tokenizer, intermediate_size=48, std=0.1)
    save_model(model, tmp_path / "model", tokenizer)
    done = export_gguf(tmp_path / "model", tmp_path / "model.gguf", "q4_0")
    assert done.notes == ["2 matrices are f16, because their rows are no multiple of 32: blk.0.ffn_down.weight …"]
    llama, (back, _) = LlamaCpp(tmp_path / "model.gguf"), read_gguf(tmp_path / "model.gguf")
    down = model.model.layers[0].mlp.down_proj.weight
    assert torch.equal(back.model.layers[0].mlp.down_proj.weight, down.half().float())
    assert error(back, llama) < 2**-7


def test_betas_that_change_nothing_are_no_reason_to_refuse(tmp_path: Path, tokenizer: Tokenizer) -> None:
    model = make(tokenizer, rope_scaling=RopeScaling("yarn", 4.0, 64, beta_fast=16.0), rope_theta=1e4)
    assert error(model, LlamaCpp(export(model, tokenizer, tmp_path, "f32"))) < 1e-5
