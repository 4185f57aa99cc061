"""Reading texts piece by piece into caches, many at once, gives the numbers of reading each whole."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.random_models import random_ids, random_model

from minimind.infer.inputs import Inputs
from minimind.infer.network import Network
from minimind.model.kv_cache import KVCache

TYPES = ("qwen3", "llama", "qwen3_moe", "glm4_moe")
MODELS = {name: random_model(model_type=name).cast(torch.float64) for name in TYPES}
MODEL = MODELS["qwen3"]
NETWORK = Network(MODEL)


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("model_type", TYPES)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(pieces=st.lists(st.integers(1, 9), min_size=1, max_size=8), spare=st.integers(0, 20))
def test_cached_equals_full(model_type: str, pieces: list[int], spare: int) -> None:
    model = MODELS[model_type]
    network = Network(model)
    tokens = random_ids(sum(pieces)).tolist()
    cache = network.cache(1, len(tokens) + spare)
    found, start = [], 0
    with torch.no_grad():
        for piece in pieces:
            stop = start + piece
            found.append(network.hidden(Inputs().prefill(cache, tokens, start, stop)))
            start = stop
        hidden, wanted = torch.cat(found), model(torch.tensor([tokens]))[0]
        assert relative(hidden, wanted) < 1e-9
        assert relative(network.logits(hidden), model.logits(wanted)) < 1e-9


def test_answers_of_different_lengths_and_a_prompt_go_on_together() -> None:
    lengths = [3, 11, 7]
    tokens = random_ids(4, 16)
    with torch.no_grad():
        full = MODEL(tokens)
        cache, other = NETWORK.cache(5, 20), NETWORK.cache(1, 16)
        for row, length in enumerate(lengths):
            alone = NETWORK.cache(1, length)
            ids = tokens[row, :length].tolist()
            NETWORK.hidden(Inputs().prefill(alone, ids, 0, length))
            cache.memory[:, row, :length] = alone.memory[:, 0]
        for step in range(5):
            positions = [length + step for length in lengths]
            ids = [int(tokens[row, p]) for row, p in enumerate(positions)]
            inputs = Inputs().decode(cache, ids, [position + 1 for position in positions])
            read = range(3 * step, 3 * step + 3)
            hidden = NETWORK.hidden(inputs.prefill(other, tokens[3].tolist(), read.start, read.stop))
            assert relative(hidden[:3], full[[0, 1, 2], positions]) < 1e-9
            assert relative(hidden[3:], full[3, read]) < 1e-9


def test_a_larger_cache_holds_the_same() -> None:
    tokens = random_ids(10).tolist()
    with torch.no_grad():
        cache = NETWORK.cache(1, 12)
        NETWORK.hidden(Inputs().prefill(cache, tokens, 0, 9))
        hidden = NETWORK.hidden(Inputs().decode(cache.grown(3), tokens[9:], [10]))
        assert relative(hidden[0], MODEL(torch.tensor([tokens]))[0, 9]) < 1e-9


def test_a_used_row_serves_the_next_text() -> None:
    cache = NETWORK.cache(1, 20)
    with torch.no_grad():
        for length, seed in ((20, 0), (6, 3)):
            tokens = random_ids(length, seed=seed).tolist()
            hidden = NETWORK.hidden(Inputs().prefill(cache, tokens, 0, length))
            assert relative(hidden, MODEL(torch.tensor([tokens]))[0]) < 1e-9


def test_the_network_keeps_the_weights_of_its_moment() -> None:
    """In every part: a training goes on in place, and answers under way must not mix two models."""
    for model_type in TYPES:
        model = copy.deepcopy(MODELS[model_type])
        network, tokens = Network(model), random_ids(9).tolist()

        def read(network: Network = network, tokens: list[int] = tokens) -> torch.Tensor:
            return network.logits(network.hidden(Inputs().prefill(network.cache(1, 9), tokens, 0, 9)))

        with torch.no_grad():
            before = read()
            for parameter in model.parameters():
                parameter.mul_(1.5)
            assert torch.equal(read(), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_cache_has_the_type_it_was_made_for(dtype: torch.dtype) -> None:
    cache = KVCache.empty(MODEL.config, 2, 8, dtype, torch.device("cpu"))
    assert cache.memory.shape == (2, 2, 8, 2, 2, 16)  # layers, rows, positions, key and value, kv heads, channels
    assert cache.memory.dtype == dtype
    keys, values = cache.keys_values(1, 5)[1]
    assert keys.shape == values.shape == (1, 2, 5, 16)
    assert keys.untyped_storage().data_ptr() == cache.memory.untyped_storage().data_ptr()
