"""Counts agree with the tensors that are there, in memory and on disk."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from tests.random_models import random_model

from minimind.model import ModelConfig, Transformer, save_model
from minimind.model.count import active_parameters, count_parameters
from minimind.model.kv_cache import KVCache
from minimind.plan.memory import memory

EXPERTS = {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 24}


@pytest.mark.parametrize("tied", [True, False])
def test_a_dense_model(tied: bool) -> None:
    config = ModelConfig(vocab_size=97, hidden_size=32, num_attention_heads=2, tie_word_embeddings=tied)
    counts = count_parameters(config)
    allocated = sum(parameter.numel() for parameter in Transformer(config).parameters())
    assert counts["total"] == allocated == sum(counts["parts"].values())
    assert counts["active"] == active_parameters(config) == allocated
    assert counts["parts"] == {
        "embedding": 97 * 32 * (1 if tied else 2),
        "attention": 8 * 4 * 32 * 32,
        "feed_forward": 8 * 3 * 32 * 128,
        "norms": 8 * (2 * 32 + 2 * 16) + 32,
    }


@pytest.mark.parametrize(
    "fields", [{"model_type": "qwen2_moe", "n_shared_experts": 3}, {"model_type": "qwen3_moe"}]
)
def test_a_mixture_of_experts(fields: dict[str, Any]) -> None:
    model = random_model(**EXPERTS, **fields)
    counts = count_parameters(model.config)
    assert counts["total"] == sum(parameter.numel() for parameter in model.parameters())
    parts = counts["parts"]
    assert parts["experts"] == 2 * 5 * 3 * 32 * 24
    assert parts["router"] == 2 * 5 * 32
    assert parts.get("shared_experts", 0) == 2 * 3 * 32 * 24 * fields.get("n_shared_experts", 0)
    assert counts["active"] == active_parameters(model.config) == counts["total"] - 2 * 3 * 3 * 32 * 24


def test_memory_is_that_of_the_file_and_of_the_cache(tmp_path: Path) -> None:
    model = random_model()
    save_model(model, tmp_path / "model")
    with safe_open(tmp_path / "model" / "model.safetensors", framework="pt") as file:
        size = sum(file.get_tensor(name).nbytes for name in file.keys())  # noqa: SIM118
    taken = memory(model.config)
    assert taken["weights"] == {"fp32": size, "bf16": size // 2}
    cache = KVCache.empty(model.config, rows=3, length=7, dtype=torch.bfloat16, device=torch.device("cpu"))
    assert 3 * 7 * taken["kv_cache_per_token"]["bf16"] == cache.memory.nbytes
