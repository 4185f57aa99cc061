"""The public MiniMind project's versions: what their published weights are where the tensors do not say.

Source: the configurations of github.com/jingyaogong/minimind, 2024 to 2026.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from reprlib import repr as shown
from typing import Any

from minimind.errors import UserError
from minimind.model.config import EXPERT_COUNTS, ModelConfig, RopeScaling
from minimind.model.hf.config import json_object, naming, typed_fields
from minimind.util.suggest import did_you_mean


@dataclass(frozen=True)
class Version:
    """One version, and the Hugging Face classes that compute the same."""

    early: bool
    """the earlier names (`tok_embeddings`, `attention.wq` …), and rotary pairs of neighboring channels"""
    dense: str
    """model_type without experts"""
    sparse: str
    """model_type with experts"""
    defaults: dict[str, Any]
    """the project's settings for what neither tensors nor a config say"""


_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "norm_topk_prob": True, "n_shared_experts": 1}
_MINIMIND2 = {
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "rope_theta": 1e6,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 32768,
    "original_max_position_embeddings": 2048,
    **_EXPERTS,
}
_LEGACY = {**_MINIMIND2, "max_position_embeddings": 8192}
_V1 = {
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "rope_theta": 1e4,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 512,
    "original_max_position_embeddings": 512,
    **_EXPERTS,
}
_MINIMIND3 = {
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "rope_theta": 1e6,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 32768,
    "original_max_position_embeddings": 2048,
    **_EXPERTS,
    "num_experts_per_tok": 1,
    "n_shared_experts": 0,
}
VERSIONS = {
    "minimind-v1": Version(True, "llama", "qwen2_moe", _V1),
    "minimind2-legacy": Version(True, "llama", "qwen2_moe", _LEGACY),
    "minimind2": Version(False, "llama", "qwen2_moe", _MINIMIND2),
    "minimind-3": Version(False, "qwen3", "qwen3_moe", _MINIMIND3),
}
YARN = RopeScaling("yarn", 16.0, beta_fast=32.0, beta_slow=1.0, attention_factor=1.0)

OUR_NAMES = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "hidden_dim": "intermediate_size",
    "norm_eps": "rms_norm_eps",
    "max_seq_len": "max_position_embeddings",
    "n_routed_experts": "num_experts",
}
SWITCHES = ("use_moe", "inference_rope_scaling")
DEMANDED = {"hidden_act": "silu", "scoring_func": "softmax"}
KNOWN = {field.name for field in fields(ModelConfig)} - {"model_type", "routed_scaling_factor"}
KNOWN |= {*SWITCHES, *DEMANDED, "rope_parameters"}
ABOUT = {"generation", "arguments", "seed", "state_dict_keys"}  # what a config says beside the settings
# Of training or of text generation: no part of the computation.
WITHOUT_EFFECT = {
    *("dropout", "flash_attn", "multiple_of", "aux_loss_alpha", "seq_aux", "router_aux_loss_coef"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "torch_dtype", "dtype", "architectures", "auto_map"),
}


@dataclass(frozen=True)
class UpstreamSettings:
    """What a config says about a model, in our names."""

    where: str
    """the file, for messages"""
    values: dict[str, Any]
    version: str | None = None


def read_settings(content: dict[str, Any], where: str) -> UpstreamSettings:
    """Read a config in the earlier or the later naming; UserError for a setting that is unknown or unsupported.

    The settings may lie under `arguments`, beside the version's name as `generation`. A config that transformers
    wrote (it names a model_type) holds settings of transformers' own, which are passed over.
    """
    version, arguments = content.get("generation"), content.get("arguments", {})
    if version not in (None, *VERSIONS):
        raise UserError(f"{where}: version {shown(version)} is unknown; there are {', '.join(VERSIONS)}")
    if not isinstance(arguments, dict):
        raise UserError(f"{where}: arguments must be a JSON object, not {shown(arguments)}")
    entries = {name: value for name, value in content.items() if name not in ABOUT} | arguments
    by_transformers = "model_type" in entries
    values: dict[str, Any] = {}
    for theirs, value in entries.items():
        name = OUR_NAMES.get(theirs, theirs)
        if by_transformers and theirs != name and name in entries:
            continue  # minimind2's class kept a max_seq_len that it was given and did not read
        if name in KNOWN:
            if values.setdefault(name, value) != value:
                first = next(key for key in entries if OUR_NAMES.get(key, key) == name)
                raise UserError(
                    f"{where}: {first} = {shown(entries[first])} and {theirs} = {shown(value)} contradict "
                    "each other"
                )
        elif not by_transformers and name not in WITHOUT_EFFECT:
            hint = did_you_mean(theirs, [*KNOWN, *OUR_NAMES], "it is none of the public MiniMind's")
            raise UserError(f"{where}: unknown setting {theirs!r}; {hint}")
    for name in SWITCHES:
        if not isinstance(values.get(name, False), bool):
            raise UserError(f"{where}: {name} must be true or false, not {shown(values[name])}")
    for name, demanded in DEMANDED.items():
        if values.get(name, demanded) != demanded:
            raise UserError(f"{where}: {name} = {shown(values[name])} is not supported, only {demanded!r}")
    return UpstreamSettings(where, values, version)


def model_config(name: str, settings: UpstreamSettings, shape: dict[str, Any]) -> ModelConfig:
    """Join what the settings say, else the `shape` that the tensors show, else the version's defaults."""
    version, values, where = VERSIONS[name], dict(settings.values), settings.where
    if version.early and "n_shared_experts" in values:  # there is one, whatever is given but null
        values["n_shared_experts"] = int(values["n_shared_experts"] is not None)
    # null stands for what the version does by itself, except that there it means as many as there are heads
    values = {key: value for key, value in values.items() if value is not None or key == "num_key_value_heads"}
    scaling = _rope_scaling(values, where)
    if scaling and scaling.original_max_position_embeddings:
        values.setdefault("original_max_position_embeddings", scaling.original_max_position_embeddings)
    merged = {**version.defaults, **shape, **values, "model_type": version.dense}
    if merged["use_moe"]:
        merged["model_type"] = version.sparse
        if "intermediate_size" in merged:
            merged.setdefault("moe_intermediate_size", merged["intermediate_size"])
        if version.sparse == "qwen2_moe" and not merged["n_shared_experts"]:
            raise UserError(f"{where}: {name} with experts, none of them shared, is not supported")
        if version.sparse == "qwen2_moe" and merged["num_experts_per_tok"] == 1:
            merged["norm_topk_prob"] = False  # these versions leave a single weight as it is
    else:
        merged = {key: value for key, value in merged.items() if key not in EXPERT_COUNTS}
    typed = typed_fields(ModelConfig, merged, where)
    with naming(where):
        config = ModelConfig(**typed)
        assert config.original_max_position_embeddings is not None, "all versions have a default"
        # Up to the trained length the project leaves the positions as they are, even where it is switched on.
        if scaling is None or config.max_position_embeddings <= config.original_max_position_embeddings:
            return config
        return replace(config, rope_scaling=scaling)


def _rope_scaling(values: dict[str, Any], where: str) -> RopeScaling | None:
    """Taken out of `values`: their YaRN, switched on by `inference_rope_scaling`, with constants of its own.

    transformers 5 writes it into `rope_parameters`, together with theta, which goes to its own place.
    """
    nested, scaling = (json_object(values, name, where) for name in ("rope_parameters", "rope_scaling"))
    values.pop("rope_parameters", None)
    values.pop("rope_scaling", None)
    if "rope_theta" in nested:
        values.setdefault("rope_theta", nested["rope_theta"])
    if not scaling and nested.get("rope_type", "default") != "default":
        scaling = nested
    if not values.get("inference_rope_scaling", bool(scaling)):
        return None
    if not scaling:
        return YARN
    kind = scaling.get("type") or scaling.get("rope_type")  # the former is the old name
    constants = {key: value for key, value in scaling.items() if key not in ("type", "rope_type", "rope_theta")}
    if kind != "yarn":
        raise UserError(f"{where}: rope_scaling of type {shown(kind)} is not supported, only 'yarn'")
    if unknown := sorted(constants.keys() - {field.name for field in fields(RopeScaling)}):
        raise UserError(f"{where}: rope_scaling.{unknown[0]} is not supported")
    if "attention_factor" not in constants:
        # Their first formula, of autumn 2025, was none that Hugging Face's classes can compute.
        raise UserError(
            f"{where}: rope_scaling without attention_factor is an early formula that is not supported; take it "
            "and inference_rope_scaling out for contexts as long as in training, or give attention_factor 1.0"
        )
    with naming(where):
        return replace(YARN, **typed_fields(RopeScaling, constants, "rope_scaling"))
