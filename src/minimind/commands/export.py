"""`minimind export`: a model as other programs read it."""

from __future__ import annotations

import argparse
from pathlib import Path

from minimind.commands.subcommands import Subcommands

EPILOG = """examples:
  minimind export hf runs/chat --out my-chat
  minimind export hf runs/chat --dtype bf16 --shard-size 500MB --license apache-2.0 --language zh en --out my-chat
  minimind export gguf runs/chat --type q8_0 --out chat.gguf
  minimind export ollama runs/chat --out chat-ollama"""

DTYPE_NOTE = (
    "fp32 keeps every value as it was trained; bf16 and fp16 take half the space. The card holds what the run\n"
    "directory records (data, recipe, scores) and nothing else."
)
TYPE_HELP = "f32, f16 (default), bf16, q8_0, q5_1, q5_0, q4_1 or q4_0: how the matrices are stored"
TYPE_NOTE = "q8_0 keeps 8.5 bits a weight, q5_1 6, q5_0 5.5, q4_1 5, q4_0 4.5; the fewer, the worse the model."


def run(argv: list[str]) -> None:
    subcommands = Subcommands("export", "Write a model as other programs read it.", EPILOG)

    example = "minimind export hf runs/chat --dtype bf16 --license apache-2.0 --language zh en --out my-chat"
    child = subcommands.add(
        "hf", hf, "a directory for the Hugging Face hub, with a model card", example, DTYPE_NOTE
    )
    add_model(child, out="directory to write, replaced if it holds an earlier export")
    child.add_argument("--dtype", default="fp32", metavar="TYPE", help="fp32 (default), bf16 or fp16")
    size = "largest file of weights, in KB, MB or GB (default: 2GB); more than one file if it takes that"
    child.add_argument("--shard-size", default="2GB", metavar="SIZE", help=size)
    child.add_argument("--license", metavar="NAME", help="the model's license, for the card (default: none named)")
    child.add_argument(
        "--language",
        nargs="+",
        default=[],
        metavar="CODE",
        help="its languages, for the card (default: none named)",
    )

    example = "minimind export gguf runs/chat --type q8_0 --out chat.gguf"
    child = subcommands.add("gguf", gguf, "one file for llama.cpp and the programs around it", example, TYPE_NOTE)
    add_model(child, out="file to write, replaced if it is there")
    child.add_argument("--type", default="f16", metavar="TYPE", help=TYPE_HELP)

    example = "minimind export ollama runs/chat --out chat-ollama && ollama create chat -f chat-ollama/Modelfile"
    child = subcommands.add(
        "ollama", ollama, "a GGUF file and the Modelfile that Ollama builds from", example, TYPE_NOTE
    )
    add_model(child, out="directory to write, replaced if it holds an earlier export")
    child.add_argument("--type", default="f16", metavar="TYPE", help=TYPE_HELP)

    subcommands.call(argv)


def add_model(child: argparse.ArgumentParser, out: str) -> None:
    """What every kind of export asks for."""
    child.add_argument("model", metavar="MODEL", help="a model directory or a run directory")
    child.add_argument("--out", required=True, type=Path, metavar="PATH", help=out)


def hf(options: argparse.Namespace) -> None:
    from minimind.interop.hf import export_hf

    card = {"license": options.license, "languages": options.language}
    done = export_hf(options.model, options.out, options.dtype, options.shard_size, **card)
    files = "1 file" if done.files == 1 else f"{done.files} files"
    print(f"{options.out}: {options.dtype}, {done.bytes / 1e6:.1f} MB in {files}, {done.architecture}, README.md")
    for note in done.notes:
        print(f"note: {note}")


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
    print("run it with: ollama run NAME --think=false (else it thinks first, which not every model learned)")
