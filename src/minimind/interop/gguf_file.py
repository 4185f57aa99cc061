"""A GGUF file: the types in which it keeps numbers, and writing it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from minimind.errors import UserError, missing_extra

try:
    from gguf import GGML_QUANT_SIZES, GGUFWriter, LlamaFileType
    from gguf import GGMLQuantizationType as Type
    from gguf.quants import quantize
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


def type_named(name: str) -> Type:
    """f32 to q4_0; UserError for another."""
    known = {kind.name.lower(): kind for kind in FILE_TYPES}
    if name not in known:
        raise UserError(
            f"GGUF type {name} cannot be written here; types: {', '.join(known)} (for K-quants such as q4_k_m, export "
            "f16 and run llama.cpp's llama-quantize on the file)"
        )
    return known[name]


def choose_type(name: str, tensor: torch.Tensor, wanted: Type) -> Type:
    """The type of one tensor in a file of type `wanted`.

    Vectors and routers, small and delicate, are f32. Embedding and output matrix keep 8 bits at least: an error there
    reaches every logit. Matrices whose rows do not fill whole blocks of numbers are f16.
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
        stored = _bytes(tensor.numel(), kind)
        writer.add_tensor_info(name, tensor.shape, torch.empty(0).numpy().dtype, stored, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, tensor, kind in tensors:
        writer.write_tensor_data(quantize(tensor.contiguous().numpy(), kind))
    writer.close()


def _bytes(numbers: int, kind: Type) -> int:
    block, block_bytes = GGML_QUANT_SIZES[kind]
    return numbers // block * block_bytes
