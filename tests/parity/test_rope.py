"""Stretched models against transformers: frequencies, logits below and beyond the trained length, files, text."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.random_models import random_ids, random_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from minimind.infer.engine import Engine
from minimind.infer.sampler import SamplingParams
from minimind.model import ModelConfig, Transformer, load_model, save_model
from minimind.model.config import RopeScaling
from minimind.model.hf.config import from_hf, to_hf
from minimind.model.rope import attention_factor, inverse_frequencies, ntk_frequencies, scale_rope

TRAINED = 64
SHAPE: dict[str, Any] = {"rope_theta": 1e4, "max_position_embeddings": TRAINED}
STRETCHED: dict[str, Any] = {
    "linear": {"rope_scaling": RopeScaling("linear", 4.0, TRAINED), "max_position_embeddings": 4 * TRAINED},
    "dynamic": {"rope_scaling": RopeScaling("dynamic", 4.0)},
    "yarn": {"rope_scaling": RopeScaling("yarn", 4.0, TRAINED), "max_position_embeddings": 4 * TRAINED},
    "yarn-of-its-own": {
        "rope_scaling": RopeScaling("yarn", 2.5, 2048, beta_fast=16.0, beta_slow=2.0, attention_factor=0.9),
        "max_position_embeddings": 5120,
    },
    "yarn-trained-length-left-out": {"rope_scaling": RopeScaling("yarn", 4.0)},
}
stretched = pytest.mark.parametrize("fields", STRETCHED.values(), ids=STRETCHED)
model_types = pytest.mark.parametrize("model_type", ["qwen3", "llama"])
LENGTHS = (40, TRAINED, TRAINED + 1, 250)


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


def assert_equal_logits(ours: Transformer, theirs: torch.nn.Module) -> None:
    for length in LENGTHS:
        tokens = random_ids(2, length, seed=length)
        with torch.no_grad():
            assert relative(ours.logits(ours(tokens)), theirs(tokens).logits) < 1e-5, length


@stretched
@model_types
def test_our_files_open_in_transformers_and_theirs_here(tmp_path: Path, model_type: str, fields: Any) -> None:
    ours = random_model(**{**SHAPE, "model_type": model_type, **fields})
    save_model(ours, tmp_path / "ours")
    theirs, report = AutoModelForCausalLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values()), report
    assert_equal_logits(ours, theirs)
    plain = random_model(**{**SHAPE, "model_type": model_type})
    tokens = random_ids(2, 250)
    with torch.no_grad():
        assert relative(plain.logits(plain(tokens)), ours.logits(ours(tokens))) > 1e-2, "stretching changes much"
    theirs.save_pretrained(tmp_path / "theirs")
    again = load_model(tmp_path / "theirs")
    assert again.config == load_model(tmp_path / "ours").config == ours.config
    assert_equal_logits(again, theirs)


@model_types
@pytest.mark.parametrize("scaling", [{"rope_type": "yarn", "factor": 4.0}, {"rope_type": "dynamic", "factor": 3.0}])
def test_what_a_file_leaves_out_is_what_transformers_takes(model_type: str, scaling: dict[str, Any]) -> None:
    classes = {"qwen3": (Qwen3Config, Qwen3ForCausalLM), "llama": (LlamaConfig, LlamaForCausalLM)}
    config_class, model_class = classes[model_type]
    raw = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    raw |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": TRAINED}
    theirs = model_class(config_class(**raw, rope_scaling=dict(scaling))).eval()
    ours = Transformer(from_hf({**raw, "model_type": model_type, "rope_scaling": scaling}), seed=None)
    ours.load_state_dict(theirs.state_dict())
    assert_equal_logits(ours, theirs)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    theta=st.floats(100, 5e6),
    pairs=st.integers(2, 64),
    trained=st.integers(16, 40_000),
    factor=st.floats(1, 64),
    betas=st.tuples(st.floats(4, 64), st.floats(0.5, 4)),
    temperature=st.none() | st.floats(0.5, 2),
    length=st.integers(1, 100_000),
)
def test_frequencies_equal_those_of_transformers(
    theta: float,
    pairs: int,
    trained: int,
    factor: float,
    betas: tuple[float, float],
    temperature: float | None,
    length: int,
) -> None:
    for rope_type in ("linear", "dynamic", "yarn"):
        fast, slow = betas
        scaling = RopeScaling(rope_type, factor, trained, fast, slow, temperature)
        config = ModelConfig(
            head_dim=2 * pairs, rope_theta=theta, rope_scaling=scaling, max_position_embeddings=trained
        )
        theirs = AutoConfig.for_model(**to_hf(config))
        if rope_type == "dynamic":
            frequencies, factor_of_theirs = ROPE_INIT_FUNCTIONS[rope_type](theirs, seq_len=torch.tensor(length))
            found = ntk_frequencies(config, torch.tensor(length))
        else:
            frequencies, factor_of_theirs = ROPE_INIT_FUNCTIONS[rope_type](theirs)
            found = inverse_frequencies(config)
        assert torch.equal(found, frequencies), rope_type
        assert attention_factor(config) == factor_of_theirs


@pytest.mark.parametrize("rope_type", ["linear", "dynamic", "yarn"])
def test_greedy_text_across_the_trained_length_equals_generate(tmp_path: Path, rope_type: Any) -> None:
    """With `dynamic` too, one prompt at a time: keys stay as they were when they were read, there and here."""
    plain = random_model(**SHAPE, tie_word_embeddings=False)
    ours = Transformer(scale_rope(plain.config, 4, rope_type, trained=TRAINED), seed=None).eval()
    ours.load_state_dict(plain.state_dict())
    save_model(ours, tmp_path / "model")
    for length in (50, 90):
        theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model")  # anew: `dynamic` never shrinks there
        theirs.generation_config.eos_token_id = None
        prompt = random_ids(1, length, seed=length)
        everything = torch.ones_like(prompt)  # left out, transformers takes a token 0 in the prompt for padding
        text = theirs.generate(
            prompt, attention_mask=everything, do_sample=False, temperature=None, top_p=None, max_new_tokens=60
        )
        params = SamplingParams(temperature=0, max_tokens=60, stop_ids=())
        assert Engine(ours).generate(prompt.tolist(), params)[0].ids == text[0, length:].tolist()
