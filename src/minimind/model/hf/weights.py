"""Model directories: the Hugging Face layout, read and written as a whole or not at all."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from minimind.errors import UserError
from minimind.model.config import ModelConfig
from minimind.model.hf import adapter
from minimind.model.hf.adapter import ADAPTER_CONFIG, config_file, find_base, is_adapter
from minimind.model.hf.config import from_hf, read_config, to_hf
from minimind.model.hf.files import INDEX, check_numbers, fingerprint, read_files, read_metadata, weight_files
from minimind.model.hf.fit import check_fit, shapes_of
from minimind.model.hf.fused_adapter import split_fused
from minimind.model.hf.names import from_disk, to_disk
from minimind.model.lora import Base, Coverage, LoraOptions, adapted_modules, add_lora, has_lora, merge_lora
from minimind.model.transformer import Transformer
from minimind.util.checksums import write_sums
from minimind.util.files import whole_directory, write_json
from minimind.util.json_files import read_json

if TYPE_CHECKING:
    from minimind.tokenizer import Tokenizer

GENERATION: dict[str, Any] = {"do_sample": True, "temperature": 0.7, "top_p": 0.95}


def save_model(model: Transformer, directory: str | Path, tokenizer: Tokenizer | None = None) -> None:
    """Write weights (fp32, as they are), configs and tokenizer into `directory`, replacing what was there.

    Of a model with an adapter the adapter alone is written, unless `merge_lora` made it part of the weights.
    """
    with whole_directory(Path(directory)) as partial:
        write_model(model, partial, tokenizer)
        write_sums(partial)


def write_model(
    model: Transformer,
    directory: Path,
    tokenizer: Tokenizer | None = None,
    dtype: torch.dtype = torch.float32,
    part_bytes: int | None = None,
) -> None:
    """Write weights, configs and tokenizer into a directory that is there.

    dtype       of the parameters; buffers (a router's bias) stay fp32, as `Transformer.cast` leaves them too
    part_bytes  bytes of tensors that one file may hold; None: all are in one file

    UserError for a value that is infinite in `dtype`, and for a tensor larger than `part_bytes`.
    """
    buffers = {name for name, _ in model.named_buffers()}
    adapted = has_lora(model)
    state = {
        name: tensor.detach().to("cpu", tensor.dtype if name in buffers else dtype)
        for name, tensor in (adapter.tensors(model) if adapted else model.state_dict()).items()
    }
    tensors = {name: tensor.contiguous() for name, tensor in to_disk(state, model.config).items()}
    if dtype != torch.float32:
        refuse_infinite(tensors, dtype)
    if adapted:
        base = next(layer.base for layer in adapted_modules(model).values())
        notes = [(adapter.BASE_FINGERPRINT, base.fingerprint)] if base else []
        write_safetensors(tensors, directory / adapter.TENSORS, *notes)
    else:
        write_tensors(tensors, directory, part_bytes)
    pad, bos, eos = (0, 1, 2) if tokenizer is None else (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id)
    special = {"pad_token_id": pad, "bos_token_id": bos, "eos_token_id": eos}
    config = adapter.settings(model) if adapted else {**to_hf(model.config, dtype), **special}
    write_json(directory / (ADAPTER_CONFIG if adapted else "config.json"), config)
    stops = [eos, pad] if tokenizer is None else list(tokenizer.stop_ids)
    write_json(directory / "generation_config.json", {**GENERATION, **special, "eos_token_id": stops})
    if tokenizer is not None:
        tokenizer.save(directory)


def write_tensors(tensors: dict[str, torch.Tensor], directory: Path, part_bytes: int | None) -> None:
    """Write `model.safetensors`, or as transformers names them numbered parts and an index.

    part_bytes  what a file may hold; UserError for a tensor that is larger
    """
    parts: list[dict[str, torch.Tensor]] = [{}]
    filled = 0
    for name, tensor in tensors.items():
        if part_bytes is not None and tensor.nbytes > part_bytes:
            raise UserError(
                f"tensor {name} alone takes {tensor.nbytes:,} bytes, more than the {part_bytes:,} that a file may "
                "hold; allow larger files"
            )
        if part_bytes is not None and filled + tensor.nbytes > part_bytes:
            parts.append({})
            filled = 0
        parts[-1][name] = tensor
        filled += tensor.nbytes
    if len(parts) == 1:
        write_safetensors(tensors, directory / "model.safetensors")
        return
    places: dict[str, str] = {}
    for number, part in enumerate(parts, start=1):
        file = f"model-{number:05d}-of-{len(parts):05d}.safetensors"
        write_safetensors(part, directory / file)
        places |= dict.fromkeys(part, file)
    size = sum(tensor.nbytes for tensor in tensors.values())
    write_json(directory / INDEX, {"metadata": {"total_size": size}, "weight_map": places})


def write_safetensors(
    tensors: dict[str, torch.Tensor], path: Path, note: tuple[str, str] = ("format", "pt")
) -> None:
    """One file, readable by everybody who may read others here: safetensors itself makes it the owner's only.

    note  key and text in the header; several would be written in an order of their own each time
    """
    path.touch()
    mode = path.stat().st_mode
    save_file(tensors, path, metadata=dict([note]))
    path.chmod(mode)


def refuse_infinite(tensors: dict[str, torch.Tensor], dtype: torch.dtype) -> None:
    for name, tensor in tensors.items():
        if tensor.isinf().any():
            kind, most = str(dtype).removeprefix("torch."), torch.finfo(dtype).max
            raise UserError(f"tensor {name} has values beyond {most:g}, where {kind} ends; take bf16 or fp32")


def model_directory(path: str | Path) -> Path:
    """The model directory that a path stands for: itself, or of a run its model/, best/ or newest checkpoint."""
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path} is no directory; give a model directory or a run directory")
    for candidate in (path, path / "model", path / "best", *sorted(path.glob("checkpoints/step-???????"))[::-1]):
        if config_file(candidate).is_file():
            return candidate
    raise UserError(f"{path} holds no model: neither it nor its model/ has a config.json")


def is_ours(directory: Path) -> bool:
    """Whether `load_model` knows the kind of a model directory; others are for transformers."""
    path = directory / "config.json"
    try:
        return is_adapter(directory) or bool(from_hf(read_json(path), str(path)))
    except UserError:
        return False


def load_model(
    directory: str | Path,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    merge: bool = True,
) -> Transformer:
    """The model of a directory in evaluation mode. Every tensor must be there, none may be left over.

    Of an adapter's directory: its base, adapted; with `merge` the adapter is part of the weights.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f"{directory} is no directory; give a model directory or a run directory's model/")
    model = Transformer(read_config(directory), seed=None)
    if is_adapter(directory) and not merge:
        load_adapted(model, directory)
    else:
        load_tensors(model, directory)
    return model.cast(dtype).to(device).eval()


def load_tensors(model: Transformer, directory: Path) -> None:
    """Set all parameters of `model` from a directory; UserError naming a tensor that does not fit.

    An adapter's directory sets the adapter of a model that has one, and else the weights of its base, the adapter
    merged into them.
    """
    if not is_adapter(directory):
        set_tensors(model, read_tensors(directory), directory)
    elif has_lora(model):
        set_adapter(model, read_adapter(directory, model.config), directory)
    else:
        load_adapted(model, directory)
        merge_lora(model)


def add_adapter(model: Transformer, options: LoraOptions, seed: int, base: Path) -> Coverage:
    """Add a new adapter to a model that was read from the directory `base`, to be trained and saved.

    UserError where its files could not stand for the model: on an adapter, or a base with other positions.
    """
    if is_adapter(base):
        raise UserError(f"{base} is an adapter; merge it first: minimind export hf {base} --out DIR")
    config = read_config(base)
    trained = config.original_max_position_embeddings
    if replace(model.config, original_max_position_embeddings=trained, num_labels=config.num_labels) != config:
        raise UserError(f"an adapter does not keep other positions than its base's, {base}; leave model.* out")
    return add_lora(model, options, seed, base_of(model, base))


def base_of(model: Transformer, path: Path) -> Base:
    """The base that `model` was read from; its weights are read again where the model has them in another type, or
    a head of its own."""
    if model.compute_dtype != torch.float32 or model.config.num_labels != read_config(path).num_labels:
        model = load_model(path)
    return Base(path, fingerprint(model.state_dict()))


def load_adapted(model: Transformer, directory: Path) -> None:
    """Set all parameters from the base of an adapter's directory, and add the adapter."""
    base, tensors = find_base(directory), read_adapter(directory, model.config)
    set_tensors(model, read_tensors(base), f"{base}, the base of the adapter {directory}")
    add_lora(model, adapter.read_options(directory, model, tensors), base=base_of(model, base))
    set_adapter(model, tensors, directory)


def load_adapter(model: Transformer, directory: str | Path, base: Path) -> Transformer:
    """`model`, read from `base`, with the adapter of a directory or run; the two share all other weights, frozen.

    UserError for what is no adapter, or one of another base.
    """
    directory = model_directory(directory)
    if not is_adapter(directory):
        raise UserError(f"{directory} is a whole model, not an adapter: it has no {ADAPTER_CONFIG}")
    if model.config.num_labels or adapter.has_head(directory):
        raise UserError(f"{directory}: a reward model's adapter is not chosen by name; load it by its directory")
    adapted = copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})
    tensors = read_adapter(directory, model.config)
    add_lora(adapted, adapter.read_options(directory, adapted, tensors), base=base_of(adapted, base))
    set_adapter(adapted, tensors, directory)
    return adapted


def set_adapter(model: Transformer, tensors: dict[str, torch.Tensor], directory: Path) -> None:
    """Set the adapter of a model; UserError naming a tensor that does not fit, or where the base is another one."""
    places = adapter.places(model)
    if not adapter.has_head(directory):  # then a reward model that begins with it begins to score with zeros
        places = {name: place for name, place in places.items() if adapter.NAME.fullmatch(name)}
    shapes = {name: tuple(place.tensor.shape) for name, place in places.items()}
    check_fit(shapes_of(tensors), shapes, directory, f"{ADAPTER_CONFIG} with its base")
    base = next(layer.base for layer in adapted_modules(model).values())
    recorded = read_metadata(directory / adapter.TENSORS).get(adapter.BASE_FINGERPRINT)
    if base and recorded not in (None, base.fingerprint):
        raise UserError(
            f"{directory} is an adapter of other weights than those in {base.path} now: the base was trained "
            "again, or is another one; put back the one that it was trained on, or train the adapter anew"
        )
    for name, tensor in tensors.items():
        places[name].tensor.copy_(tensor / places[name].factor)


def read_adapter(directory: Path, config: ModelConfig) -> dict[str, torch.Tensor]:
    if not (directory / adapter.TENSORS).is_file():
        raise UserError(f"{directory} has no {adapter.TENSORS}; copy the whole adapter again")
    tensors = read_files([directory / adapter.TENSORS])
    for name, tensor in tensors.items():
        check_numbers(name, tensor, directory)
    parameters = adapter.read_settings(directory).get("target_parameters")
    return split_fused(tensors, parameters if isinstance(parameters, list) else [], config, str(directory))


def set_tensors(model: Transformer, tensors: dict[str, torch.Tensor], where: str | Path) -> None:
    """Set all parameters of `model` from tensors as they lie on disk; `where` they are from is for messages."""
    config = model.config
    head = tensors.pop("lm_head.weight", None) if config.tie_word_embeddings else None
    if config.num_labels and "score.weight" not in tensors:  # a language model, which begins to score with zeros
        tensors.pop("lm_head.weight", None)
        tensors["score.weight"] = torch.zeros(config.num_labels, config.hidden_size)
    check_fit(shapes_of(tensors), shapes_of(to_disk(model.state_dict(), config)), where, "config.json")
    if head is not None and not torch.equal(head, tensors["model.embed_tokens.weight"]):
        raise UserError(f"{where}: config.json says tie_word_embeddings, and lm_head.weight is not the embedding")
    model.load_state_dict(from_disk(tensors, config))


def read_tensors(directory: Path) -> dict[str, torch.Tensor]:
    """All tensors of `model.safetensors` or of its numbered parts, in fp32 and finite."""
    if not (paths := weight_files(directory)):
        raise UserError(f"{directory} has no model.safetensors")
    tensors = read_files(paths)
    for name, tensor in tensors.items():
        check_numbers(name, tensor, directory)
        tensors[name] = tensor.float()
    return tensors
