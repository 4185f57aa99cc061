"""A model as one publishes it on the Hugging Face hub: weights in a type of choice, in parts, with a model card."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from minimind.errors import UserError
from minimind.hardware import DTYPES
from minimind.interop.card import About, card
from minimind.interop.exports import Exported, check_replaceable, merge_notes
from minimind.model import load_model
from minimind.model.hf.weights import model_directory, weight_files, write_model
from minimind.tokenizer import Tokenizer
from minimind.util.checksums import write_sums
from minimind.util.files import whole_directory, write_json
from minimind.util.json_files import read_json

UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
FILES = (
    r"config\.json|generation_config\.json|tokenizer\.json|tokenizer_config\.json|README\.md"
    r"|model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json|SHA256SUMS"
)
"""what an export may consist of"""


def export_hf(
    source: str | Path,
    out: str | Path,
    dtype: str = "fp32",
    shard_size: str = "2GB",
    license: str | None = None,
    languages: Sequence[str] = (),
) -> Exported:
    """Write the model of a model or run directory, and a model card, into the directory `out`, whole or not at all.

    dtype       type of the weights: fp32 (every value as it is), bf16 or fp16
    shard_size  bytes of tensors that one file may hold: a number, or with KB, MB, GB (powers of ten)
    license     for the card, as the hub names it: apache-2.0
    languages   for the card, as the hub names them: zh, en

    An earlier export in `out` is replaced. UserError for anything else there, for a value beyond the type's range
    and for a tensor that no file may hold.
    """
    if dtype not in DTYPES:
        raise UserError(f"--dtype {dtype} is unknown; there are {', '.join(DTYPES)}")
    limit, where, out = parse_size(shard_size), model_directory(source), Path(out)
    if out.resolve() == where.resolve():
        raise UserError(f"{out} is the model itself; choose another --out")
    check_replaceable(out, FILES, "README.md", is_export)
    model = load_model(where)
    tokenizer = Tokenizer.load(where) if (where / "tokenizer.json").is_file() else None
    with whole_directory(out.resolve()) as partial:
        write_model(model, partial, tokenizer, DTYPES[dtype], limit)
        copy_generation_config(where, partial, tokenizer)
        files = weight_files(partial)
        size = sum(file.stat().st_size for file in files)
        about = About(out.resolve().name, dtype, len(files), size, license, list(languages))
        text = marked(card(where, model.config, tokenizer, about))
        (partial / "README.md").write_text(text, encoding="utf-8")
        write_sums(partial)
    notes = merge_notes(where)
    if tokenizer is None:
        notes.append(f"{where} has no tokenizer, so only the weights can be used")
    return Exported(model.config.architecture, size, notes, len(files))


def parse_size(text: str) -> int:
    """Bytes of a size as a person writes it: 2GB, 1.5 GB, 500mb, 1000000."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Z]*)", text.strip().upper())
    size = int(float(match[1]) * UNITS[match[2]]) if match and match[2] in UNITS else 0
    if size < 1:
        raise UserError(f"--shard-size {text} is no size; give for example 2GB, 500MB or a number of bytes")
    return size


def is_export(text: str) -> bool:
    """Tell whether a README.md is an export's own, and as it was written."""
    return text == marked(text[: text.rfind("<!--")])


def marked(text: str) -> str:
    """A card with a mark at its end: it tells an export from other directories, and whether the card was edited."""
    return f"{text}<!-- minimind export hf {hashlib.sha256(text.encode()).hexdigest()[:16]} -->\n"


def copy_generation_config(source: Path, directory: Path, tokenizer: Tokenizer | None) -> None:
    """Take over how the model proposes to sample, and say all that it stops at."""
    path = source / "generation_config.json"
    if path.is_file():
        stops = {} if tokenizer is None else {"eos_token_id": list(tokenizer.stop_ids)}
        write_json(directory / path.name, {**read_json(path), **stops})
