"""A model as llama.cpp computes it: which of its architectures, its settings, its tensors' names and order.

llama.cpp turns neighboring channels (2i, 2i + 1) in some architectures and (i, i + C/2), as we do, in others; in
the first kind the rows of the query and key matrices are put in that order. Letters: H heads, C channels of a head,
D model width, F width of an expert.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch

from minimind.errors import UserError
from minimind.interop.rotary_pairs import neighbors
from minimind.model import ModelConfig, Transformer
from minimind.model.rope import inverse_frequencies

# llama.cpp has a reader of its own for each architecture and computes only what the original model computes. Its
# qwen2moe, for one, gates the shared expert and never normalizes; bailingmoe is what our qwen2_moe is.
ARCHITECTURES = {
    "llama": "llama",
    "qwen3": "qwen3",
    "qwen3_moe": "qwen3moe",
    "qwen2_moe": "bailingmoe",
    "glm4_moe": "glm4moe",
}
NEIGHBOURS = ("llama", "bailingmoe")
"""architectures that turn neighboring channels"""
UNTIED = ("bailingmoe",)
"""architectures that want an output matrix even where it is the embedding"""
SOFTMAX, SIGMOID = 1, 2
"""llama.cpp's numbers for how experts are scored"""
MOST_EXPERTS, MOST_LAYERS = 512, 512
"""what llama.cpp's fixed arrays hold"""

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
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
"""our name, of a layer's parts within the layer -> llama.cpp's"""

Scalar = str | int | float | bool


def architecture(config: ModelConfig) -> str:
    """llama.cpp's name for what `config` computes; UserError for a shape that it cannot hold."""
    if config.num_labels:
        raise UserError("GGUF: a reward model has no output layer; use `minimind export hf`")
    if config.num_experts > MOST_EXPERTS or config.num_hidden_layers > MOST_LAYERS:
        raise UserError(
            f"GGUF: llama.cpp holds at most {MOST_EXPERTS} experts and {MOST_LAYERS} layers, and this model has "
            f"{config.num_experts} and {config.num_hidden_layers}; export a smaller one"
        )
    # Its qwen3moe divides the experts' weights by their sum, always. Those of all experts have the sum 1 anyway.
    raw = not config.norm_topk_prob and config.num_experts_per_tok < config.num_experts
    return "glm4moe" if config.model_type == "qwen3_moe" and raw else ARCHITECTURES[config.model_type]


def settings(config: ModelConfig) -> dict[str, Scalar]:
    """The architecture's settings, each to be written as `ARCHITECTURE.NAME`; UserError for scaling it has not."""
    values: dict[str, Scalar] = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "vocab_size": config.vocab_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.dimension_count": config.head_dim,
        "rope.freq_base": config.rope_theta,
    }
    if config.family.experts:
        values |= {
            "leading_dense_block_count": 0,
            "expert_count": config.num_experts,
            "expert_used_count": config.num_experts_per_tok,
            "expert_feed_forward_length": config.moe_intermediate_size,
            "expert_shared_count": 1 if adds_zeros(config) else config.n_shared_experts,
            "expert_weights_norm": config.norm_topk_prob,
            "expert_weights_scale": config.routed_scaling_factor,
            "expert_gating_func": SIGMOID if config.family.sigmoid else SOFTMAX,
        }
    if config.original_max_position_embeddings is not None:
        values["rope.scaling.original_context_length"] = config.original_max_position_embeddings
    return values | _rope_scaling(config)


def _rope_scaling(config: ModelConfig) -> dict[str, Scalar]:
    scaling = config.rope_scaling
    if scaling is None:
        return {}
    if scaling.rope_type == "dynamic":
        raise UserError("GGUF: llama.cpp has no dynamic rope_scaling; choose yarn or linear, or export without it")
    values: dict[str, Scalar] = {"rope.scaling.type": scaling.rope_type, "rope.scaling.factor": scaling.factor}
    if scaling.rope_type == "linear":
        return values
    builtin = replace(scaling, beta_fast=32.0, beta_slow=1.0)
    if not torch.equal(inverse_frequencies(config), inverse_frequencies(replace(config, rope_scaling=builtin))):
        raise UserError(
            "GGUF: llama.cpp computes yarn with beta_fast 32 and beta_slow 1 only; export without rope_scaling, "
            "or train the stretched model with these"
        )
    attention = yarn_attention(scaling.factor)
    return values | {"rope.scaling.attn_factor": (scaling.attention_factor or attention) / attention}


def yarn_attention(factor: float) -> float:
    """YaRN's own attention factor (equation 22): llama.cpp applies it always, and a file's factor on top."""
    return 1 + 0.1 * math.log(factor)


def adds_zeros(config: ModelConfig) -> bool:
    """Whether llama.cpp computes a shared expert that the model has not; one of zeros adds nothing."""
    return architecture(config) == "glm4moe" and not config.n_shared_experts


def tensors(model: Transformer) -> Iterator[tuple[str, torch.Tensor]]:
    """All tensors by llama.cpp's names."""
    config, kind = model.config, architecture(model.config)
    for name, tensor in model.state_dict().items():
        turned = neighbors(tensor, config.head_dim) if is_turned(name, kind) else tensor
        yield name_in_file(name, kind), turned
    if config.tie_word_embeddings and kind in UNTIED:
        yield name_in_file("lm_head.weight", kind), model.output_weight.detach()
    for layer in range(config.num_hidden_layers if kind == "glm4moe" else 0):
        if not config.family.sigmoid:
            yield f"blk.{layer}.{NAMES['mlp.gate.e_score_correction_bias']}", torch.zeros(config.num_experts)
        if adds_zeros(config):
            D, F = config.hidden_size, config.moe_intermediate_size
            for side, shape in (("gate", (F, D)), ("up", (F, D)), ("down", (D, F))):
                yield f"blk.{layer}.ffn_{side}_shexp.weight", torch.zeros(shape)


def name_in_file(name: str, kind: str) -> str:
    """llama.cpp's name, in a file of architecture `kind`, of a tensor of our model's state."""
    prefix, part = "", name
    if name.startswith("model.layers."):
        _, _, layer, part = name.split(".", 3)
        prefix = f"blk.{layer}."
    theirs = NAMES[part.removesuffix(".weight")]
    if kind == "glm4moe" and theirs == "ffn_norm":
        theirs = "post_attention_norm"
    return prefix + (theirs if "." in theirs else f"{theirs}.weight")


def is_turned(name: str, kind: str) -> bool:
    """Whether the rows of this tensor of our model's state stand in another order in the file."""
    return kind in NEIGHBOURS and name.endswith(("self_attn.q_proj.weight", "self_attn.k_proj.weight"))
