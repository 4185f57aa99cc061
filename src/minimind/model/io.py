"""Model directories: the Hugging Face layout, read and written as a whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from minimind.errors import UserError
from minimind.model.hf_config import read_config, to_hf
from minimind.model.layout import from_disk, to_disk
from minimind.model.transformer import Transformer

if TYPE_CHECKING:
    from minimind.tokenizer import Tokenizer

GENERATION: dict[str, Any] = {
    "do_sample": True,
    "temperature": 0.7,
    "top_p": 0.95,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": [2, 0],
}


def save_model(model: Transformer, directory: str | Path, tokenizer: Tokenizer | None = None) -> None:
    """Write weights (fp32, as they are), configs and tokenizer into `directory`, replacing what was there."""
    directory = Path(directory)
    partial = directory.with_name(directory.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    tensors = {name: tensor.contiguous() for name, tensor in to_disk(state, model.config).items()}
    save_file(tensors, partial / "model.safetensors", metadata={"format": "pt"})
    write_json(partial / "config.json", to_hf(model.config))
    write_json(partial / "generation_config.json", GENERATION)
    if tokenizer is not None:
        tokenizer.save(partial)
    replace_directory(partial, directory)


def model_directory(path: str | Path) -> Path:
    """The model directory that a path stands for: itself, or of a run its model/, best/ or newest checkpoint."""
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path} is no directory; give a model directory or a run directory")
    for candidate in (path, path / "model", path / "best", *sorted(path.glob("checkpoints/step-???????"))[::-1]):
        if (candidate / "config.json").is_file():
            return candidate
    raise UserError(f"{path} holds no model: neither it nor its model/ has a config.json")


def load_model(
    directory: str | Path, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> Transformer:
    """The model of a directory in evaluation mode. Every tensor must be there, none may be left over."""
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f"{directory} is no directory; give a model directory or a run directory's model/")
    model = Transformer(read_config(directory), seed=None)
    load_tensors(model, directory)
    return model.cast(dtype).to(device).eval()


def load_tensors(model: Transformer, directory: Path) -> None:
    """Set all parameters of `model` from a directory; UserError naming a tensor that does not fit."""
    set_tensors(model, read_tensors(directory), directory)


def set_tensors(model: Transformer, tensors: dict[str, torch.Tensor], where: str | Path) -> None:
    """Set all parameters of `model` from tensors as they lie on disk; `where` they are from is for messages."""
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)  # some writers keep the tied copy
    expected = to_disk(model.state_dict(), model.config)
    for name in expected.keys() | tensors.keys():
        if name not in tensors:
            raise UserError(f"{where}: tensor {name} is missing")
        if name not in expected:
            raise UserError(f"{where}: tensor {name} is not part of the model that config.json describes")
        if tensors[name].shape != expected[name].shape:
            found, wanted = tuple(tensors[name].shape), tuple(expected[name].shape)
            raise UserError(f"{where}: tensor {name} has shape {found}, config.json says {wanted}")
    model.load_state_dict(from_disk(tensors, model.config))


def read_tensors(directory: Path) -> dict[str, torch.Tensor]:
    """All tensors of `model.safetensors` or of its numbered parts, in fp32."""
    paths = sorted(directory.glob("model*.safetensors"))
    if not paths:
        raise UserError(f"{directory} has no model.safetensors")
    tensors: dict[str, torch.Tensor] = {}
    for path in paths:
        tensors.update({name: tensor.float() for name, tensor in read_safetensors(path).items()})
    return tensors


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of one file, in the types they are stored in."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}); copy it again or use another checkpoint") from None


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def replace_directory(partial: Path, directory: Path) -> None:
    """Put a finished directory in the place of an older one; at no instant is there a half-written one."""
    old = directory.with_name(directory.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.rename(old)
    partial.rename(directory)
    shutil.rmtree(old, ignore_errors=True)
