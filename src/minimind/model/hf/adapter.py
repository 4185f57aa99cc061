"""Adapter directories: `adapter_config.json`, and tensors by the names that peft gives them.

Shape and weights are those of the base, in the directory `base_model_name_or_path`. There is no `config.json`:
beside one transformers would look for whole weights.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import torch

from minimind.errors import UserError
from minimind.model.lora import LoraOptions, adaptable, lora_layers
from minimind.model.transformer import Transformer
from minimind.util.json_files import read_json
from minimind.util.typed import Range, convert, expected

ADAPTER_CONFIG = "adapter_config.json"
TENSORS = "adapter_model.safetensors"
NAME = re.compile(r"base_model\.model\.(.+)\.lora_[AB]\.weight")

OPTIONS: dict[str, tuple[str, Any]] = {
    "r": ("rank", Annotated[int, Range(1, 2**16)]),
    "lora_alpha": ("alpha", Annotated[float, Range(0, 1e6)]),
    "use_rslora": ("rank_stabilized", bool),
}
"""peft's name -> our option and its type; the targets are those that the tensors are named for"""
FIXED = {"peft_type": "LORA", "bias": "none", "fan_in_fan_out": False}
IGNORED = {
    *("base_model_name_or_path", "task_type", "inference_mode", "peft_version", "auto_mapping"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),  # the tensors' names tell
    *("lora_dropout", "eva_config", "megatron_core", "qalora_group_size", "ensure_weight_tying"),
}
"""what need not be looked at; any other setting must be empty, for it would change what is computed"""
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


def read_options(directory: Path, model: Transformer, tensors: dict[str, torch.Tensor]) -> LoraOptions:
    """The options of an adapter of `model`, its targets those that its `tensors` are named for.

    UserError for a setting under which peft computes something else than we do.
    """
    path, content = directory / ADAPTER_CONFIG, read_settings(directory)
    for name, value in content.items():
        if name == "init_lora_weights":
            supported = value in STARTS
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
    adapted = {match[1] for match in map(NAME.fullmatch, tensors) if match}
    if not (targets := [name for name in adaptable(model) if name in adapted]):
        raise UserError(f"{directory} is an adapter of another model: it has no tensor for any matrix of its base")
    return LoraOptions(**options, targets=targets)


def tensors(model: Transformer) -> dict[str, torch.Tensor]:
    """The adapter's own tensors, as peft names them."""
    state = {f"base_model.model.{name}": tensor for name, tensor in model.state_dict().items()}
    return {name: tensor for name, tensor in state.items() if NAME.fullmatch(name)}


def settings(model: Transformer) -> dict[str, Any]:
    """The content of `adapter_config.json`."""

    def kind(name: str) -> str:
        return name.rpartition(".")[2]

    layers, unadapted = lora_layers(model), {kind(name) for name in adaptable(model)}
    first = next(iter(layers.values()))
    return {
        **FIXED,
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": first.base and str(first.base.resolve()),
        "r": first.options.rank,
        "lora_alpha": first.options.effective_alpha(),
        "use_rslora": first.options.rank_stabilized,
        "target_modules": sorted({name if kind(name) in unadapted else kind(name) for name in layers}),
        "lora_dropout": 0.0,
        "init_lora_weights": True,
        "inference_mode": True,
    }
