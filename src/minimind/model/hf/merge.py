"""Model directories merged into one, tensor by tensor: in memory are the result and a tensor of each model."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import torch

import minimind
from minimind.errors import UserError
from minimind.model.config import ModelConfig
from minimind.model.hf.adapter import TENSORS, is_adapter
from minimind.model.hf.config import read_config
from minimind.model.hf.files import open_tensors, read_shapes, weight_files
from minimind.model.hf.fit import check_weights
from minimind.model.hf.merge_adapters import join_adapters
from minimind.model.hf.weights import load_model, model_directory, save_model, set_tensors, write_model
from minimind.model.merge import dare, linear, slerp, task_vectors, ties
from minimind.model.transformer import Transformer
from minimind.tokenizer import Tokenizer
from minimind.util.checksums import sha256, write_sums
from minimind.util.files import whole_directory, write_json
from minimind.util.typed import Range, Seed, Share, check_fields

RECORD = "merge.json"
"""what a merged model's directory records of where it came from"""
USED = {
    "linear": ("weights",),
    "slerp": ("t",),
    "task": ("weights",),
    "ties": ("weights", "density", "scale"),
    "dare": ("weights", "density", "seed"),
}
"""the options that each method uses"""
FROM_BASE = ("task", "ties", "dare")


@dataclass(frozen=True)
class MergeOptions:
    """How models are merged; model/merge.py has the formulas."""

    method: Literal["linear", "slerp", "task", "ties", "dare"] = "linear"
    """linear: weighted mean; slerp: two models, along the arc between them; task: what each learned since the base,
    added up; ties: the same without contradictions; dare: the same, thinned out by chance"""
    weights: tuple[float, ...] = ()
    """one for each model: shares of linear and ties, which need not add up to 1, and factors of task and dare.
    Default: 1 each"""
    t: Share = 0.5
    """where on the arc slerp stops: 0 is the first model, 1 the second"""
    density: Annotated[float, Range(0, 1, above=True)] = 0.2
    """share of a task vector's numbers that stays: the largest (ties), or any (dare)"""
    scale: Annotated[float, Range(-100, 100)] = 1.0
    """what ties adds to the base is multiplied by this"""
    seed: Seed = 0
    """of what dare leaves out"""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass
class Merged:
    """What was written."""

    parameters: int
    adapters: list[Path]
    """those of the models that were adapters"""
    is_adapter: bool
    """whether all were, of one base, and became one adapter of it; else each was merged into its base first"""


def merge(
    sources: Sequence[str | Path], out: Path, options: MergeOptions, base: str | Path | None = None
) -> Merged:
    """Merge the models of model or run directories into the model directory `out`, whole or not at all.

    Config and tokenizer are those of the first. UserError for models of different shapes or tokenizers, for a
    number of models or an option that the method cannot use, and for an `out` that is there.
    """
    check_options(options, len(sources), base)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} already exists; choose another --out, or remove it first")
    given = [model_directory(path) for path in (*sources, *([base] if base else []))]
    config, tokenizer = read_config(given[0]), read_tokenizer(given[0])
    for other in given[1:]:
        check_same(given[0], config, tokenizer, other)
    options = replace(options, weights=options.weights or (1.0,) * len(sources))
    out.parent.mkdir(parents=True, exist_ok=True)
    adapted = join_adapters(given, options.weights) if options.method == "linear" else None
    model = adapted or merge_models(given, config, options, out.parent)
    with whole_directory(out) as partial:
        write_model(model, partial, tokenizer)
        write_json(partial / RECORD, record(given, base is not None, options))
        write_sums(partial)
    count = sum(parameter.numel() for parameter in model.parameters())
    adapters = [path for path in given if is_adapter(path)]
    return Merged(count, adapters, adapted is not None)


def merge_models(given: Sequence[Path], config: ModelConfig, options: MergeOptions, beside: Path) -> Transformer:
    """The merged model; adapters are made whole models first, in a directory for a while."""
    with ExitStack() as stack:
        directories = [whole_model(path, beside, stack) for path in given]
        for path in directories:
            check_weights(config, read_shapes(weight_files(path)), path, "config.json")
        readers = [stack.enter_context(open_tensors(weight_files(path))) for path in directories]
        names = [name for name in readers[0] if name != "lm_head.weight" or not config.tie_word_embeddings]
        tensors = {name: merged(name, [reader[name]() for reader in readers], options) for name in names}
    model = Transformer(config, seed=None)
    set_tensors(model, tensors, "the merged model")
    return model


def merged(name: str, tensors: list[torch.Tensor], options: MergeOptions) -> torch.Tensor:
    """One tensor of the result; `tensors` are those of the models, then of the base where there is one."""
    if options.method == "linear":
        return linear(tensors, options.weights)
    if options.method == "slerp":
        return slerp(tensors[0], tensors[1], options.t)
    *models, base = tensors
    if options.method == "task":
        return task_vectors(base, models, options.weights)
    if options.method == "ties":
        return ties(base, models, options.weights, options.density, options.scale)
    generator = torch.Generator().manual_seed(zlib.crc32(f"{options.seed} {name}".encode()))
    return dare(base, models, options.weights, options.density, generator)


def check_options(options: MergeOptions, models: int, base: str | Path | None) -> None:
    """UserError for what the method cannot use."""
    method = options.method
    for field in fields(options):
        is_set = field.name != "method" and getattr(options, field.name) != field.default
        if is_set and field.name not in USED[method]:
            raise UserError(f"{method} does not use --{field.name}; leave it out, or choose another --method")
    if method in FROM_BASE and base is None:
        raise UserError(f"{method} adds up what models learned since their base; name that with --base")
    if method not in FROM_BASE and base is not None:
        raise UserError(f"{method} has no base; leave --base out, or give the model as one of those to merge")
    if models < 2 and method != "task":
        raise UserError("there is nothing to merge with one model; name at least two")
    if models != 2 and method == "slerp":
        raise UserError(f"slerp is between two models, not {models}; merge two, then the result with the next")
    if options.weights and len(options.weights) != models:
        raise UserError(f"--weights has {len(options.weights)} numbers for {models} models; give one for each")
    if method == "linear" and options.weights and not sum(options.weights):
        raise UserError("the --weights add up to 0, and linear divides by their sum; give others")


def read_tokenizer(directory: Path) -> Tokenizer | None:
    return Tokenizer.load(directory) if (directory / "tokenizer.json").is_file() else None


def check_same(first: Path, config: ModelConfig, tokenizer: Tokenizer | None, other: Path) -> None:
    """UserError naming the first difference in what two models compute, or in how they read a text."""
    ours, theirs = (
        vars(replace(one, original_max_position_embeddings=None)) for one in (config, read_config(other))
    )
    for name, value in ours.items():
        if value != theirs[name]:
            raise UserError(
                f"only models of one shape can be merged: {name} is {value} in {first} and {theirs[name]} in "
                f"{other}"
            )
    others = read_tokenizer(other)
    if tokenizer is None or others is None or tokenizer.backend.to_str() == others.backend.to_str():
        return
    for token in range(max(tokenizer.vocab_size, others.vocab_size)):
        a, b = (one.backend.id_to_token(token) for one in (tokenizer, others))
        if a != b:
            raise UserError(
                f"only models with one tokenizer can be merged: token {token} is {a!r} in {first} and {b!r} in "
                f"{other}"
            )
    raise UserError(
        f"only models with one tokenizer can be merged: those of {first} and {other} have the same tokens and cut "
        "texts differently"
    )


def whole_model(directory: Path, beside: Path, stack: ExitStack) -> Path:
    """A directory with all weights: of an adapter a new one, that is gone when the stack ends."""
    if not is_adapter(directory):
        return directory
    whole = Path(stack.enter_context(TemporaryDirectory(suffix=".partial", dir=beside))) / "model"
    save_model(load_model(directory), whole)
    return whole


def record(given: Sequence[Path], has_base: bool, options: MergeOptions) -> dict[str, Any]:
    """What was merged, and how."""
    sources = [
        {"path": str(path), "sha256": {file.name: sha256(file) for file in own_files(path)}} for path in given
    ]
    base = sources.pop() if has_base else None
    used = {name: getattr(options, name) for name in ("method", *USED[options.method])}
    return {"minimind": minimind.__version__, **used, "models": sources, **({"base": base} if base else {})}


def own_files(directory: Path) -> list[Path]:
    return [directory / TENSORS] if is_adapter(directory) else weight_files(directory)
