"""`config.json`: a ModelConfig as Hugging Face's classes read it, and back.

What would change the computation and is not supported is refused by name; nothing is passed over in silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from reprlib import repr as shown
from typing import Any

import torch

from minimind.errors import UserError
from minimind.model.config import FAMILIES, ModelConfig, RopeScaling
from minimind.model.hf.adapter import find_base, has_head, is_adapter
from minimind.model.hf.files import read_shapes, weight_files
from minimind.model.hf.fit import check_weights
from minimind.util.json_files import read_json
from minimind.util.typed import convert, expected, hints

EXPERT_FIELDS = (
    "num_experts",
    "num_experts_per_tok",
    "moe_intermediate_size",
    "n_shared_experts",
    "norm_topk_prob",
    "routed_scaling_factor",
)
# What each rope_type reads of rope_scaling; transformers warns of more. The trained length also stands beside it.
ROPE_FIELDS: dict[str, set[str]] = {
    "linear": {"rope_type", "factor"},
    "dynamic": {"rope_type", "factor"},
    "yarn": set(hints(RopeScaling)),
}
# Settings that a family's class has and our model computes one value of: what is written, and demanded.
FIXED: dict[str, dict[str, Any]] = {
    "qwen3_moe": {"decoder_sparse_step": 1, "mlp_only_layers": []},
    "qwen2_moe": {"decoder_sparse_step": 1, "mlp_only_layers": [], "qkv_bias": False},
    "glm4_moe": {
        "first_k_dense_replace": 0,
        "n_group": 1,
        "topk_group": 1,
        "use_qk_norm": True,
        "partial_rotary_factor": 1.0,
        "num_nextn_predict_layers": 0,
    },
}
# Hugging Face's values for what a file does not name, where they are not ours.
ABSENT: dict[str, dict[str, Any]] = {
    "qwen3_moe": {"norm_topk_prob": False, "decoder_sparse_step": 1, "mlp_only_layers": []},
    "qwen2_moe": {"norm_topk_prob": False, "decoder_sparse_step": 1, "mlp_only_layers": [], "qkv_bias": True},
    "glm4_moe": {
        "first_k_dense_replace": 1,
        "n_group": 1,
        "topk_group": 1,
        "use_qk_norm": False,
        "partial_rotary_factor": 0.5,
        "num_nextn_predict_layers": 0,  # the class ignores such layers
        "n_shared_experts": 1,
    },
}


def to_hf(config: ModelConfig, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """The content of `config.json`, readable by transformers 4.5x and 5.x with no remote code.

    `dtype` is that of the weights beside it.
    """
    fields = asdict(config)
    experts = {name: fields.pop(name) for name in EXPERT_FIELDS}
    if config.original_max_position_embeddings is None:
        del fields["original_max_position_embeddings"]  # transformers takes null for a length
    scaling = fields.pop("rope_scaling")
    if fields.pop("num_labels"):
        fields |= {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}  # whose number is that of the labels
    content = {
        "architectures": [config.architecture],
        **fields,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "rope_scaling": scaling
        and {n: v for n, v in scaling.items() if v is not None and n in ROPE_FIELDS[scaling["rope_type"]]},
        "use_sliding_window": False,
        "torch_dtype": str(dtype).removeprefix("torch."),
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    if not config.family.experts:
        return content
    if config.model_type == "glm4_moe":
        content |= {"n_routed_experts": experts.pop("num_experts"), **experts}
    else:
        del experts["routed_scaling_factor"]
        shared = experts.pop("n_shared_experts")
        content |= experts
        if config.family.shared:
            content["shared_expert_intermediate_size"] = shared * config.moe_intermediate_size
    return content | FIXED[config.model_type]


def from_hf(config: dict[str, Any], where: str = "config.json") -> ModelConfig:
    """Read a Hugging Face config; UserError naming what is missing, ill-typed or not supported."""
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise UserError(f"{where}: model_type {shown(kind)} is not supported; known: {', '.join(FAMILIES)}")
    config = _flat(config, where)
    _refuse(config, kind, where)
    # Where Hugging Face's default for an absent value is not ours, it is taken or the value is required.
    config = {"tie_word_embeddings": False, **config}
    required = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"]
    required += ["max_position_embeddings"]
    config["num_labels"] = _num_labels(config, where)
    if FAMILIES[kind].qk_norm:
        required += ["num_key_value_heads", "head_dim"]
    if FAMILIES[kind].experts:
        config = {**ABSENT[kind], **config}
        config = _our_names(config, kind, where)
        required += ["num_experts", "num_experts_per_tok", "moe_intermediate_size"]
    else:
        config = {name: value for name, value in config.items() if name not in EXPERT_FIELDS}
    if missing := [name for name in required if name not in config]:
        raise UserError(f"{where}: {', '.join(missing)} missing")
    scaling = config.pop("rope_scaling")
    fields = typed_fields(ModelConfig, config, where)
    if zero := [name for name in required if fields[name] == 0]:
        raise UserError(f"{where}: {zero[0]} must be more than 0, not 0")
    constants = typed_fields(RopeScaling, scaling or {}, f"{where}: rope_scaling")
    with naming(where):
        return ModelConfig(**fields, rope_scaling=RopeScaling(**constants) if scaling else None)


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Name the file in what is refused of the settings from it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def json_object(config: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    """A copy of the object that a config holds by this name, an empty one for none."""
    value = config.get(name)
    if not isinstance(value, dict | None):
        raise UserError(f"{where}: {name} must be a JSON object, not {shown(value)}")
    return dict(value or {})


def _flat(config: dict[str, Any], where: str) -> dict[str, Any]:
    """With theta and scaling where transformers 4 writes them; 5 nests both in `rope_parameters`."""
    config, rope = dict(config), json_object(config, "rope_parameters", where)
    config.setdefault("rope_theta", rope.pop("rope_theta", 1e4))
    if "partial_rotary_factor" in rope:
        config["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    scaling = json_object(config, "rope_scaling", where) or rope
    old_name = scaling.pop("type", None)
    scaling["rope_type"] = old_name or scaling.get("rope_type", "default")
    scaling.pop("rope_theta", None)
    plain = scaling["rope_type"] == "default" and scaling.keys() <= hints(RopeScaling).keys()
    config["rope_scaling"] = None if plain else scaling
    return config


def _refuse(config: dict[str, Any], kind: str, where: str) -> None:
    """UserError for a setting under which the class would compute something else than our model."""
    demanded: dict[str, Any] = {
        **dict.fromkeys(("attention_bias", "mlp_bias", "use_sliding_window", "quantization_config"), False),
        "hidden_act": "silu",
        "partial_rotary_factor": 1.0,
    }
    absent = {**demanded, **ABSENT.get(kind, {})}
    for name, value in {**demanded, **FIXED.get(kind, {})}.items():
        found = config.get(name, absent[name])
        if (found or value) and found != value:  # None, [] and False say the same
            raise UserError(f"{where}: {name} = {shown(found)} is not supported")
    kinds = config.get("layer_types") or []
    if not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds):
        raise UserError(f"{where}: layer_types = {shown(kinds)} is not supported, only full_attention")
    scaling = config["rope_scaling"] or {}
    if scaling and scaling["rope_type"] not in list(ROPE_FIELDS):
        raise UserError(
            f"{where}: rope_scaling = {shown(scaling)} is not supported; known: {', '.join(ROPE_FIELDS)}"
        )
    if scaling and "factor" not in scaling:
        raise UserError(f"{where}: rope_scaling.factor is missing")
    for name in sorted(scaling.keys() - hints(RopeScaling).keys()):
        if scaling[name] is not None and (name, scaling[name]) != ("truncate", True):  # that is what we compute
            raise UserError(f"{where}: rope_scaling.{name} = {shown(scaling[name])} is not supported")


def _num_labels(config: dict[str, Any], where: str) -> int:
    """Outputs of a score head: none of a language model, one of a reward model, and of a classifier too many."""
    classes = config.get("architectures") or [""]
    if not isinstance(classes, list) or not str(classes[0]).endswith("ForSequenceClassification"):
        return 0
    labels = json_object(config, "id2label", where)
    if len(labels) != 1:  # where none are named, there are 2
        count = len(labels) or 2
        raise UserError(f"{where}: a classifier of {count} labels is not supported; a reward model has 1")
    return 1


def _our_names(config: dict[str, Any], kind: str, where: str) -> dict[str, Any]:
    """A config with experts, its fields renamed to ours."""
    config = dict(config)
    for theirs in ("n_routed_experts", "num_local_experts"):  # the latter is what transformers 5 writes
        if theirs in config:
            config.setdefault("num_experts", config[theirs])
    if kind == "glm4_moe":
        return config
    config.pop("routed_scaling_factor", None)
    shared, size = (
        typed(config.get(name, 0), int, name, where)
        for name in ("shared_expert_intermediate_size", "moe_intermediate_size")
    )
    config["n_shared_experts"] = 0
    if FAMILIES[kind].shared:
        if not size or shared % size:
            raise UserError(
                f"{where}: shared_expert_intermediate_size {shared} is no multiple of moe_intermediate_size {size}"
            )
        config["n_shared_experts"] = shared // size
    return config


def typed_fields(owner: type, values: dict[str, Any], where: str) -> dict[str, Any]:
    """The values that are fields of `owner`, each as its field's type."""
    return {name: typed(values[name], hint, name, where) for name, hint in hints(owner).items() if name in values}


def typed(value: Any, hint: Any, name: str, where: str | Path) -> Any:
    """A value of a JSON file, where `"8"` is no number, as the type asks for it."""
    with suppress(ValueError):
        converted = convert(value, hint)
        if isinstance(converted, str) or not isinstance(value, str):
            return converted
    raise UserError(f"{where}: {name} must be {expected(hint)}, not {shown(value)}")


def read_config(directory: str | Path) -> ModelConfig:
    """The shape that a directory's `config.json` describes and its weights have; an adapter has its base's, with a
    head where it keeps one."""
    path = Path(directory) / "config.json"
    if is_adapter(directory):
        base = read_config(find_base(directory))
        return replace(base, num_labels=1) if has_head(directory) else base
    if not path.is_file():
        raise UserError(f"{directory} is no model directory: it has no config.json")
    config = from_hf(read_json(path), str(path))
    if files := weight_files(path.parent):
        check_weights(config, read_shapes(files), directory, path)
    return config
