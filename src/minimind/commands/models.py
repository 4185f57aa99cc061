"""`minimind models`: the named shapes, and what a shape or a model has and takes."""

from __future__ import annotations

import argparse
from pathlib import Path

from minimind.commands.options import add_json
from minimind.commands.output import print_columns, print_json
from minimind.commands.subcommands import Subcommands
from minimind.errors import UserError
from minimind.util.checksums import SUMS, find_damage
from minimind.util.units import size_text

EPILOG = """examples:
  minimind models list
  minimind models show minimind2-moe
  minimind models show runs/quickstart/chat --json
  minimind models verify runs/quickstart/chat"""


VERIFY_NOTE = f"""Models and checkpoints that MiniMind writes hold {SUMS}, which `sha256sum -c {SUMS}` reads, too.

exit codes: 0 all is as it was written, 1 something is not, 2 there is nothing to compare with"""


def run(argv: list[str]) -> int | None:
    subcommands = Subcommands("models", "Named model shapes, and the shapes of models.", EPILOG)
    child = subcommands.add("list", list_presets, "name all shapes with their parameters", "minimind models list")
    add_json(child)
    example = "minimind models show minimind2-moe"
    child = subcommands.add("show", show, "one shape's parameters by part, memory and settings", example)
    child.add_argument("name", metavar="NAME", help="a preset, a model directory or a run directory")
    add_json(child)
    help_text = "compare a model's files, or all of a run's, with the checksums that were written with them"
    child = subcommands.add("verify", verify, help_text, "minimind models verify runs/quickstart/chat", VERIFY_NOTE)
    child.add_argument(
        "directory", metavar="DIR", type=Path, help="a model directory, or one that holds some: a run"
    )
    add_json(child)
    return subcommands.call(argv)


def list_presets(options: argparse.Namespace) -> None:
    from minimind.plan.memory import describe
    from minimind.presets import PRESETS

    described = {name: describe(config) for name, config in PRESETS.items()}
    if options.json:
        print_json(described, indent=2)
        return
    rows = [["preset", "type", "parameters", "active", "shape", "fp32"]]
    for name, preset in described.items():
        config, counts = preset["config"], preset["parameters"]
        shape = f"{config['num_hidden_layers']} × {config['hidden_size']}"
        weights = size_text(preset["memory"]["weights"]["fp32"])
        rows.append([name, config["model_type"], f"{counts['total']:,}", f"{counts['active']:,}", shape, weights])
    print_columns(rows, right_from=2)
    print("\nactive: parameters that one token passes through; shape: layers × width; fp32: memory of the weights")


def show(options: argparse.Namespace) -> None:
    from minimind import presets
    from minimind.model.hf.adapter import is_adapter
    from minimind.model.hf.config import read_config
    from minimind.model.hf.weights import model_directory
    from minimind.plan.memory import describe, describe_adapter

    name = options.name
    is_path = name not in presets.PRESETS and Path(name).exists()
    described = describe(read_config(model_directory(name)) if is_path else presets.get(name))
    adapter = describe_adapter(directory) if is_path and is_adapter(directory := model_directory(name)) else None
    if adapter:
        described["adapter"] = adapter
    if options.json:
        print_json({"name": name, **described}, indent=2)
        return
    counts, taken = described["parameters"], described["memory"]
    weights, cache = taken["weights"], taken["kv_cache_per_token"]
    share = counts["active"] / counts["total"]
    print(f"{name}: {counts['total']:,} parameters, {counts['active']:,} active for a token ({share:.1%})")
    for part, count in counts["parts"].items():
        print(f"  {part.replace('_', '-'):<14} {count:>13,}  {count / counts['total']:6.1%}")
    if adapter:
        print("adapter:")
        scale = f"alpha {adapter['alpha']:g}" + (", rank-stabilized" if adapter["rank_stabilized"] else "")
        share = adapter["parameters"] / counts["total"]
        print(f"  base            {adapter['base']}")
        print(f"  rank            {adapter['rank']} ({scale})")
        print(f"  targets         {', '.join(adapter['targets'])}")
        print(f"  parameters      {adapter['parameters']:,}, {share:.2%} of the base's")
    print("memory:")
    print(f"  weights         {size_text(weights['fp32'])} in fp32, {size_text(weights['bf16'])} in bf16")
    if frozen := taken["frozen_base"]:
        bits = ", ".join(f"{size_text(size)} in {name[0]} bits" for name, size in frozen.items())
        print(f"  beside an adapter {bits} (lora.base_bits)")
    print(f"  key/value cache {cache['fp32']:,} bytes a token in fp32, {cache['bf16']:,} in bf16")
    print("settings:")
    for key, value in described["config"].items():
        print(f"  {key:<25} {value}")


def verify(options: argparse.Namespace) -> int:
    directories = sorted(path.parent for path in options.directory.rglob(SUMS))
    if not directories:
        advice = "models of other programs and of earlier versions have none" if options.directory.is_dir() else ""
        raise UserError(f"there is no {SUMS} in {options.directory}: {advice or 'it is no directory'}")
    found = {str(directory): find_damage(directory) for directory in directories}
    if options.json:
        print_json(found, indent=2)
    else:
        print_columns([[directory, problem or "as it was written"] for directory, problem in found.items()])
    return int(any(found.values()))
