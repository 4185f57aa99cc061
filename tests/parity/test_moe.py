"""Mixtures of experts against transformers: logits, gradients, files in both directions, greedy text."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.parity.test_model import relative
from tests.random_models import random_ids, random_model
from transformers import AutoModelForCausalLM

from minimind.infer.engine import Engine
from minimind.infer.sampler import SamplingParams
from minimind.model import Transformer, load_model, save_model

EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
VARIANTS: dict[str, dict[str, Any]] = {
    "qwen3": {"model_type": "qwen3_moe", **EXPERTS},
    "qwen3-raw-weights": {"model_type": "qwen3_moe", **EXPERTS, "norm_topk_prob": False},
    "qwen3-top-1": {"model_type": "qwen3_moe", **EXPERTS, "num_experts_per_tok": 1},
    "qwen2-shared": {"model_type": "qwen2_moe", **EXPERTS, "head_dim": None},
    "qwen2-three-shared-raw": {
        "model_type": "qwen2_moe",
        **EXPERTS,
        "n_shared_experts": 3,
        "norm_topk_prob": False,
        "tie_word_embeddings": False,
        "head_dim": None,
    },
    "glm4": {"model_type": "glm4_moe", **EXPERTS, "n_shared_experts": 1, "routed_scaling_factor": 1.7},
    "glm4-raw-no-shared": {"model_type": "glm4_moe", **EXPERTS, "norm_topk_prob": False},
    "glm4-every-expert": {"model_type": "glm4_moe", **EXPERTS, "num_experts_per_tok": 4, "n_shared_experts": 2},
}
variants = pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)


def moe(fields: dict[str, Any]) -> Transformer:
    """A random model whose router's bias, where it has one, changes choices."""
    model = random_model(**fields)
    for name, buffer in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            buffer.copy_(torch.tensor([0.3, -0.2, 0.1, 0.0]))
    return model


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """By name on disk; transformers holds the experts' gate and up projections as one stack."""
    found: dict[str, torch.Tensor] = {}
    for name, parameter in model.named_parameters():
        grad = parameter.grad
        assert grad is not None, name
        if name.endswith("experts.gate_up_proj"):
            halves = grad.chunk(2, dim=1)
            found |= {name.replace("gate_up", half): g for half, g in zip(("gate", "up"), halves)}
        else:
            found[name.replace("shared_experts.", "shared_expert.")] = grad
    return found


def assert_equal_models(ours: Transformer, theirs: torch.nn.Module) -> None:
    tokens, targets = random_ids(3, 40).clamp(min=1), random_ids(3, 40, seed=1)
    logits, wanted = ours.logits(ours(tokens)), theirs(tokens).logits
    assert relative(logits.detach(), wanted.detach()) < 1e-5
    F.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
    F.cross_entropy(wanted.flatten(0, 1), targets.flatten()).backward()
    if ours.config.num_experts_per_tok == 1:  # theirs gives the router no gradient, see tests/model/test_moe.py
        return
    their_gradients = gradients(theirs)
    for name, grad in gradients(ours).items():
        theirs_grad = their_gradients.pop(name)
        if name.endswith("shared_expert.down_proj.weight") and ours.config.model_type == "qwen2_moe":
            theirs_grad = theirs_grad * 2  # the shared expert's matrix is twice as large on disk
        assert relative(grad, theirs_grad) < 1e-5, name
    assert all("shared_expert_gate" in name or not grad.numel() for name, grad in their_gradients.items())


@variants
def test_our_files_open_in_transformers_and_theirs_here(tmp_path: Path, fields: dict[str, Any]) -> None:
    ours = moe(fields)
    save_model(ours, tmp_path / "ours")
    theirs, report = AutoModelForCausalLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values()), report
    assert_equal_models(ours, theirs)
    theirs.save_pretrained(tmp_path / "theirs")
    back = load_model(tmp_path / "theirs")
    assert back.config == ours.config
    for (name, tensor), (_, wanted) in zip(back.state_dict().items(), ours.state_dict().items(), strict=True):
        assert torch.equal(tensor, wanted), name


@variants
def test_greedy_text_equals_generate(tmp_path: Path, fields: dict[str, Any]) -> None:
    ours = moe(fields)
    save_model(ours, tmp_path / "model")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    prompts = [random_ids(length, seed=length).tolist() for length in (3, 17, 40)]
    params = SamplingParams(temperature=0, max_tokens=12, stop_ids=())
    for prompt, completion in zip(prompts, Engine(ours, max_batch=2).generate(prompts, params)):
        tokens = torch.tensor([prompt])
        text = theirs.generate(tokens, do_sample=False, max_new_tokens=12, min_new_tokens=12, eos_token_id=[])
        assert completion.ids == text[0, len(prompt) :].tolist()
