"""The shape of a model, in Hugging Face's names."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from minimind.errors import UserError
from minimind.util.typed import DerivedInt, Range, check_fields

Width = Annotated[int, Range(1, 2**20)]
Length = Annotated[int, Range(1, 2**30)]
Turns = Annotated[float, Range(0, 1e6, above=True)]


@dataclass(frozen=True)
class Family:
    """What a Hugging Face architecture computes; `model_type` chooses one, and nothing else is built."""

    architecture: str
    """the language model"""
    classifier: str = ""
    """the reward model: the same with a score head; none: Hugging Face has no such class"""
    qk_norm: bool = False
    """queries and keys are normalized per head"""
    experts: bool = False
    """the feed-forward part is a mixture of experts"""
    shared: bool = False
    """every token also passes through shared experts"""
    sigmoid: bool = False
    """experts are scored by sigmoids, with a bias that only chooses (DeepSeek-V3), and not by a softmax"""


FAMILIES = {
    "qwen3": Family("Qwen3ForCausalLM", "Qwen3ForSequenceClassification", qk_norm=True),
    "llama": Family("LlamaForCausalLM", "LlamaForSequenceClassification"),
    "qwen3_moe": Family("Qwen3MoeForCausalLM", "Qwen3MoeForSequenceClassification", qk_norm=True, experts=True),
    "qwen2_moe": Family("Qwen2MoeForCausalLM", "Qwen2MoeForSequenceClassification", experts=True, shared=True),
    "glm4_moe": Family("Glm4MoeForCausalLM", qk_norm=True, experts=True, shared=True, sigmoid=True),
}
SPARSE = [name for name, family in FAMILIES.items() if family.experts]
EXPERT_COUNTS = ("num_experts", "num_experts_per_tok", "moe_intermediate_size", "n_shared_experts")  # 0 when dense


@dataclass(frozen=True)
class RopeScaling:
    """How rotary positions are stretched beyond the length a model was trained at."""

    rope_type: Literal["linear", "dynamic", "yarn"] = "yarn"
    """linear divides all positions; dynamic (NTK) raises theta with the length; yarn stretches slow channels"""
    factor: Annotated[float, Range(1, 1e6)] = 1.0
    """how many times longer"""
    original_max_position_embeddings: Length | None = None
    """length the model was trained at; default: what the model records, or else (not linear) its longest context"""
    beta_fast: Turns = 32.0
    """yarn: channels that turn more often than this over the original length are left as they are"""
    beta_slow: Turns = 1.0
    """yarn: channels that turn less often than this are stretched by the whole factor"""
    attention_factor: Annotated[float | None, Range(0, 1000, above=True)] = None
    """yarn: what queries and keys are multiplied by, which sharpens attention; default: 0.1 ln(factor) + 1"""

    def __post_init__(self) -> None:
        check_fields(self, "model.rope_scaling.")


@dataclass(frozen=True)
class ModelConfig:
    """A decoder: pre-norm RMSNorm, grouped-query attention, rotary positions, SwiGLU, dense or with experts."""

    model_type: Literal["qwen3", "llama", "qwen3_moe", "qwen2_moe", "glm4_moe"] = "qwen3"
    """qwen3: queries and keys normalized per head; llama: not. With experts: qwen3_moe as qwen3, softmax router;
    qwen2_moe as llama, softmax router, shared experts; glm4_moe as qwen3, sigmoid router, shared experts if any"""
    vocab_size: Annotated[int, Range(1, 2**24)] = 6400
    """number of token ids"""
    hidden_size: Width = 512
    """model width D"""
    intermediate_size: Annotated[DerivedInt, Range(1, 2**20)] = None
    """feed-forward width F; default: pi * D rounded up to a multiple of 64"""
    num_hidden_layers: Annotated[int, Range(1, 10_000)] = 8
    """number of blocks"""
    num_attention_heads: Width = 8
    """number of query heads H"""
    num_key_value_heads: Annotated[DerivedInt, Range(1, 2**20)] = None
    """number of key/value heads K, a divisor of H; default: H"""
    head_dim: Annotated[DerivedInt, Range(2, 2**20)] = None
    """channels of a head C; default: D / H"""
    max_position_embeddings: Length = 32768
    """longest context that is claimed to work, in tokens"""
    original_max_position_embeddings: Length | None = None
    """length the model was trained at, in tokens, from which it can be stretched; none: not recorded"""
    rope_theta: Annotated[float, Range(1, 1e12, above=True)] = 1e6
    """base of the rotary frequencies"""
    rope_scaling: RopeScaling | None = None
    """stretching of the rotary positions to contexts longer than the model was trained at"""
    rms_norm_eps: Annotated[float, Range(0, 1, above=True)] = 1e-6
    """added to the mean square inside RMSNorm"""
    tie_word_embeddings: bool = True
    """the output projection is the input embedding"""
    num_labels: Annotated[int, Range(0, 1)] = 0
    """1: a score head in the place of the output projection, a reward model, as the stage reward makes it"""
    num_experts: Annotated[int, Range(0, 2**16)] = 0
    """number of routed experts E; default: 4 in a family with experts"""
    num_experts_per_tok: Annotated[int, Range(0, 2**16)] = 0
    """routed experts that a token passes through; default: 2 in a family with experts"""
    moe_intermediate_size: Annotated[int, Range(0, 2**20)] = 0
    """width of one expert; default: intermediate_size in a family with experts"""
    n_shared_experts: Annotated[int, Range(0, 2**16)] = 0
    """experts that every token passes through, each as wide as a routed one; default: 1 in qwen2_moe"""
    norm_topk_prob: bool = True
    """a token's expert weights are divided by their sum"""
    routed_scaling_factor: Annotated[float, Range(0, 1e6, above=True)] = 1.0
    """what the routed experts' output is multiplied by (glm4_moe only)"""

    def __post_init__(self) -> None:
        if self.model_type not in FAMILIES:
            raise UserError(f"model_type {self.model_type!r} is not supported; known: {', '.join(FAMILIES)}")
        check_fields(self, "model.")
        if self.intermediate_size is None:
            self._fill("intermediate_size", math.ceil(math.pi * self.hidden_size / 64) * 64)
        if self.num_key_value_heads is None:
            self._fill("num_key_value_heads", self.num_attention_heads)
        if self.head_dim is None:
            if self.hidden_size % self.num_attention_heads:
                raise UserError(
                    f"model.hidden_size {self.hidden_size} is not a multiple of model.num_attention_heads "
                    f"{self.num_attention_heads}; change one of them or set model.head_dim"
                )
            self._fill("head_dim", self.hidden_size // self.num_attention_heads)
        if self.num_attention_heads % self.num_key_value_heads:
            raise UserError(
                f"model.num_attention_heads {self.num_attention_heads} is not a multiple of "
                f"model.num_key_value_heads {self.num_key_value_heads}"
            )
        if self.head_dim % 2:
            raise UserError(f"model.head_dim {self.head_dim} must be even: rotary embeddings turn pairs")
        if self.rope_scaling is not None:
            self._complete_rope(self.rope_scaling)
        if self.num_labels and not self.family.classifier:
            known = ", ".join(name for name, family in FAMILIES.items() if family.classifier)
            raise UserError(f"Hugging Face has no reward model of model_type {self.model_type}; it has of {known}")
        self._complete_experts() if self.family.experts else self._refuse_experts()

    def _complete_rope(self, scaling: RopeScaling) -> None:
        """Both records of the trained length, filled in as transformers takes them, or refused if they differ."""
        recorded, longest = self.original_max_position_embeddings, self.max_position_embeddings
        trained = scaling.original_max_position_embeddings or recorded
        if scaling.rope_type != "linear":  # which does not depend on it
            trained = trained or longest
        # In `dynamic`, transformers takes max_position_embeddings for it, whatever else is recorded.
        for other in (recorded, longest if scaling.rope_type == "dynamic" else None):
            if other not in (None, trained):
                raise UserError(
                    f"model.rope_scaling: was the model trained at {trained} tokens or at {other}? both values of "
                    "original_max_position_embeddings must be equal, and with dynamic max_position_embeddings too"
                )
        if scaling.rope_type == "dynamic" and self.head_dim < 4:
            raise UserError(f"model.head_dim {self.head_dim} leaves dynamic nothing to stretch; take at least 4")
        self._fill("original_max_position_embeddings", trained)
        self._fill("rope_scaling", replace(scaling, original_max_position_embeddings=trained))

    def _complete_experts(self) -> None:
        if not self.num_experts:
            self._fill("num_experts", 4)
        if not self.num_experts_per_tok:
            self._fill("num_experts_per_tok", 2)
        if not self.moe_intermediate_size:
            self._fill("moe_intermediate_size", self.intermediate_size)
        if self.model_type == "qwen2_moe" and not self.n_shared_experts:
            self._fill("n_shared_experts", 1)
        if not 1 < self.num_experts >= self.num_experts_per_tok:
            raise UserError(
                f"model.num_experts {self.num_experts} must be at least 2 and not less than "
                f"model.num_experts_per_tok {self.num_experts_per_tok}"
            )
        if self.n_shared_experts and not self.family.shared:
            raise UserError(f"{self.model_type} has no shared experts; take model_type qwen2_moe or glm4_moe")
        if self.routed_scaling_factor != 1 and not self.family.sigmoid:
            raise UserError(
                f"{self.model_type} has no routed_scaling_factor; take model_type glm4_moe or leave it 1"
            )

    def _refuse_experts(self) -> None:
        for name in EXPERT_COUNTS:
            if getattr(self, name):
                known = ", ".join(SPARSE)
                raise UserError(f"model.{name}: {self.model_type} has no experts; model_types that have: {known}")

    def _fill(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # the class is frozen

    @property
    def family(self) -> Family:
        return FAMILIES[self.model_type]

    @property
    def architecture(self) -> str:
        """The class in Hugging Face's transformers."""
        return self.family.classifier if self.num_labels else self.family.architecture

    @property
    def context_length(self) -> int:
        """Longest text that it is meant for, in tokens."""
        if self.rope_scaling is not None and self.rope_scaling.rope_type == "dynamic":
            return round(self.rope_scaling.factor * self.max_position_embeddings)  # the trained length there
        return self.max_position_embeddings
