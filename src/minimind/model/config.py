"""The shape of a model, in Hugging Face's names, and its `config.json`."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

from minimind.errors import UserError
from minimind.typed import convert, expected

ARCHITECTURES = {"qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM"}


@dataclass(frozen=True)
class ModelConfig:
    """A dense decoder: pre-norm RMSNorm, grouped-query attention, rotary positions, SwiGLU."""

    model_type: Literal["qwen3", "llama"] = "qwen3"
    """qwen3 normalises queries and keys per head, llama does not"""
    vocab_size: int = 6400
    """number of token ids"""
    hidden_size: int = 512
    """model width D"""
    intermediate_size: int | None = None
    """feed-forward width F; default: pi * D rounded up to a multiple of 64"""
    num_hidden_layers: int = 8
    """number of blocks"""
    num_attention_heads: int = 8
    """number of query heads H"""
    num_key_value_heads: int | None = None
    """number of key/value heads K, a divisor of H; default: H"""
    head_dim: int | None = None
    """channels of a head C; default: D / H"""
    max_position_embeddings: int = 32768
    """longest context that is claimed to work, in tokens"""
    rope_theta: float = 1e6
    """base of the rotary frequencies"""
    rms_norm_eps: float = 1e-6
    """added to the mean square inside RMSNorm"""
    tie_word_embeddings: bool = True
    """the output projection is the input embedding"""

    def __post_init__(self) -> None:
        fill = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731  (frozen)
        for name, value in vars(self).items():
            if isinstance(value, (int, float)) and not isinstance(value, bool) and value <= 0:
                raise UserError(f"model.{name} must be more than 0, not {value}")
        if self.model_type not in ARCHITECTURES:
            known = ", ".join(ARCHITECTURES)
            raise UserError(f"model_type {self.model_type!r} is not supported; known: {known}")
        if self.intermediate_size is None:
            fill("intermediate_size", math.ceil(math.pi * self.hidden_size / 64) * 64)
        if self.num_key_value_heads is None:
            fill("num_key_value_heads", self.num_attention_heads)
        if self.head_dim is None:
            if self.hidden_size % self.num_attention_heads:
                raise UserError(
                    f"model.hidden_size {self.hidden_size} is not a multiple of model.num_attention_heads "
                    f"{self.num_attention_heads}; change one of them or set model.head_dim"
                )
            fill("head_dim", self.hidden_size // self.num_attention_heads)
        if self.num_attention_heads % self.kv_heads:
            raise UserError(
                f"model.num_attention_heads {self.num_attention_heads} is not a multiple of "
                f"model.num_key_value_heads {self.kv_heads}"
            )
        if self.channels % 2:
            raise UserError(f"model.head_dim {self.channels} must be even: rotary embeddings turn pairs")

    # The three optional fields are filled in above; these say so to the type checker.
    @property
    def ffn_size(self) -> int:
        assert self.intermediate_size is not None
        return self.intermediate_size

    @property
    def kv_heads(self) -> int:
        assert self.num_key_value_heads is not None
        return self.num_key_value_heads

    @property
    def channels(self) -> int:
        assert self.head_dim is not None
        return self.head_dim

    @property
    def qk_norm(self) -> bool:
        return self.model_type == "qwen3"

    def to_hf(self) -> dict[str, Any]:
        """The content of `config.json`, readable by transformers 4.5x and 5.x with no remote code."""
        return {
            "architectures": [ARCHITECTURES[self.model_type]],
            **asdict(self),
            "hidden_act": "silu",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "mlp_bias": False,
            "rope_scaling": None,
            "use_sliding_window": False,
            "torch_dtype": "float32",
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
        }

    @classmethod
    def from_hf(cls, config: dict[str, Any], where: str = "config.json") -> ModelConfig:
        """Read a Hugging Face config; what would change the computation and is not supported is refused."""
        rope = config.get("rope_parameters") or {}  # transformers 5 nests theta here
        config = {"rope_theta": rope.get("rope_theta", 1e4), **config}
        scaling_name = "rope_scaling" if config.get("rope_scaling") else "rope_parameters"
        scaling = config.get(scaling_name) or {}
        refused = {
            "hidden_act": config.get("hidden_act", "silu") != "silu",
            "attention_bias": bool(config.get("attention_bias")),
            "mlp_bias": bool(config.get("mlp_bias")),
            scaling_name: scaling.get("rope_type", scaling.get("type", "default")) != "default",
            "use_sliding_window": bool(config.get("use_sliding_window")),
        }
        for name, is_refused in refused.items():
            if is_refused:
                raise UserError(f"{where}: {name} = {config[name]!r} is not supported")
        if config.get("model_type") not in ARCHITECTURES:
            raise UserError(
                f"{where}: model_type {config.get('model_type')!r} is not supported; "
                f"known: {', '.join(ARCHITECTURES)}"
            )
        # Where Hugging Face's default for an absent value is not ours, it is taken or the value is required.
        config = {"tie_word_embeddings": False, **config}
        required = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"]
        required += ["max_position_embeddings"]
        if config["model_type"] == "qwen3":
            required += ["num_key_value_heads", "head_dim"]
        if missing := [name for name in required if name not in config]:
            raise UserError(f"{where}: {', '.join(missing)} missing")
        fields = {}
        for name, hint in get_type_hints(cls).items():
            if name in config:
                try:
                    fields[name] = convert(config[name], hint)
                except ValueError:
                    raise UserError(f"{where}: {name} must be {expected(hint)}, not {config[name]!r}") from None
        return cls(**fields)

    @classmethod
    def load(cls, directory: str | Path) -> ModelConfig:
        path = Path(directory) / "config.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{directory} is no model directory: it has no config.json") from None
        except ValueError as error:
            raise UserError(f"{path} is not valid JSON: {error}") from None
        if not isinstance(content, dict):
            raise UserError(f"{path} is no JSON object")
        return cls.from_hf(content, str(path))
