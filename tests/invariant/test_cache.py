"""Reading a text piece by piece into the cache gives the numbers of reading it whole."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.random_models import random_ids, random_model

from minimind.model.kv_cache import KVCache

MODEL = random_model().cast(torch.float64)


def empty(rows: int, length: int) -> KVCache:
    return KVCache.empty(MODEL.config, rows, length, torch.float64, torch.device("cpu"))


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


@settings(max_examples=30, deadline=None, derandomize=True)
@given(pieces=st.lists(st.integers(1, 9), min_size=1, max_size=8), spare=st.integers(0, 20))
def test_cached_equals_full(pieces: list[int], spare: int) -> None:
    tokens = random_ids(3, sum(pieces))
    cache = empty(3, sum(pieces) + spare)
    found, start = [], 0
    with torch.no_grad():
        for piece in pieces:
            positions = torch.arange(start, start + piece).expand(3, -1)
            found.append(MODEL(tokens[:, start : start + piece], positions, cache=cache))
            start += piece
        assert relative(torch.cat(found, 1), MODEL(tokens)) < 1e-9


def test_rows_at_different_positions_go_on_together() -> None:
    lengths = torch.tensor([3, 11, 7])
    tokens = random_ids(3, 16)
    with torch.no_grad():
        full = MODEL(tokens)
        cache = empty(3, 20)
        # Read right-padded to the longest: what is written behind a row's end is never looked at.
        MODEL(tokens[:, :11], cache=cache)
        for step in range(5):
            positions = (lengths + step)[:, None]
            hidden = MODEL(tokens.gather(1, positions), positions, cache=cache)
            assert relative(hidden[:, 0], full[torch.arange(3), positions[:, 0]]) < 1e-9


def test_a_short_view_a_moved_row_and_a_larger_cache_hold_the_same() -> None:
    tokens = random_ids(4, 10)
    with torch.no_grad():
        full = MODEL(tokens)
        cache = empty(4, 12)
        MODEL(tokens[:, :9], cache=cache.view(0, 4, 9))
        cache.move([3], [1])
        larger = empty(6, 30)
        larger.copy_from(cache)
        rows = [0, 3, 2]
        hidden = MODEL(tokens[rows, 9:], torch.full((3, 1), 9), cache=larger.view(0, 3, 10))
        assert relative(hidden[:, 0], full[rows, 9]) < 1e-9


def test_a_used_row_serves_the_next_text() -> None:
    cache = empty(1, 20)
    with torch.no_grad():
        MODEL(random_ids(1, 20), cache=cache)
        tokens = random_ids(1, 6, seed=3)
        assert relative(MODEL(tokens, cache=cache), MODEL(tokens)) < 1e-9


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_cache_has_the_type_it_was_made_for(dtype: torch.dtype) -> None:
    cache = KVCache.empty(MODEL.config, 2, 8, dtype, torch.device("cpu"))
    assert cache.keys.shape == (2, 2, 2, 8, 16)  # layers, rows, kv heads, positions, channels
    assert cache.keys.dtype == cache.values.dtype == dtype
