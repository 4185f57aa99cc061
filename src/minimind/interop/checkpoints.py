"""Tensors in files that others wrote: found, and read without running anything that is in them."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from pathlib import Path
from reprlib import repr as shown

import torch

from minimind.errors import UserError
from minimind.model.hf.adapter import TENSORS, is_adapter
from minimind.model.hf.files import read_files, read_safetensors, refuse_pointer, weight_files
from minimind.model.hf.weights import model_directory

WITHIN = ("model", "state_dict", "model_state_dict", "module")
"""where a training's own checkpoint (the public MiniMind's `…_resume.pth`, Lightning's …) keeps the weights"""


def find_weights(path: str | Path) -> list[Path]:
    """The files that hold the weights: `path` itself, or those of a folder or of a run's model."""
    path = Path(path)
    if path.is_file():
        return [path]
    if path.suffix and not path.exists():
        raise UserError(f"{path} does not exist; give a file or a folder with weights")
    if path.is_dir() and (files := _in_folder(path)):
        return files
    directory = model_directory(path)
    if files := _in_folder(directory):
        return files
    raise UserError(f"{directory} holds no weights: no model.safetensors, no pytorch_model.bin, no .pth")


def _in_folder(folder: Path) -> list[Path]:
    if is_adapter(folder):
        return [folder / TENSORS]
    if files := weight_files(folder) or sorted(folder.glob("pytorch_model*.bin")):  # whole or in numbered parts
        return files
    files = sorted(folder.glob("*.pth"))
    if len(files) > 1:
        raise UserError(f"{folder} holds {len(files)} .pth files; name one of them, for example {files[0]}")
    return files


def read_tensors(paths: list[Path]) -> dict[str, torch.Tensor]:
    """All tensors of the files, in the types they are stored in, read from disk as they are used."""
    return read_files(
        paths, lambda path: (read_safetensors if path.suffix == ".safetensors" else _read_torch)(path)
    )


def _read_torch(path: Path) -> dict[str, torch.Tensor]:
    """A state dict that torch.save wrote. Only tensors and plain values are unpickled, never code."""
    refuse_pointer(path)
    archive = zipfile.is_zipfile(path)
    try:
        if archive:
            _refuse_compressed(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle protocol of files that are none of torch's
            # Mapped, the file is read a tensor at a time; files of before torch 1.6 are no archives and cannot be.
            content = torch.load(path, "cpu", weights_only=True, mmap=archive)
    except UserError:
        raise
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL (\S+)", str(error))
        what = f"code ({code[1]}) and not only tensors" if code else "something else than tensors, or is damaged"
        raise UserError(f"{path} holds {what}: it is refused, and nothing in it was run") from None
    except Exception:  # there is hardly one that no damage leads to
        raise UserError(f"{path} is damaged, or no file that torch.save wrote; copy or download it again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is no file of weights: it holds a {type(content).__name__}, not tensors by name")
    inner = [content[name] for name in WITHIN if isinstance(content.get(name), dict)]
    tensors = inner[0] if len(inner) == 1 else content
    for name, value in tensors.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise UserError(f"{path} is no file of weights: its entry {shown(name)} is a {type(value).__name__}")
        if value.layout != torch.strided or value.is_meta or value.nbytes > value.untyped_storage().nbytes():
            raise UserError(f"{path}: the numbers of tensor {name} are not in the file, or are sparse")
    return tensors


def _refuse_compressed(path: Path) -> None:
    """UserError for an archive that would unfold to more than it is: torch.save compresses nothing."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    size = sum(member.file_size for member in members)
    if size > path.stat().st_size or any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise UserError(f"{path} is compressed, which torch.save never does: it is refused; unpack it first")
