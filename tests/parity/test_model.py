"""The model against transformers: logits, gradients, files in both directions, greedy text."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.random_models import random_ids, random_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from minimind.errors import UserError
from minimind.infer.engine import Engine
from minimind.infer.sampler import SamplingParams
from minimind.model import Transformer, load_model, save_model
from minimind.model.hf.config import from_hf

VARIANTS: dict[str, dict[str, Any]] = {
    "qwen3-tied-gqa-wide-heads": {},
    "qwen3-untied-one-kv-head": {"tie_word_embeddings": False, "num_key_value_heads": 1},
    "qwen3-every-head-its-own": {"num_key_value_heads": 4, "head_dim": None, "rope_theta": 5e3},
    "llama-tied-gqa": {"model_type": "llama", "head_dim": None, "rms_norm_eps": 1e-5},
    "llama-untied-wide-heads": {"model_type": "llama", "tie_word_embeddings": False, "rope_theta": 1e4},
}
variants = pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The largest difference, measured by the largest value."""
    return float((found - wanted).abs().max() / wanted.abs().max())


def assert_equal_models(ours: Transformer, theirs: torch.nn.Module) -> None:
    """Same logits and same gradient of every parameter, to 1e-5 of its largest value, in fp32."""
    # No token 0: transformers gives the row of the padding token no gradient.
    tokens, targets = random_ids(3, 40).clamp(min=1), random_ids(3, 40, seed=1)
    logits = ours.logits(ours(tokens))
    wanted = theirs(tokens).logits
    assert relative(logits.detach(), wanted.detach()) < 1e-5
    F.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
    F.cross_entropy(wanted.flatten(0, 1), targets.flatten()).backward()
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        assert relative(parameter.grad, gradients.pop(name)) < 1e-5, name
    assert not gradients


@variants
def test_our_files_open_in_transformers(tmp_path: Path, fields: dict[str, Any]) -> None:
    ours = random_model(**fields)
    save_model(ours, tmp_path / "model")
    theirs, report = AutoModelForCausalLM.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(report.values()), report
    assert_equal_models(ours, theirs)


@pytest.mark.parametrize("shard_size", ["1GB", "20KB"])
@pytest.mark.parametrize("model_type", ["qwen3", "llama"])
@pytest.mark.parametrize("tied", [True, False])
def test_files_of_transformers_open_here(tmp_path: Path, model_type: str, tied: bool, shard_size: str) -> None:
    classes = {"qwen3": (Qwen3Config, Qwen3ForCausalLM), "llama": (LlamaConfig, LlamaForCausalLM)}
    config_class, model_class = classes[model_type]
    torch.manual_seed(0)
    config = config_class(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=77,
        rope_parameters={"rope_type": "default", "rope_theta": 4321.0},
        rms_norm_eps=3e-3,
        initializer_range=0.3,
        tie_word_embeddings=tied,
    )
    theirs = model_class(config).eval()
    theirs.save_pretrained(tmp_path, max_shard_size=shard_size)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1 or shard_size == "20KB"
    ours = load_model(tmp_path)
    assert ours.config.max_position_embeddings == 77
    assert_equal_models(ours, theirs)


@pytest.mark.parametrize("model_type", ["qwen3", "llama"])
def test_absent_settings_mean_what_transformers_takes_them_for(model_type: str) -> None:
    """As few fields as some published models give; where the defaults differ, ours is refused as missing."""
    config: dict[str, Any] = {"model_type": model_type, "vocab_size": 97, "hidden_size": 32}
    config |= {"intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    with pytest.raises(UserError, match="max_position_embeddings"):
        from_hf(config)
    config["max_position_embeddings"] = 77
    if model_type == "qwen3":
        with pytest.raises(UserError, match="num_key_value_heads, head_dim missing"):
            from_hf(config)
        config |= {"num_key_value_heads": 2, "head_dim": 8}
    theirs = {"qwen3": Qwen3Config, "llama": LlamaConfig}[model_type].from_dict(config)
    ours = from_hf(config)
    for name in ("rms_norm_eps", "tie_word_embeddings", "num_key_value_heads", "head_dim"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.rope_theta == theirs.rope_parameters["rope_theta"]


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_text_equals_generate(tmp_path: Path, penalty: float) -> None:
    ours = random_model(tie_word_embeddings=False)
    save_model(ours, tmp_path / "model")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    prompts = [random_ids(length, seed=length).tolist() for length in (3, 17, 40, 9)]
    params = SamplingParams(temperature=0, repetition_penalty=penalty, max_tokens=20, stop_ids=(2, 0))
    for prompt, completion in zip(prompts, Engine(ours, max_batch=3).generate(prompts, params)):
        text = theirs.generate(
            torch.tensor([prompt]),
            do_sample=False,
            temperature=None,
            top_p=None,
            repetition_penalty=penalty,
            max_new_tokens=20,
        )
        answer = text[0, len(prompt) :].tolist()
        if completion.stop_reason == "stop":
            assert answer.pop() in (2, 0)
        assert completion.ids == answer
