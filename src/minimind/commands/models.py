"""`minimind models`: the named shapes, and how many parameters a shape has."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from minimind.commands.verbs import Verbs

EPILOG = """examples:
  minimind models list
  minimind models show minimind2-small
  minimind models show runs/quickstart/chat/model --json"""


def run(argv: list[str]) -> None:
    verbs = Verbs("models", "Named model shapes.", EPILOG)
    child = verbs.add("list", list_presets, "name all shapes with their parameters", "minimind models list")
    child.add_argument("--json", action="store_true", help="print JSON instead of a table")
    child = verbs.add("show", show, "one shape's settings and its parameters by part", "minimind models show tiny")
    child.add_argument("name", metavar="NAME", help="a preset, a model directory or a run directory")
    child.add_argument("--json", action="store_true", help="print JSON instead of text")
    verbs.call(argv)


def list_presets(options: argparse.Namespace) -> None:
    from minimind.presets import PRESETS

    described = {name: {"description": preset.__doc__, **describe(preset())} for name, preset in PRESETS.items()}
    if options.json:
        print(json.dumps(described, indent=2))
        return

    from rich.console import Console
    from rich.table import Column, Table

    table = Table("preset", Column("parameters", justify="right"), "type", "layers × width", "remark")
    for name, preset in described.items():
        config = preset["config"]
        table.add_row(
            name,
            f"{preset['parameters']['total']:,}",
            config["model_type"],
            f"{config['num_hidden_layers']} × {config['hidden_size']}",
            preset["description"],
        )
    Console().print(table)


def show(options: argparse.Namespace) -> None:
    from minimind import presets
    from minimind.model.hf_config import read_config
    from minimind.model.io import model_directory

    name = options.name
    is_path = name not in presets.PRESETS and Path(name).exists()
    described = describe(read_config(model_directory(name)) if is_path else presets.get(name))
    if options.json:
        print(json.dumps({"name": name, **described}, indent=2))
        return
    counts = described["parameters"]
    print(f"{name}: {counts['total']:,} parameters")
    for part, count in counts["parts"].items():
        print(f"  {part.replace('_', '-'):<14} {count:>13,}  {count / counts['total']:6.1%}")
    print("settings:")
    for key, value in described["config"].items():
        print(f"  {key:<25} {value}")


def describe(config: Any) -> dict[str, Any]:
    from minimind.presets import count_parameters

    return {"parameters": count_parameters(config), "config": asdict(config)}
