"""A model as llama.cpp computes it: which of its architectures, its settings, its tensors' names and order.

llama.cpp turns neighbouring channels (2i, 2i + 1) in some architectures and (i, i + C/2), as we do, in others; in the
first kind the rows of the query and key matrices are put in that order. Letters: H heads, C channels of a head.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from minimind.errors import UserError
from minimind.model import ModelConfig, Transformer

Value = str | int | float | bool

# llama.cpp has a reader of its own for each architecture and computes only what the original model computes. Its
# qwen2moe, for one, gates the shared expert and never normalises; bailingmoe is what our qwen2_moe is.
ARCHITECTURES = {
    "llama": "llama",
    "qwen3": "qwen3",
    "qwen3_moe": "qwen3moe",
    "qwen2_moe": "bailingmoe",
    "glm4_moe": "glm4moe",
}
NEIGHBOURS = ("llama", "bailingmoe")
"""architectures that turn neighbouring channels"""
UNTIED = ("bailingmoe",)
"""architectures that want an output matrix even where it is the embedding"""
SOFTMAX, SIGMOID = 1, 2
"""llama.cpp's numbers for how experts are scored"""

LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
    "mlp.gate.e_score_correction_bias": "exp_probs_b.bias",
    "mlp.experts.gate_proj": "ffn_gate_exps",
    "mlp.experts.up_proj": "ffn_up_exps",
    "mlp.experts.down_proj": "ffn_down_exps",
    "mlp.shared_expert.gate_proj": "ffn_gate_shexp",
    "mlp.shared_expert.up_proj": "ffn_up_shexp",
    "mlp.shared_expert.down_proj": "ffn_down_shexp",
}
"""our name within a layer -> llama.cpp's"""


def architecture(config: ModelConfig) -> str:
    """llama.cpp's name for what `config` computes."""
    # Its qwen3moe divides the experts' weights by their sum, always. The weights of all experts have the sum 1 anyway.
    raw = not config.norm_topk_prob and config.num_experts_per_tok < config.num_experts
    return "glm4moe" if config.model_type == "qwen3_moe" and raw else ARCHITECTURES[config.model_type]


def settings(config: ModelConfig) -> dict[str, Value]:
    """The architecture's settings, each to be written as `ARCHITECTURE.NAME`; UserError for scaling it has not."""
    found: dict[str, Value] = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.ffn_size,
        "vocab_size": config.vocab_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.kv_heads,
        "attention.key_length": config.channels,
        "attention.value_length": config.channels,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.dimension_count": config.channels,
        "rope.freq_base": config.rope_theta,
    }
    if config.family.experts:
        found |= {
            "leading_dense_block_count": 0,
            "expert_count": config.num_experts,
            "expert_used_count": config.num_experts_per_tok,
            "expert_feed_forward_length": config.moe_intermediate_size,
            "expert_shared_count": config.n_shared_experts,
            "expert_weights_norm": config.norm_topk_prob,
            "expert_weights_scale": config.routed_scaling_factor,
            "expert_gating_func": SIGMOID if config.family.sigmoid else SOFTMAX,
        }
    return found | _rope_scaling(config)


def _rope_scaling(config: ModelConfig) -> dict[str, Value]:
    scaling = config.rope_scaling
    if scaling is None:
        return {}
    if scaling.rope_type == "dynamic":
        raise UserError("GGUF: llama.cpp has no dynamic rope_scaling; choose yarn or linear, or export without it")
    found: dict[str, Value] = {"rope.scaling.type": scaling.rope_type, "rope.scaling.factor": scaling.factor}
    if scaling.rope_type == "linear":
        return found
    original = scaling.original_max_position_embeddings or round(config.max_position_embeddings / scaling.factor)
    # llama.cpp multiplies by this factor of YaRN (equation 22) whatever the file says; what is written comes on top.
    builtin = 1 + 0.1 * math.log(scaling.factor)
    return found | {
        "rope.scaling.original_context_length": original,
        "rope.scaling.attn_factor": (scaling.attention_factor or builtin) / builtin,
        "rope.scaling.yarn_beta_fast": scaling.beta_fast,
        "rope.scaling.yarn_beta_slow": scaling.beta_slow,
    }


def tensors(model: Transformer) -> Iterator[tuple[str, torch.Tensor]]:
    """All tensors by llama.cpp's names, in the order of the file."""
    config, kind = model.config, architecture(model.config)
    names = LAYER_NAMES | ({"post_attention_layernorm": "post_attention_norm"} if kind == "glm4moe" else {})
    state = model.state_dict()
    yield "token_embd.weight", state.pop("model.embed_tokens.weight")
    yield "output_norm.weight", state.pop("model.norm.weight")
    if not config.tie_word_embeddings or kind in UNTIED:
        state.pop("lm_head.weight", None)
        yield "output.weight", model.output_weight.detach()
    for name, tensor in state.items():
        _, _, layer, part = name.split(".", 3)
        part = part.removesuffix(".weight")
        if kind in NEIGHBOURS and part in ("self_attn.q_proj", "self_attn.k_proj"):
            tensor = neighbours(tensor, config.channels)
        theirs = names[part]
        yield f"blk.{layer}.{theirs}" + ("" if "." in theirs else ".weight"), tensor


def neighbours(matrix: torch.Tensor, channels: int) -> torch.Tensor:
    """The rows of each head (H * C, D) put so that channels i and i + C/2 become neighbours."""
    return matrix.unflatten(0, (-1, 2, channels // 2)).transpose(1, 2).reshape(matrix.shape)
