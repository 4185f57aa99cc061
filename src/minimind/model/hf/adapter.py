"""Adapter directories: `adapter_config.json`, and tensors by the names that peft gives them.

Shape and weights are those of the base, in the directory `base_model_name_or_path`. There is no `config.json`:
beside one transformers would look for whole weights. Which weights the base had is in the metadata of the tensors'
file, where it is in nobody's way.

Of a reward model the head is among the tensors, whole: `modules_to_save` in peft's words, beside task_type SEQ_CLS.

Each expert's matrices have their A and B under its own name, as peft names them in transformers 4. The classes of
transformers 5 hold the experts in one tensor: there peft turns these names into its own (of qwen3_moe and
glm4_moe). What it saves of such a class is read as well, see `model.hf.fused_adapter`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch

from minimind.errors import UserError
from minimind.model.lora import HEAD, LoraExperts, LoraOptions, adaptable, adapted_modules, coverage
from minimind.model.transformer import Transformer
from minimind.util.json_files import read_json
from minimind.util.typed import Range, convert, expected

ADAPTER_CONFIG = "adapter_config.json"
TENSORS = "adapter_model.safetensors"
BASE_FINGERPRINT = "base_sha256"
"""key in the metadata of the tensors' file: what `fingerprint` says of the base's weights"""
NAME = re.compile(r"base_model\.model\.(.+)\.(?:lora_[AB]\.weight|lora_magnitude_vector)")

OPTIONS: dict[str, tuple[str, Any]] = {
    "r": ("rank", Annotated[int, Range(1, 2**16)]),
    "lora_alpha": ("alpha", Annotated[float, Range(0, 1e6)]),
    "use_rslora": ("rank_stabilized", bool),
    "use_dora": ("dora", bool),
}
"""peft's name -> our option and its type; the targets are those that the tensors are named for"""
FIXED = {"peft_type": "LORA", "bias": "none", "fan_in_fan_out": False}
IGNORED = {
    *("base_model_name_or_path", "task_type", "inference_mode", "peft_version", "auto_mapping"),
    # the tensors' names tell
    *("target_modules", "target_parameters", "exclude_modules", "layers_to_transform", "layers_pattern"),
    *("lora_dropout", "eva_config", "megatron_core", "qalora_group_size", "ensure_weight_tying"),
}
"""what need not be looked at; any other setting must be empty, for it would change what is computed"""
HEADS = ["classifier", "score"]
"""of modules_to_save: what peft looks for as a classifier's head; ours is the latter"""
STARTS = (True, False, "gaussian", "eva", "orthogonal")
"""of init_lora_weights: the other ways to begin change the base's weights as well"""


def is_adapter(directory: str | Path) -> bool:
    return (Path(directory) / ADAPTER_CONFIG).is_file()


def config_file(directory: Path) -> Path:
    """The file that makes a directory a model's: `adapter_config.json` or `config.json`."""
    return directory / (ADAPTER_CONFIG if is_adapter(directory) else "config.json")


def read_settings(directory: str | Path) -> dict[str, Any]:
    return read_json(Path(directory) / ADAPTER_CONFIG)


def find_base(directory: str | Path) -> Path:
    """The directory of an adapter's base, by the path recorded as it is or as seen from the adapter."""
    path = Path(directory) / ADAPTER_CONFIG
    recorded = read_settings(directory).get("base_model_name_or_path")
    if not isinstance(recorded, str):
        raise UserError(f"{path} names no base; set base_model_name_or_path to its directory")
    for base in (Path(recorded), path.parent / recorded):
        if is_adapter(base):
            raise UserError(f"{path}: its base {recorded} is an adapter itself; merge that one first")
        if base.is_dir():
            return base
    raise UserError(
        f"{directory} is an adapter of {recorded}, and there is no such directory; put the base there, or set "
        f"base_model_name_or_path in {path} to where it is"
    )


def has_head(directory: str | Path) -> bool:
    """Whether an adapter makes a reward model of its base."""
    return bool(read_settings(directory).get("task_type") == "SEQ_CLS")


def read_options(directory: Path, model: Transformer, tensors: dict[str, torch.Tensor]) -> LoraOptions:
    """The options of an adapter of `model`, its targets those that its `tensors` are named for.

    UserError for a setting under which peft computes something else than we do.
    """
    path, content = directory / ADAPTER_CONFIG, read_settings(directory)
    for name, value in content.items():
        if name == "init_lora_weights":
            supported = value in STARTS
        elif name == "modules_to_save" and has_head(directory):
            supported = isinstance(value, list) and all(one in HEADS for one in value)
        else:
            supported = value == FIXED[name] if name in FIXED else not value or name in OPTIONS.keys() | IGNORED
        if not supported:
            raise UserError(f"{path}: {name} = {value!r} is not supported; merge the adapter with peft")
    options: dict[str, Any] = {}
    for name, (ours, hint) in OPTIONS.items():
        value = content.get(name, False if hint is bool else None)
        try:
            options[ours] = convert(value, hint)
        except ValueError:
            raise UserError(f"{path}: {name} must be {expected(hint)}, not {value!r}") from None
    adapted = {in_memory(match[1]) for match in map(NAME.fullmatch, tensors) if match}
    if not (targets := [name for name in adaptable(model) if name in adapted]):
        raise UserError(f"{directory} is an adapter of another model: it has no tensor for any matrix of its base")
    return LoraOptions(**options, targets=targets)


def in_memory(module: str) -> str:
    """A matrix's name on disk as the model has it: the experts' matrices of one kind are one."""
    return re.sub(r"\.experts\.\d+\.", ".experts.", module).replace(".shared_experts.", ".shared_expert.")


class Place(NamedTuple):
    """Where a tensor of an adapter lies in a model's memory."""

    tensor: torch.Tensor
    factor: int
    """what it is multiplied by on disk"""


def places(model: Transformer) -> dict[str, Place]:
    """The adapter's own tensors, as peft names them; of a qwen2_moe's shared expert see `model.hf.names`."""
    found: dict[str, Place] = {}
    config = model.config
    for name, layer in adapted_modules(model).items():
        parts = {part: p.detach() for part, p in layer.named_parameters() if part.startswith("lora_")}
        if isinstance(layer, LoraExperts):
            for part, stack in parts.items():
                side, _, kind = part.partition(".")
                found |= {f"{name}.{e}.{kind}.{side}.weight": Place(one, 1) for e, one in enumerate(stack)}
            continue
        doubled = config.model_type == "qwen2_moe" and name.endswith("shared_expert.down_proj")
        if config.model_type == "glm4_moe":
            name = name.replace(".shared_expert.", ".shared_experts.")
        for part, tensor in parts.items():
            found[f"{name}.{part}"] = Place(tensor, 2 if doubled and "lora_A" not in part else 1)
    if config.num_labels:
        found[HEAD] = Place(model.score.weight.detach(), 1)
    return {f"base_model.model.{name}": place for name, place in found.items()}


def tensors(model: Transformer) -> dict[str, torch.Tensor]:
    """The adapter's own tensors, as they are on disk."""
    return {name: place.tensor * place.factor for name, place in places(model).items()}


def settings(model: Transformer) -> dict[str, Any]:
    """The content of `adapter_config.json`.

    Where peft has several matrices of experts in one tensor it takes alpha / sqrt(rank) of that one's rank: theirs
    is written as alpha / rank. It finds a shared expert's matrices beside experts only where they are parameters.
    """

    def kind(name: str) -> str:
        return name.rpartition(".")[2]

    layers = adapted_modules(model)
    options, base = next((layer.options, layer.base) for layer in layers.values())
    experts = any(isinstance(layer, LoraExperts) for layer in layers.values())
    rescaled = experts and options.rank_stabilized
    disk_names = {match[1] for match in map(NAME.fullmatch, places(model)) if match}
    shared = {name for name in disk_names if ".shared_expert" in name}
    covered = set(coverage(model).modules)
    partly = {kind(name) for name in adaptable(model) if name not in covered and ".mlp.shared_expert." not in name}
    targets = {
        name if kind(name) in partly and ".experts." not in name else kind(name) for name in disk_names - shared
    }
    return {
        **FIXED,
        "task_type": "SEQ_CLS" if model.config.num_labels else "CAUSAL_LM",
        "modules_to_save": ["score"] if model.config.num_labels else None,
        "base_model_name_or_path": base and str(base.path.resolve()),
        "r": options.rank,
        "lora_alpha": options.scale() * options.rank if rescaled else options.effective_alpha(),
        "use_rslora": options.rank_stabilized and not rescaled,
        "use_dora": options.dora,
        "target_modules": sorted(targets),
        "target_parameters": sorted(f"{name}.weight" for name in shared) or None,
        "lora_dropout": options.dropout,
        "init_lora_weights": True,
        "inference_mode": True,
    }
