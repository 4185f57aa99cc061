"""The engine against the slowest generator there is: one request at a time, the whole text at every token."""

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minimind.errors import UserError
from minimind.infer.engine import Completion, Engine, SamplingParams
from minimind.model import ModelConfig, Transformer

VOCAB = 97
STOP = 3


def random_model(model_type: str = "qwen3", context: int = 256) -> Transformer:
    """A model whose every matrix is random, so that its greedy text wanders."""
    config = ModelConfig(
        model_type=model_type,
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=context,
        tie_word_embeddings=False,
    )
    model = Transformer(config)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.data.normal_(0, 0.3, generator=generator)
    return model.eval()


MODEL = random_model()


@torch.no_grad()
def reference(model: Transformer, prompt: list[int], params: SamplingParams) -> Completion:
    """Greedy, without a cache."""
    ids: list[int] = []
    logprobs: list[float] = []
    while len(ids) < params.max_tokens and len(prompt) + len(ids) < model.config.max_position_embeddings:
        logits = model.logits(model(torch.tensor([prompt + ids])))[0, -1]
        token = int(logits.argmax())
        if token in params.stop_ids:
            return Completion(ids, "stop", logprobs)
        ids.append(token)
        logprobs.append(float(logits.log_softmax(-1)[token]))
    return Completion(ids, "length", logprobs)


def assert_same(found: Completion, wanted: Completion) -> None:
    assert found.ids == wanted.ids
    assert found.stop_reason == wanted.stop_reason
    assert found.logprobs == pytest.approx(wanted.logprobs, abs=1e-4)


def random_prompts(lengths: list[int], seed: int = 0) -> list[list[int]]:
    luck = random.Random(seed)
    return [[luck.randrange(VOCAB) for _ in range(length)] for length in lengths]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 90), st.integers(1, 20)), min_size=1, max_size=12),
    max_batch=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_greedy_equals_one_at_a_time(lengths: list[tuple[int, int]], max_batch: int, seed: int) -> None:
    prompts = random_prompts([length for length, _ in lengths], seed)
    params = [SamplingParams(temperature=0, max_tokens=n, stop_ids=(STOP, 4, 5)) for _, n in lengths]
    found = Engine(MODEL, max_batch=max_batch).generate(prompts, params)
    for completion, prompt, p in zip(found, prompts, params):
        assert_same(completion, reference(MODEL, prompt, p))
