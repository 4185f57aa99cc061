"""`minimind import`: published weights as a model directory."""

from __future__ import annotations

from pathlib import Path

from minimind.commands.options import command_parser

EPILOG = """examples:
  minimind import full_sft_768.pth --to models/minimind-3 --tokenizer minimind/model
  minimind import MiniMind2-MoE --to models/minimind2-moe
  minimind import full_sft_512.pth --to models/small --version minimind2
  minimind import lora_medical_768.pth --to models/medical --base models/minimind-3

WEIGHTS is a file (.pth, .bin, .safetensors) or a folder; a config.json and a tokenizer beside the weights are used.
Which version it is shows in the tensors. The number of heads and theta do not: they come from the config.json,
from --config, or else are that version's published defaults."""


def run(argv: list[str]) -> None:
    parser = command_parser(
        "import", "Turn published MiniMind weights of any version into a model directory.", EPILOG
    )
    parser.add_argument("weights", metavar="WEIGHTS", help="file or folder with the published weights")
    parser.add_argument("--to", required=True, type=Path, metavar="DIR", help="model directory to write")
    parser.add_argument(
        "--version", "--generation", metavar="NAME", help="minimind-v1, minimind2-legacy, minimind2 or minimind-3"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="JSON file with the model's settings")
    parser.add_argument("--tokenizer", type=Path, metavar="DIR", help="directory of the model's tokenizer")
    parser.add_argument("--base", type=Path, metavar="MODEL", help="of a LoRA file: the model that it belongs to")
    options = parser.parse_args(argv)

    from minimind.errors import UserError
    from minimind.interop.upstream import build, read_tokenizer, read_weights
    from minimind.model import save_model
    from minimind.tokenizer.stops import read_stops

    if options.to.exists() and (not options.to.is_dir() or any(options.to.iterdir())):
        raise UserError(f"{options.to} already exists; choose another --to, or remove it first")
    if options.base:
        import_lora(options.weights, options.base, options.to)
        return
    weights = read_weights(options.weights, options.version, options.config)
    source, tokenizer = options.tokenizer or weights.folder, None
    if options.tokenizer or (source / "tokenizer.json").is_file():
        tokenizer = read_tokenizer(source, weights.config)
        tokenizer.stop_also_at(read_stops(weights.folder))
    model = build(weights)
    save_model(model, options.to, tokenizer)

    config = weights.config
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{weights.version or 'Hugging Face'}: {count:,} parameters, saved as {config.model_type}")
    print(
        f"{config.num_attention_heads} heads, {config.num_key_value_heads} for keys and values, "
        f"theta {config.rope_theta:g}, context {config.context_length:,} tokens"
    )
    print(f"tokenizer: {source if tokenizer else 'none; without one only the weights can be used'}\n{options.to}")


def import_lora(weights: str, base: Path, to: Path) -> None:
    from minimind.interop.upstream_lora import read_lora
    from minimind.model import save_model
    from minimind.model.hf.weights import model_directory
    from minimind.model.lora import coverage
    from minimind.tokenizer import Tokenizer

    model, directory = read_lora(weights, base), model_directory(base)
    has_tokenizer = (directory / "tokenizer.json").is_file()
    save_model(model, to, Tokenizer.load(directory) if has_tokenizer else None)
    print(f"LoRA: {coverage(model)}, an adapter of {directory}\n{to}")
