"""State dicts as the public MiniMind stores them, made from our models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tests.random_models import random_model

from minimind.model import Transformer

FIXTURES = Path(__file__).parents[1] / "fixtures" / "weights"

# What each version's published models have: heads, key/value heads, theta, epsilon, experts a token takes.
DENSE: dict[str, dict[str, Any]] = {
    "minimind-v1": {"model_type": "llama", "num_attention_heads": 16, "num_key_value_heads": 8},
    "minimind2-legacy": {"model_type": "llama", "num_attention_heads": 8, "num_key_value_heads": 2},
    "minimind2": {"model_type": "llama", "num_attention_heads": 8, "num_key_value_heads": 2},
    "minimind-3": {"model_type": "qwen3", "num_attention_heads": 8, "num_key_value_heads": 4},
}
DENSE["minimind-v1"] |= {"rope_theta": 1e4, "rms_norm_eps": 1e-5, "max_position_embeddings": 512}
DENSE["minimind2-legacy"] |= {"rope_theta": 1e6, "rms_norm_eps": 1e-5, "max_position_embeddings": 8192}
DENSE["minimind2"] |= {"rope_theta": 1e6, "rms_norm_eps": 1e-5, "max_position_embeddings": 32768}
DENSE["minimind-3"] |= {"rope_theta": 1e6, "rms_norm_eps": 1e-6, "max_position_embeddings": 32768}
EXPERTS: dict[str, Any] = {"num_experts": 4, "moe_intermediate_size": 48}
SHARED = {"model_type": "qwen2_moe", **EXPERTS, "num_experts_per_tok": 2, "n_shared_experts": 1}
TRAINED = {"minimind-v1": 512, "minimind2-legacy": 2048, "minimind2": 2048, "minimind-3": 2048}

# As save_pretrained writes it for the project's own class; max_seq_len is one that the class does not read.
WRITTEN: dict[str, Any] = {
    "architectures": ["MiniMindForCausalLM"],
    "auto_map": {"AutoConfig": "model_minimind.MiniMindConfig"},
    "aux_loss_alpha": 0.1,
    "bos_token_id": 1,
    "dropout": 0.0,
    "eos_token_id": 2,
    "flash_attn": True,
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 48,
    "max_position_embeddings": 32768,
    "max_seq_len": 8192,
    "model_type": "minimind",
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 8,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "scoring_func": "softmax",
    "seq_aux": True,
    "torch_dtype": "float16",
    "transformers_version": "4.57.1",
    "use_moe": True,
    "vocab_size": 97,
}
# The same in the earlier naming, of early 2025.
WRITTEN_EARLY: dict[str, Any] = {
    "architectures": ["MiniMindLM"],
    "dim": 64,
    "flash_attn": True,
    "hidden_dim": None,
    "max_seq_len": 8192,
    "model_type": "minimind",
    "multiple_of": 64,
    "n_heads": 8,
    "n_kv_heads": 2,
    "n_layers": 2,
    "n_routed_experts": 4,
    "n_shared_experts": True,
    "norm_eps": 1e-05,
    "num_experts_per_tok": 2,
    "rope_theta": 1000000.0,
    "transformers_version": "4.48.0",
    "use_moe": True,
    "vocab_size": 97,
}

EARLY_NAMES = [  # in Hugging Face's names, in the earlier ones
    ("model.", ""),
    ("lm_head", "output"),
    ("embed_tokens", "tok_embeddings"),
    ("self_attn.q_proj", "attention.wq"),
    ("self_attn.k_proj", "attention.wk"),
    ("self_attn.v_proj", "attention.wv"),
    ("self_attn.o_proj", "attention.wo"),
    ("input_layernorm", "attention_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp", "feed_forward"),
    ("gate_proj", "w1"),
    ("down_proj", "w2"),
    ("up_proj", "w3"),
    ("shared_experts.0", "shared_experts"),
]


def published_model(version: str, moe: bool = False, **fields: Any) -> Transformer:
    """A tiny random model with the numbers of heads that a version's published ones have, exact in fp16."""
    experts: dict[str, Any] = {}
    if moe and version == "minimind-3":
        experts = {"model_type": "qwen3_moe", **EXPERTS, "num_experts_per_tok": 1}
    elif moe:
        experts = SHARED
    fields = {"hidden_size": 64, "head_dim": None, **DENSE[version], **experts, **fields}
    fields.setdefault("original_max_position_embeddings", TRAINED[version])
    model = random_model(std=0.1, **fields)
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()
    return model


def state_dict(model: Transformer, version: str) -> dict[str, torch.Tensor]:
    """fp16, one matrix an expert, the tied embedding twice; early ones in their names, their pairs interleaved."""
    found: dict[str, torch.Tensor] = {"lm_head.weight": model.output_weight}
    for name, tensor in model.state_dict().items():
        if tensor.dim() == 3:  # stacked experts
            experts, _, matrix = name.rpartition(".")
            found |= {f"{experts}.{number}.{matrix}.weight": one for number, one in enumerate(tensor)}
        elif "shared_expert." in name:
            down = "down_proj" in name
            for number, part in enumerate(tensor.chunk(model.config.n_shared_experts, dim=int(down))):
                found[name.replace("shared_expert.", f"shared_experts.{number}.")] = part
        else:
            found[name] = tensor
    if version in ("minimind-v1", "minimind2-legacy"):
        found = {early_name(name): _interleaved(name, t, model.config.head_dim) for name, t in found.items()}
    return {name: tensor.detach().half().contiguous().clone() for name, tensor in found.items()}


def early_name(name: str) -> str:
    for theirs, earlier in EARLY_NAMES:
        name = name.replace(theirs, earlier)
    return name


def _interleaved(name: str, tensor: torch.Tensor, channels: int) -> torch.Tensor:
    """Rows i and i + C/2 of each head side by side, where positions turn them as a pair."""
    if not name.endswith(("q_proj.weight", "k_proj.weight")):
        return tensor
    heads = tensor.unflatten(0, (-1, channels))
    first, second = heads[:, : channels // 2], heads[:, channels // 2 :]
    return torch.stack((first, second), dim=2).flatten(0, 2)


def save(tensors: dict[str, torch.Tensor], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(tensors, path)
    return path
