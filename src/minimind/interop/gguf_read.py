"""A GGUF file as a model of ours: what `export_gguf` wrote, or llama.cpp's own tools of the same architectures.

Numbers come out in fp32 as the file's types hold them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from minimind.errors import UserError
from minimind.interop.gguf_file import Stored, read
from minimind.interop.gguf_model import (
    ARCHITECTURES,
    SIGMOID,
    SOFTMAX,
    is_turned,
    name_in_file,
    yarn_attention,
)
from minimind.interop.gguf_tokenizer import restore
from minimind.interop.rotary_pairs import halves
from minimind.model import ModelConfig, Transformer
from minimind.model.config import FAMILIES, RopeScaling
from minimind.model.hf.config import naming, typed_fields
from minimind.model.hf.fit import check_sizes
from minimind.tokenizer import Tokenizer

MODEL_TYPES = {theirs: ours for ours, theirs in ARCHITECTURES.items()}


@dataclass
class File:
    """What a file holds."""

    where: str
    kind: str
    """llama.cpp's name of the architecture"""
    fields: dict[str, Any]
    tensors: dict[str, Stored]

    def get(self, name: str, *default: Any) -> Any:
        """A setting of the architecture; UserError where it is missing and has no default."""
        value = self.fields.get(f"{self.kind}.{name}", *default)
        if value is None and not default:
            raise UserError(f"{self.where}: setting {self.kind}.{name} is missing; the file is damaged")
        if isinstance(value, list):
            raise UserError(f"{self.where}: {self.kind}.{name} differs between layers, which is not supported")
        # The shortest decimal number that its 32 bits stand for: 1e-6, and not 9.99999997e-07.
        return float(str(np.float32(value))) if isinstance(value, float) else value


def read_gguf(path: str | Path) -> tuple[Transformer, Tokenizer]:
    """The model, in evaluation mode, and tokenizer of a file; UserError for one not supported or damaged."""
    fields, tensors = read(Path(path))
    kind = fields.get("general.architecture")
    if kind not in MODEL_TYPES:
        raise UserError(f"{path}: architecture {kind!r} is not supported; supported are {', '.join(MODEL_TYPES)}")
    file = File(str(path), kind, fields, tensors)
    if fields.get("split.count", 1) > 1:
        raise UserError(f"{path} is one of several parts; join them with llama.cpp's `llama-gguf-split --merge`")
    tokenizer = restore(fields, file.where)
    try:
        config = _config(file)
    except (TypeError, ArithmeticError) as error:
        raise UserError(f"{path}: its settings are damaged ({error}); copy or download it again") from None
    _check(config, file)
    model = Transformer(config, seed=None)
    with torch.no_grad():
        for name, place in model.state_dict().items():
            numbers = tensors[name_in_file(name, kind)].numbers()
            place.copy_(halves(numbers, config.head_dim) if is_turned(name, kind) else numbers)
    return model.eval(), tokenizer


def _config(file: File) -> ModelConfig:
    heads, width = file.get("attention.head_count"), file.get("embedding_length")
    values: dict[str, Any] = {
        "model_type": MODEL_TYPES[file.kind],
        "vocab_size": len(file.fields["tokenizer.ggml.tokens"]),
        "hidden_size": width,
        "intermediate_size": file.get("feed_forward_length"),
        "num_hidden_layers": file.get("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": file.get("attention.head_count_kv", heads),
        "head_dim": file.get("attention.key_length", width // max(heads, 1)),
        "max_position_embeddings": file.get("context_length"),
        "original_max_position_embeddings": file.get("rope.scaling.original_context_length", None),
        "rope_theta": file.get("rope.freq_base", 1e4),
        "rope_scaling": _rope_scaling(file),
        "rms_norm_eps": file.get("attention.layer_norm_rms_epsilon"),
        "tie_word_embeddings": _tied(file.tensors),
    }
    _refuse(file, values["head_dim"])
    if FAMILIES[values["model_type"]].experts:
        values |= _experts(file)
    scaling = values.pop("rope_scaling")
    fields = typed_fields(ModelConfig, values, file.where)
    with naming(file.where):
        return ModelConfig(**fields, rope_scaling=scaling)


def _refuse(file: File, channels: int) -> None:
    """UserError for a setting under which llama.cpp computes something else than our model."""
    demanded = {
        "attention.value_length": channels,
        "rope.dimension_count": channels,
        "leading_dense_block_count": 0,
        "nextn_predict_layers": 0,
        "attention.sliding_window": 0,
    }
    if not FAMILIES[MODEL_TYPES[file.kind]].experts:
        demanded["expert_count"] = 0
    for name, wanted in demanded.items():
        if file.get(name, wanted) != wanted:
            raise UserError(f"{file.where}: {file.kind}.{name} = {file.get(name)!r} is not supported")


def _rope_scaling(file: File) -> RopeScaling | None:
    kind, trained = file.get("rope.scaling.type", "none"), file.get("rope.scaling.original_context_length", None)
    if kind == "none":
        return None
    if kind not in ("linear", "yarn"):
        raise UserError(f"{file.where}: rope.scaling.type {kind!r} is not supported; supported are linear and yarn")
    factor = file.get("rope.scaling.factor")
    with naming(file.where):
        if kind == "linear":
            return RopeScaling("linear", factor, trained)
        on_top = file.get("rope.scaling.attn_factor", 1.0)
        attention = None if on_top == 1 else float(f"{on_top * yarn_attention(factor):.6g}")
        # Betas in a file are not read by llama.cpp either, in these architectures.
        return RopeScaling("yarn", factor, trained or file.get("context_length"), attention_factor=attention)


def _tied(tensors: dict[str, Stored]) -> bool:
    """Whether the output matrix is the embedding: left out, or a copy of it."""
    output, embedding = tensors.get("output.weight"), tensors.get("token_embd.weight")
    if output is None or embedding is None:
        return True
    return output.kind == embedding.kind and np.array_equal(output.data, embedding.data)


def _experts(file: File) -> dict[str, Any]:
    count, chosen, shared = (file.get(f"expert_{name}", 0) for name in ("count", "used_count", "shared_count"))
    values = {
        "num_experts": count,
        "num_experts_per_tok": chosen,
        "moe_intermediate_size": file.get("expert_feed_forward_length"),
        "n_shared_experts": shared,
        "norm_topk_prob": file.get("expert_weights_norm", False),
        "routed_scaling_factor": file.get("expert_weights_scale", 0.0) or 1.0,
    }
    if file.kind == "qwen3moe":  # it always divides by the sum, whatever the file says
        values["norm_topk_prob"] = file.get("expert_weights_norm", True) or chosen < count
    if file.kind == "glm4moe":
        if not any(t.numbers().any() for name, t in file.tensors.items() if name.endswith("ffn_down_shexp.weight")):
            values["n_shared_experts"] = 0  # zeros stand for none, see gguf_model.adds_zeros
        if file.get("expert_gating_func", SIGMOID) == SOFTMAX:
            values["model_type"] = "qwen3_moe"
    return values


def _check(config: ModelConfig, file: File) -> None:
    """UserError naming a tensor that is missing, of another shape or left over."""
    left = dict(file.tensors)
    check_sizes(config, {name: tensor.shape for name, tensor in left.items()}, file.where)
    with torch.device("meta"):
        expected = Transformer(config, seed=None).state_dict()
    for name, place in expected.items():
        theirs, wanted = name_in_file(name, file.kind), tuple(place.shape)
        if theirs not in left:
            raise UserError(f"{file.where}: tensor {theirs} is missing")
        shape = left.pop(theirs).shape
        if shape != wanted:
            raise UserError(f"{file.where}: tensor {theirs} has shape {shape}, its settings say {wanted}")
    for theirs, tensor in left.items():
        copy_of_embedding = theirs == "output.weight"
        zeros = file.kind == "glm4moe" and theirs.endswith(("_shexp.weight", "exp_probs_b.bias"))
        if not copy_of_embedding and not (zeros and not tensor.numbers().any()):
            raise UserError(f"{file.where}: tensor {theirs} is not supported")
