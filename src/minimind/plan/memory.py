"""What a model has, and what it takes in memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from minimind.errors import UserError
from minimind.hardware import total_memory
from minimind.model.config import ModelConfig
from minimind.model.count import count_parameters
from minimind.model.hf.adapter import NAME, TENSORS, read_settings
from minimind.model.hf.files import read_shapes
from minimind.model.lora import LoraOptions
from minimind.model.quantized import BaseBits, stored_bytes
from minimind.recipe import Recipe
from minimind.util.units import size_text

BYTES = {"fp32": 4, "bf16": 2}
STATE_BYTES = 20  # of training, per parameter: master, gradient, two averages, a copy in the computation's type


def memory(config: ModelConfig) -> dict[str, dict[str, int]]:
    """Bytes, by type: of all weights, of those beside an adapter whose base is kept in fewer bits (none for a model
    with experts), and of the keys and values of one token (2·L·K·C numbers)."""
    total = count_parameters(config)["total"]
    cached = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    return {
        "weights": {name: size * total for name, size in BYTES.items()},
        "frozen_base": {} if config.num_experts else {f"{b}-bit": round(frozen_bytes(config, b)) for b in (8, 4)},
        "kv_cache_per_token": {name: size * cached for name, size in BYTES.items()},
    }


def nothing_else(recipe: Recipe, world: int) -> dict[str, int]:
    return {}


def rollout_memory(recipe: Recipe, world: int = 1) -> dict[str, int]:
    """Bytes, by name, that reinforcement learning holds at least in each of `world` processes besides the model it
    trains: the weights as the engine computes with them, the keys and values of answers that are all at their
    longest, the model that a KL divergence is measured from (an adapter's base is that model), and a critic."""
    options, dtype = recipe.rl, "fp32" if recipe.precision == "fp32" else "bf16"
    sizes = memory(recipe.model)
    held = {"the weights to sample with": sizes["weights"][dtype]}
    if not options.server:
        answers = options.prompts // world * options.group_size
        cached = answers * options.max_tokens * sizes["kv_cache_per_token"][dtype]
        held[
            f"keys and values of {answers:,} answers of {options.max_tokens:,} tokens (rl.prompts, rl.max_tokens)"
        ] = cached
    if options.reference and not recipe.lora.rank:
        held["the start model (rl.reference)"] = sizes["weights"]["fp32"]
    if options.advantage == "gae" and options.critic == "model":
        held["the critic's training (rl.critic)"] = STATE_BYTES * count_parameters(recipe.model)["total"]
    return held


def frozen_bytes(config: ModelConfig, bits: BaseBits) -> float:
    """The weights beside an adapter: of a dense model the blocks' matrices in so many bits, all else in fp32."""
    counts = count_parameters(config)
    matrices = counts["parts"]["attention"] + counts["parts"].get("feed_forward", 0)
    return BYTES["fp32"] * (counts["total"] - matrices) + stored_bytes(matrices, bits)


def check_fits(
    config: ModelConfig, lora: LoraOptions, device: torch.device, beside: Mapping[str, int] = MappingProxyType({})
) -> None:
    """Raise UserError for a shape whose weights, or state of training, exceed the device's memory.

    A model is read as a whole before its matrices are kept in fewer bits, in the memory of the CPU.

    beside  bytes, by name, of what else is held
    """
    parameters, total = count_parameters(config)["total"], total_memory(device)
    bits: BaseBits = 32 if device.type == "cpu" else lora.base_bits
    own = frozen_bytes(config, bits) if lora.rank else STATE_BYTES * parameters
    needed = (own + sum(beside.values())) / 1e9
    if total is not None and needed > total:
        what = f"a model of {parameters:,} parameters" if lora.rank else f"training {parameters:,} parameters"
        smaller_base = ", or --lora.base_bits 4" if bits != 4 and device.type != "cpu" else ""
        advice = smaller_base if lora.rank else ", or --lora.rank 8 where you start from a model"
        listed = "".join(f"; {name}: {size_text(size)}" for name, size in beside.items())
        raise UserError(
            f"{what} takes at least {needed:,.0f} GB of memory, and there are {total:,.0f} here{listed}; choose a "
            f"smaller model (--preset){advice}"
        )


def lacking_memory(tokens: int, peaks: Mapping[int, float], parameters: int, free: float | None) -> float | None:
    """Estimate the GB that a micro-batch takes on top; None where they are `free` (GB; None: nobody knows).

    peaks  GB at the peak of smaller micro-batches, by their tokens; the first one needs the training's state
    """
    needed = STATE_BYTES * parameters / 1e9
    if peaks:
        smaller = max(peaks)
        needed = peaks[smaller] * (tokens / smaller - 1)
    return needed if free is not None and needed > free else None


def describe_adapter(directory: Path) -> dict[str, Any]:
    """Say what the files of an adapter's directory say: base, rank, matrices, number of parameters."""
    settings, shapes = read_settings(directory), read_shapes([directory / TENSORS])
    modules = [match[1] for match in map(NAME.fullmatch, shapes) if match]
    return {
        "base": settings["base_model_name_or_path"],
        "rank": settings["r"],
        "alpha": settings["lora_alpha"],
        "rank_stabilized": settings.get("use_rslora", False),
        "targets": sorted({name.rpartition(".")[2] for name in modules}),
        "parameters": sum(map(math.prod, shapes.values())),
    }


def describe(config: ModelConfig) -> dict[str, Any]:
    """Count a shape's parameters by part and its memory, beside its settings."""
    return {"parameters": count_parameters(config), "memory": memory(config), "config": asdict(config)}
