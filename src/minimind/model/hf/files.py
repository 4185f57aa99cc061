"""Files of weights: which of a directory's hold them, what their headers say, and their tensors."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from minimind.errors import UserError
from minimind.util.checksums import SUMS, is_changed
from minimind.util.json_files import read_json

log = logging.getLogger("minimind")
INDEX = "model.safetensors.index.json"
TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
Shape = tuple[int, ...]

WRAPPERS = re.compile(r"(?<![^.])(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""what DDP, torch.compile, FSDP and activation checkpointing put into a parameter's name"""


def weight_files(directory: Path) -> list[Path]:
    """The files that hold a directory's weights, none if there are none; UserError naming a part that is missing.

    As transformers chooses them: `model.safetensors`, else the parts that the index names. Parts without an index
    are taken as well.
    """
    whole, index = directory / "model.safetensors", directory / INDEX
    if whole.is_file():
        return [whole]
    if not index.is_file():
        return sorted(directory.glob("model*.safetensors"))
    places = read_json(index).get("weight_map")
    names = list(places.values()) if isinstance(places, dict) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise UserError(f"{index} is no index of the parts of a model; copy it again")
    names = sorted(set(names))
    if outside := [name for name in names if name == ".." or not re.fullmatch(r"[^/\\\0]{1,200}", name)]:
        raise UserError(f"{index} names {outside[0]!r}, which is no file beside it; copy the whole model again")
    if missing := [name for name in names if not (directory / name).is_file()]:
        raise UserError(f"{directory} lacks {', '.join(missing)}, named in {INDEX}; copy the whole model again")
    return [directory / name for name in names]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    refuse_pointer(path)
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}); copy it again or use another checkpoint") from None


def refuse_pointer(path: Path) -> None:
    """UserError for a file of which only Git LFS's pointer was fetched."""
    with path.open("rb") as file:
        if file.read(40).startswith(b"version https://git-lfs"):
            raise UserError(f"{path} is only a pointer of Git LFS; fetch the file itself with `git lfs pull`")


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of one file, in the types they are stored in."""
    with _opened(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    warn_of_change(path)
    return tensors


def warn_of_change(path: Path) -> None:
    if is_changed(path):
        log.warning("%s is damaged, or was replaced: it does not fit the %s beside it", path, SUMS)


@contextmanager
def open_tensors(paths: Sequence[Path]) -> Iterator[dict[str, Callable[[], torch.Tensor]]]:
    """By name what reads each tensor of some files, in fp32 and finite, so that one at a time is in memory."""

    def read(file: Any, path: Path, name: str) -> torch.Tensor:
        tensor = file.get_tensor(name)
        check_numbers(name, tensor, path.parent)
        return tensor.float()

    with ExitStack() as stack:
        readers: dict[str, Callable[[], torch.Tensor]] = {}
        for path in paths:
            warn_of_change(path)
            file = stack.enter_context(_opened(path))
            readers |= {WRAPPERS.sub("", name): partial(read, file, path, name) for name in file.keys()}  # noqa: SIM118
        yield readers


def read_metadata(path: Path) -> dict[str, str]:
    """The texts in a file's header."""
    with _opened(path) as file:
        return file.metadata() or {}


def read_shapes(paths: Sequence[Path]) -> dict[str, Shape]:
    """The shapes that the headers of safetensors files name; they fill the files, or else these are damaged."""
    shapes: dict[str, Shape] = {}
    for path in paths:
        with _opened(path) as file:
            for name in file.keys():  # noqa: SIM118
                shapes[WRAPPERS.sub("", name)] = tuple(file.get_slice(name).get_shape())
    return shapes


def read_files(
    paths: Sequence[Path], read: Callable[[Path], dict[str, torch.Tensor]] = read_safetensors
) -> dict[str, torch.Tensor]:
    """All tensors of several files, by the names that they have without wrappers; UserError for one twice."""
    tensors: dict[str, torch.Tensor] = {}
    for path in paths:
        for name, tensor in read(path).items():
            if (plain := WRAPPERS.sub("", name)) in tensors:
                where = f"{path}: tensor {name} is also in another file or under another name"
                raise UserError(f"{where}; keep the files of one model only")
            tensors[plain] = tensor
    return tensors


def check_numbers(name: str, tensor: torch.Tensor, where: str | Path) -> None:
    """UserError for a tensor whose numbers are quantized, or not finite."""
    if tensor.dtype not in TYPES:
        raise UserError(f"{where}: tensor {name} is {tensor.dtype}: quantized weights are not supported")
    # One pass and no memory; `isfinite().all()` takes thirteen times as long.
    if tensor.numel() and not all(edge.float().isfinite() for edge in tensor.aminmax()):
        raise UserError(
            f"{where}: the weights are not finite: tensor {name} holds NaN or infinity; take an earlier checkpoint "
            "or another copy of the model"
        )


def fingerprint(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of names, types, shapes and values, in whatever order and files the tensors lie."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
