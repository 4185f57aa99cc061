"""The textbook loop against the model without a cache, and the engine against the textbook loop."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from tests.random_models import SHAPE, random_model

from minimind.infer.engine import Engine
from minimind.infer.generate import generate
from minimind.infer.sampler import SamplingParams

EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
MODELS: dict[str, dict[str, Any]] = {
    "qwen3": {"tie_word_embeddings": False},
    "llama": {"tie_word_embeddings": False, "model_type": "llama"},
    "qwen3_moe": {"tie_word_embeddings": False, "model_type": "qwen3_moe", **EXPERTS},
}
PROMPTS = [[random.Random(seed).randrange(SHAPE["vocab_size"]) for _ in range(length)]
           for seed, length in enumerate((1, 9, 30, 30, 120, 250))]  # fmt: skip


@pytest.mark.parametrize("model_type", MODELS)
def test_the_cache_changes_nothing(model_type: str) -> None:
    model = random_model(**MODELS[model_type])
    params = SamplingParams(temperature=0, max_tokens=10, stop_ids=())
    for prompt in PROMPTS:
        tokens = list(generate(model, prompt, params))
        assert len(tokens) == min(10, SHAPE["max_position_embeddings"] - len(prompt))
        ids = torch.tensor([prompt + [token.id for token in tokens]])
        with torch.no_grad():
            logprobs = model.logits(model(ids))[0, len(prompt) - 1 : -1].log_softmax(-1)
        assert [token.id for token in tokens] == logprobs.argmax(-1).tolist()
        assert [token.logprob for token in tokens] == pytest.approx(logprobs.amax(-1).tolist(), abs=1e-5)


@pytest.mark.parametrize("model_type", MODELS)
@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 0},
        {"temperature": 1.0, "top_p": 1.0},
        {"temperature": 0.7, "top_p": 0.9, "top_k": 20, "min_p": 0.01},
        {"temperature": 0.9, "repetition_penalty": 1.2, "presence_penalty": 0.5, "logit_bias": ((7, 2.0),)},
    ],
    ids=["greedy", "free", "truncated", "penalized"],
)
def test_the_engine_equals_the_textbook(model_type: str, sampling: dict[str, Any]) -> None:
    """Token for token: many prompts at once, in chunks, from the prefix cache, coming and going."""
    model = random_model(**MODELS[model_type])
    params = [SamplingParams(max_tokens=16, stop_ids=(3, 4), seed=n, **sampling) for n in range(len(PROMPTS))]
    engine = Engine(model, max_batch=4, prefill_tokens=50)
    for _ in range(2):  # the second time the prefix cache holds the prompts
        for completion, prompt, one in zip(engine.generate(PROMPTS, params), PROMPTS, params):
            wanted = list(generate(model, prompt, one))
            stopped = wanted[-1].id in one.stop_ids
            assert completion.ids + ([completion.stop_id] if stopped else []) == [token.id for token in wanted]
            assert completion.stop_reason == ("stop" if stopped else "length")
            logprobs = completion.logprobs + ([completion.stop_logprob] if stopped else [])
            assert logprobs == pytest.approx([token.logprob for token in wanted], abs=1e-4)
