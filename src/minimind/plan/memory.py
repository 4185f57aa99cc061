"""What a model has, and what it takes in memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from minimind.errors import UserError
from minimind.model.config import ModelConfig
from minimind.model.count import count_parameters
from minimind.model.hf.adapter import NAME, TENSORS, read_settings
from minimind.model.hf.files import read_shapes

BYTES = {"fp32": 4, "bf16": 2}
STATE_BYTES = 20  # of training, per parameter: master, gradient, two averages, a copy in the computation's type


def memory(config: ModelConfig) -> dict[str, dict[str, int]]:
    """Bytes, by type: of all weights, and of the keys and values of one token (2·L·K·C numbers)."""
    total = count_parameters(config)["total"]
    cached = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    return {
        "weights": {name: size * total for name, size in BYTES.items()},
        "kv_cache_per_token": {name: size * cached for name, size in BYTES.items()},
    }


def check_fits(config: ModelConfig, trained: bool, total: float | None) -> None:
    """Raise UserError for a shape whose weights, or state of training, exceed `total` GB (None: nobody knows)."""
    parameters = count_parameters(config)["total"]
    needed = parameters * (STATE_BYTES if trained else BYTES["fp32"]) / 1e9
    if total is not None and needed > total:
        what = f"training {parameters:,} parameters" if trained else f"a model of {parameters:,} parameters"
        advice = ", or --lora.rank 8 where you start from a model" if trained else ""
        raise UserError(
            f"{what} takes at least {needed:,.0f} GB of memory, and there are {total:,.0f} here; choose a smaller "
            f"model (--preset){advice}"
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
