"""What rotary positions and their stretching must keep, whatever the model."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.random_models import random_ids, random_model

from minimind.errors import UserError
from minimind.infer.inputs import Inputs
from minimind.infer.network import Network
from minimind.model import Transformer
from minimind.model.config import RopeScaling
from minimind.model.hf.config import from_hf, to_hf
from minimind.model.rope import angles, inverse_frequencies, rotate, scale_rope

TRAINED = 32
FACTOR = 4.0
rope_types: Any = pytest.mark.parametrize("rope_type", ["linear", "dynamic", "yarn"])
PLAIN = random_model(rope_theta=1e4, original_max_position_embeddings=TRAINED).cast(torch.float64)


def stretched(rope_type: Any) -> Transformer:
    model = Transformer(scale_rope(PLAIN.config, FACTOR, rope_type), seed=None)
    model.load_state_dict(PLAIN.state_dict())
    return model.cast(torch.float64).eval()


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


@rope_types
def test_scores_depend_on_the_distance_alone(rope_type: Any) -> None:
    config = scale_rope(PLAIN.config, FACTOR, rope_type)
    query, key = torch.randn(2, 1, 1, 1, config.head_dim, generator=torch.Generator().manual_seed(0))
    cos, sin = angles(config, inverse_frequencies(config), torch.arange(128)[None])
    queries, keys = rotate(query.expand(1, 128, 1, -1), cos, sin)[0, :, 0], rotate(key, cos, sin)[0, :, 0]
    scores = queries @ keys.T
    for distance in (0, 1, 17, 100):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=1e-4, atol=1e-4)


def test_yarn_stretches_slow_pairs_and_leaves_fast_ones() -> None:
    config = scale_rope(replace(PLAIN.config, head_dim=64), FACTOR, trained=2048)
    plain, found = (inverse_frequencies(c) for c in (replace(config, rope_scaling=None), config))
    turns = 2048 * plain / (2 * math.pi)  # over the trained length
    ratio = plain / found
    torch.testing.assert_close(ratio[turns > 40], torch.ones(int((turns > 40).sum())))
    torch.testing.assert_close(ratio[turns < 0.9], torch.full((int((turns < 0.9).sum()),), FACTOR))
    assert (ratio.diff() >= 0).all()
    assert ((ratio > 1) & (ratio < FACTOR)).any(), "a ramp in between"


def test_yarn_sharpens_attention() -> None:
    for given, wanted in ((None, 0.1 * math.log(FACTOR) + 1), (0.75, 0.75)):
        scaling = RopeScaling("yarn", FACTOR, TRAINED, attention_factor=given)
        config = replace(PLAIN.config, rope_scaling=scaling)
        cos, sin = angles(config, inverse_frequencies(config), torch.arange(50)[None])
        torch.testing.assert_close((cos**2 + sin**2).sqrt(), torch.full_like(cos, wanted))


@rope_types
def test_a_factor_of_one_changes_nothing(rope_type: Any) -> None:
    config = scale_rope(PLAIN.config, 1, rope_type)
    positions = torch.arange(TRAINED)[None]
    for found, wanted in zip(
        angles(config, inverse_frequencies(config), positions),
        angles(PLAIN.config, PLAIN.frequencies, positions),
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


def test_dynamic_changes_nothing_up_to_the_trained_length() -> None:
    model = stretched("dynamic")
    with torch.no_grad():
        for length, same in ((TRAINED, True), (TRAINED + 1, False)):
            tokens = random_ids(2, length)
            assert (relative(model(tokens), PLAIN(tokens)) < 1e-9) is same


@rope_types
def test_packed_equals_unpacked_across_the_trained_length(rope_type: Any) -> None:
    """One row of three texts, the second beyond the trained length, and padding; the next row's number on."""
    model, lengths = stretched(rope_type), ((20, 90, 40), (100, 5, 50))
    rows = [[random_ids(n, seed=n) for n in row] for row in lengths]
    tokens, positions = torch.zeros(2, 160, dtype=torch.long), torch.zeros(2, 160, dtype=torch.long)
    documents = torch.full((2, 160), -1)
    for i, row in enumerate(rows):
        size = sum(map(len, row))
        tokens[i, :size] = torch.cat(row)
        positions[i, :size] = torch.cat([torch.arange(len(text)) for text in row])
        documents[i, :size] = torch.cat([torch.full((len(text),), 3 * i + n) for n, text in enumerate(row)])
    with torch.no_grad():
        hidden = model(tokens, positions, documents)
        for i, row in enumerate(rows):
            start = 0
            for text in row:
                assert relative(hidden[i, start : start + len(text)], model(text[None])[0]) < 1e-9
                start += len(text)


@pytest.mark.parametrize(
    ("rope_type", "pieces"),
    [
        ("linear", (20, 30, 1, 40)),
        ("yarn", (20, 30, 1, 40)),
        ("dynamic", (20, 30, 1, 40)),  # beyond the trained length it must be known how long the text will be
    ],
)
def test_cached_equals_full(rope_type: Any, pieces: tuple[int, ...]) -> None:
    model, tokens = stretched(rope_type), random_ids(1, sum(pieces))[0].tolist()
    network = Network(model)
    cache = network.cache(1, len(tokens))
    found, start = [], 0
    with torch.no_grad():
        for piece in pieces:
            stop = start + piece
            found.append(network.hidden(Inputs().prefill(cache, tokens, start, stop)))
            start = stop
        assert relative(torch.cat(found), model(torch.tensor([tokens]))[0]) < 1e-9


@rope_types
def test_the_host_never_waits_for_a_number(rope_type: Any) -> None:
    """Tensors without values: reading one would fail."""
    model = Transformer(scale_rope(PLAIN.config, FACTOR, rope_type), seed=None).to("meta")
    tokens = torch.zeros(2, 100, dtype=torch.long, device="meta")
    assert model(tokens).shape == (2, 100, 32)
    assert model(tokens, tokens, tokens).shape == (2, 100, 32)


@rope_types
def test_a_stretched_config_knows_its_lengths_on_disk_too(rope_type: Any) -> None:
    config = scale_rope(PLAIN.config, FACTOR, rope_type)
    assert config.original_max_position_embeddings == TRAINED
    assert config.context_length == FACTOR * TRAINED
    assert config.max_position_embeddings == (TRAINED if rope_type == "dynamic" else FACTOR * TRAINED)
    assert from_hf(to_hf(config)) == config
    assert scale_rope(scale_rope(PLAIN.config, 8, "yarn"), FACTOR, rope_type) == config, (
        "always from the trained length"
    )
    assert replace(scale_rope(config, 2), rope_scaling=None).original_max_position_embeddings == TRAINED


def test_the_trained_length_is_recorded_without_stretching() -> None:
    assert from_hf(to_hf(PLAIN.config)) == PLAIN.config
    unknown = replace(PLAIN.config, original_max_position_embeddings=None)
    assert "original_max_position_embeddings" not in to_hf(unknown)
    assert from_hf(to_hf(unknown)) == unknown
    with pytest.raises(UserError, match="no original_max_position_embeddings; give the length"):
        scale_rope(unknown, 4)
    assert scale_rope(unknown, 4, trained=TRAINED) == scale_rope(PLAIN.config, 4)


@pytest.mark.parametrize(
    ("scaling", "sentence"),
    [
        ({"rope_type": "yarn"}, "rope_scaling.factor is missing"),
        ({"rope_type": "yarn", "factor": 0.5}, "factor must be a number from 1"),
        ({"rope_type": "yarn", "factor": 2.0, "beta_fast": -1}, "beta_fast must be a number above 0"),
        (
            {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 99},
            "trained at 99 tokens or at 32",
        ),
        ({"rope_type": "dynamic", "factor": 2.0}, "trained at 32 tokens or at 256"),
        ({"rope_type": "yarn", "factor": 2.0, "mscale": 0.7}, "rope_scaling.mscale = 0.7 is not supported"),
    ],
)
def test_contradictions_are_refused(scaling: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        from_hf(to_hf(PLAIN.config) | {"rope_scaling": scaling})


def test_dynamic_needs_more_than_one_pair_of_channels() -> None:
    with pytest.raises(UserError, match="head_dim 2 leaves dynamic nothing to stretch"):
        scale_rope(replace(PLAIN.config, head_dim=2), FACTOR, "dynamic")
