"""What every page of results needs: the machine it was measured on, and its tables."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import time
from importlib import metadata
from pathlib import Path

import torch

from minimind.hardware import processor
from minimind.util.files import write_text


def machine(device: torch.device, *packages: str) -> str:
    """One sentence: date, machine, versions."""
    if device.type == "cuda":
        place = torch.cuda.get_device_name(device)
    else:
        capability = torch.backends.cpu.get_cpu_capability()
        place = f"{torch.get_num_threads()} threads of {os.cpu_count()} cores ({processor()}, {capability})"
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", *packages))
    return f"{time.strftime('%Y-%m-%d')}, {place}, Python {platform.python_version()}, {versions}."


def command() -> str:
    """The command line of this program, as it would be typed."""
    assert __spec__ is not None
    module = Path(sys.argv[0]).stem
    return shlex.join(["python", "-m", f"benchmarks.{module}", *sys.argv[1:]])


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def write_page(path: Path | None, title: str, *parts: str) -> None:
    """A Markdown page of paragraphs, tables and sections; printed where there is no path."""
    text = "\n\n".join([f"# {title}", *parts]) + "\n"
    if path is None:
        print(text)
    else:
        write_text(path, text)
