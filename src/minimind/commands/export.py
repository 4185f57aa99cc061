"""`minimind export`: a model as other programs read it."""

from __future__ import annotations

import argparse
from pathlib import Path

from minimind.commands.verbs import Verbs

EPILOG = """examples:
  minimind export gguf runs/chat --type q8_0 --out chat.gguf
  minimind export ollama runs/chat --out chat-ollama"""

TYPE_HELP = "f32, f16 (default), bf16, q8_0, q5_1, q5_0, q4_1 or q4_0: how the matrices are stored"
TYPE_NOTE = "q8_0 keeps 8.5 bits a weight, q5_1 6, q5_0 5.5, q4_1 5, q4_0 4.5; the fewer, the worse the model."


def run(argv: list[str]) -> None:
    verbs = Verbs("export", "Write a model as other programs read it.", EPILOG)

    example = "minimind export gguf runs/chat --type q8_0 --out chat.gguf"
    child = verbs.add("gguf", gguf, "one file for llama.cpp and the programs around it", example, TYPE_NOTE)
    add_model(child, out="file to write, replaced if it is there")
    child.add_argument("--type", default="f16", metavar="TYPE", help=TYPE_HELP)

    example = "minimind export ollama runs/chat --out chat-ollama && ollama create chat -f chat-ollama/Modelfile"
    child = verbs.add("ollama", ollama, "a GGUF file and the Modelfile that Ollama builds from", example, TYPE_NOTE)
    add_model(child, out="directory to write, replaced if it holds an earlier export")
    child.add_argument("--type", default="f16", metavar="TYPE", help=TYPE_HELP)

    verbs.call(argv)


def add_model(child: argparse.ArgumentParser, out: str) -> None:
    """What every kind of export asks for."""
    child.add_argument("model", metavar="MODEL", help="a model directory or a run directory")
    child.add_argument("--out", required=True, type=Path, metavar="PATH", help=out)


def gguf(options: argparse.Namespace) -> None:
    from minimind.interop.gguf import export_gguf

    done = export_gguf(options.model, options.out, options.type)
    print(f"{options.out}: {options.type}, {done.bytes / 1e6:.1f} MB, architecture {done.architecture}")
    for note in done.notes:
        print(f"note: {note}")


def ollama(options: argparse.Namespace) -> None:
    from minimind.interop.ollama import export_ollama

    done = export_ollama(options.model, options.out, options.type)
    print(f"{options.out}: Modelfile and model.gguf, {options.type}, {done.bytes / 1e6:.1f} MB")
    for note in done.notes:
        print(f"note: {note}")
    print(f"build it with: ollama create NAME -f {options.out}/Modelfile")
