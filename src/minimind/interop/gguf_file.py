"""A GGUF file: the types in which it keeps numbers, writing it, and reading it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from minimind.errors import UserError, missing_extra

try:
    from gguf import GGML_QUANT_SIZES, GGUFReader, GGUFWriter, LlamaFileType
    from gguf import GGMLQuantizationType as Type
    from gguf.quants import dequantize, quantize
except ModuleNotFoundError:
    raise missing_extra("gguf", "gguf") from None

Value = str | int | float | bool | list[str] | list[int]

FILE_TYPES = {
    Type.F32: LlamaFileType.ALL_F32,
    Type.F16: LlamaFileType.MOSTLY_F16,
    Type.BF16: LlamaFileType.MOSTLY_BF16,
    Type.Q8_0: LlamaFileType.MOSTLY_Q8_0,
    Type.Q5_1: LlamaFileType.MOSTLY_Q5_1,
    Type.Q5_0: LlamaFileType.MOSTLY_Q5_0,
    Type.Q4_1: LlamaFileType.MOSTLY_Q4_1,
    Type.Q4_0: LlamaFileType.MOSTLY_Q4_0,
}
"""what can be written -> what a file mostly of it calls itself"""
READABLE = (*FILE_TYPES, Type.Q6_K, Type.Q5_K, Type.Q4_K, Type.Q3_K, Type.Q2_K, Type.IQ4_NL, Type.IQ4_XS)
"""what can be read: also what llama.cpp's llama-quantize makes of a file"""


def type_named(name: str) -> Type:
    """f32 to q4_0; UserError for another."""
    known = {kind.name.lower(): kind for kind in FILE_TYPES}
    if name not in known:
        raise UserError(
            f"GGUF type {name} cannot be written here; types: {', '.join(known)} (for K-quants such as q4_k_m, "
            "export f16 and run llama.cpp's llama-quantize on the file)"
        )
    return known[name]


def choose_type(name: str, tensor: torch.Tensor, wanted: Type) -> Type:
    """The type of one tensor in a file of type `wanted`.

    Vectors and routers, small and delicate, are f32. Embedding and output matrix keep 8 bits at least: an error
    there reaches every logit. Matrices whose rows do not fill whole blocks of numbers are f16.
    """
    if tensor.dim() == 1 or "ffn_gate_inp" in name:
        return Type.F32
    if name in ("token_embd.weight", "output.weight") and _bytes(32, wanted) < _bytes(32, Type.Q8_0):
        wanted = Type.Q8_0
    block, _ = GGML_QUANT_SIZES[wanted]
    return Type.F16 if tensor.shape[-1] % block else wanted


def write(
    path: Path,
    architecture: str,
    fields: Mapping[str, Value],
    tensors: Iterable[tuple[str, torch.Tensor, Type]],
) -> None:
    """Write `path` as it is, piece by piece: no more than one tensor is held in the file's type."""
    writer = GGUFWriter(path, architecture)
    for name, value in fields.items():
        match value:
            case bool():
                writer.add_bool(name, value)
            case int():
                writer.add_uint32(name, value)
            case float():
                writer.add_float32(name, value)
            case str():
                writer.add_string(name, value)
            case list():
                writer.add_array(name, value)
    tensors = list(tensors)
    for name, tensor, kind in tensors:
        size = _bytes(tensor.numel(), kind)
        writer.add_tensor_info(name, tensor.shape, np.dtype(np.float32), size, raw_dtype=kind)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        assert writer.fout is not None
        (file,) = writer.fout
        writer.write_padding(file, file.tell())
        for _, tensor, kind in tensors:
            # Not by the writer, whose numpy does not say why a write failed.
            data = quantize(tensor.contiguous().numpy(), kind)
            file.write(np.ascontiguousarray(data).data)
            writer.write_padding(file, data.nbytes)
    finally:
        writer.close()


def _bytes(numbers: int, kind: Type) -> int:
    block, block_bytes = GGML_QUANT_SIZES[kind]
    return numbers // block * block_bytes


class Stored(NamedTuple):
    """A tensor as it lies in a file; its numbers are read when they are asked for."""

    kind: Type
    shape: tuple[int, ...]
    data: np.ndarray

    def numbers(self) -> torch.Tensor:
        """In fp32."""
        return torch.from_numpy(np.array(dequantize(self.data, self.kind))).view(self.shape)


class Reader(GGUFReader):
    """gguf's reader, which beyond the end of a file finds nothing where this one says so."""

    def _get(self, offset: int, dtype: Any, count: int = 1, *rest: Any, **more: Any) -> np.ndarray:
        numbers = super()._get(offset, dtype, count, *rest, **more)
        if len(numbers) < count:
            raise ValueError("it ends too early")
        return numbers


def read(path: Path) -> tuple[dict[str, Any], dict[str, Stored]]:
    """The fields and tensors of a file by name; UserError for a file that is none, damaged or cut off."""
    try:
        reader = Reader(path)
        fields = {name: field.contents() for name, field in reader.fields.items()}
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; give a GGUF file") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except Exception as error:  # what is cut off or overwritten decides which
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is no GGUF file, or is damaged ({reason}); copy or download it again") from None
    tensors = {t.name: Stored(t.tensor_type, tuple(map(int, t.shape[::-1])), t.data) for t in reader.tensors}
    for name, tensor in tensors.items():
        if tensor.kind not in READABLE:
            raise UserError(
                f"{path}: tensor {name} is of type {tensor.kind.name}, which cannot be read; readable types: "
                f"{', '.join(kind.name for kind in READABLE)}"
            )
    return fields, tensors
