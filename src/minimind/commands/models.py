"""`minimind models`: the named shapes, and what a shape or a model has and takes."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from minimind.commands.verbs import Verbs

EPILOG = """examples:
  minimind models list
  minimind models show minimind2-moe
  minimind models show runs/quickstart/chat --json"""


def run(argv: list[str]) -> None:
    verbs = Verbs("models", "Named model shapes, and the shapes of models.", EPILOG)
    child = verbs.add("list", list_presets, "name all shapes with their parameters", "minimind models list")
    child.add_argument("--json", action="store_true", help="print JSON instead of a table")
    example = "minimind models show minimind2-moe"
    child = verbs.add("show", show, "one shape's parameters by part, memory and settings", example)
    child.add_argument("name", metavar="NAME", help="a preset, a model directory or a run directory")
    child.add_argument("--json", action="store_true", help="print JSON instead of text")
    verbs.call(argv)


def list_presets(options: argparse.Namespace) -> None:
    from minimind.commands.runs import print_columns
    from minimind.presets import PRESETS

    described = {name: describe(config) for name, config in PRESETS.items()}
    if options.json:
        print(json.dumps(described, indent=2))
        return
    rows = [["preset", "type", "parameters", "active", "shape", "fp32"]]
    for name, preset in described.items():
        config, counts = preset["config"], preset["parameters"]
        shape = f"{config['num_hidden_layers']} × {config['hidden_size']}"
        weights = size(preset["memory"]["weights"]["fp32"])
        rows.append([name, config["model_type"], f"{counts['total']:,}", f"{counts['active']:,}", shape, weights])
    print_columns(rows, right_from=2)
    print("\nactive: parameters that one token passes through; shape: layers × width; fp32: memory of the weights")


def show(options: argparse.Namespace) -> None:
    from minimind import presets
    from minimind.model.hf.config import read_config
    from minimind.model.hf.weights import model_directory

    name = options.name
    is_path = name not in presets.PRESETS and Path(name).exists()
    described = describe(read_config(model_directory(name)) if is_path else presets.get(name))
    if options.json:
        print(json.dumps({"name": name, **described}, indent=2))
        return
    counts, taken = described["parameters"], described["memory"]
    weights, cache = taken["weights"], taken["kv_cache_per_token"]
    share = counts["active"] / counts["total"]
    print(f"{name}: {counts['total']:,} parameters, {counts['active']:,} active for a token ({share:.1%})")
    for part, count in counts["parts"].items():
        print(f"  {part.replace('_', '-'):<14} {count:>13,}  {count / counts['total']:6.1%}")
    print("memory:")
    print(f"  weights         {size(weights['fp32'])} in fp32, {size(weights['bf16'])} in bf16")
    print(f"  key/value cache {cache['fp32']:,} bytes a token in fp32, {cache['bf16']:,} in bf16")
    print("settings:")
    for key, value in described["config"].items():
        print(f"  {key:<25} {value}")


def describe(config: Any) -> dict[str, Any]:
    from minimind.model.count import count_parameters
    from minimind.plan.memory import memory

    return {"parameters": count_parameters(config), "memory": memory(config), "config": asdict(config)}


def size(count: int) -> str:
    """Bytes for people: 103.3 MB, 12.0 GB; powers of ten."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
