"""The shape of a model: defaults, refusals, and the way through config.json."""

import json
from pathlib import Path
from typing import Any

import pytest

from minimind.errors import UserError
from minimind.model import ModelConfig
from minimind.model.hf.config import read_config, to_hf


def test_what_is_left_out_follows_from_the_rest() -> None:
    config = ModelConfig(hidden_size=768, num_attention_heads=8)
    assert config.intermediate_size == 2432  # pi * 768 = 2412.7, up to a multiple of 64
    assert config.num_key_value_heads == 8
    assert config.head_dim == 96


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"hidden_size": 0}, "model.hidden_size must be a whole number from 1 to 1,048,576, not 0"),
        ({"rope_theta": -1.0}, "model.rope_theta must be a number above 1, at most .*, not -1.0"),
        ({"intermediate_size": 0}, "model.intermediate_size must be a whole number from 1"),
        ({"hidden_size": 100, "num_attention_heads": 3}, "model.hidden_size 100 is not a multiple of .* set"),
        (
            {"num_key_value_heads": 3},
            "model.num_attention_heads 8 is not a multiple of model.num_key_value_heads 3",
        ),
        ({"head_dim": 7}, "model.head_dim 7 must be even"),
        ({"model_type": "bert"}, "'bert' is not supported; known: qwen3, llama"),
    ],
)
def test_impossible_shapes_are_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        ModelConfig(**fields)


@pytest.mark.parametrize("model_type", ["qwen3", "llama"])
@pytest.mark.parametrize("tied", [True, False])
def test_config_json_gives_the_same_shape_back(tmp_path: Path, model_type: Any, tied: bool) -> None:
    config = ModelConfig(
        model_type=model_type, vocab_size=77, head_dim=20, rope_theta=5e4, tie_word_embeddings=tied
    )
    (tmp_path / "config.json").write_text(json.dumps(to_hf(config)))
    assert read_config(tmp_path) == config
