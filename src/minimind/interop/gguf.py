"""A model as one GGUF file, for llama.cpp and the programs that are built on it."""

from __future__ import annotations

from pathlib import Path

import torch

from minimind.errors import UserError
from minimind.infer.sampler import SamplingParams
from minimind.interop.exports import Exported, merge_notes
from minimind.interop.gguf_file import FILE_TYPES, Type, Value, choose_type, type_named, write
from minimind.interop.gguf_model import architecture, settings, tensors
from minimind.interop.gguf_tokenizer import GGUFVocabulary, vocabulary
from minimind.model import load_model
from minimind.model.hf.weights import model_directory, refuse_infinite
from minimind.tokenizer import Tokenizer
from minimind.util.files import whole_file
from minimind.util.json_files import read_json

SAMPLING = {
    "temperature": "temp",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "penalty_repeat",
}
"""our name -> llama.cpp's, for what a file proposes where the user says nothing"""
MORE_STOPS = ("tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")
"""where a file names further tokens at which an answer ends: of the turn, of the message"""


def export_gguf(source: str | Path, path: str | Path, kind: str = "f16") -> Exported:
    """Write the model and tokenizer of a model or run directory into the file `path`, replacing what was there.

    kind  f32, f16, bf16, q8_0, q5_1, q5_0, q4_1 or q4_0

    UserError where llama.cpp would compute something else than the model or find other tokens in a text.
    """
    path, wanted, source = Path(path), type_named(kind), model_directory(source)
    if path.is_dir():
        raise UserError(f"{path} is a directory; give the name of a file, for example {path / 'model.gguf'}")
    model, tokenizer = load_model(source), Tokenizer.load(source)
    words = vocabulary(tokenizer, model.config.vocab_size)
    name = architecture(model.config)
    chosen = [(label, tensor, choose_type(label, tensor, wanted)) for label, tensor in tensors(model)]
    for label, tensor, stored in chosen:
        if stored == Type.F16:
            refuse_infinite({label: tensor.half()}, torch.float16)
    fields: dict[str, Value] = {
        "general.type": "model",
        "general.name": path.stem,
        "general.file_type": int(FILE_TYPES[wanted]),
        "general.quantization_version": 2,  # of the layouts of blocks; there is no newer one
        **{f"general.sampling.{SAMPLING[key]}": value for key, value in sampling(source).items()},
        **{f"{name}.{key}": value for key, value in settings(model.config).items()},
        **_tokenizer_fields(tokenizer, words),
    }
    with whole_file(path) as partial:
        write(partial, name, fields, chosen)
    notes = [*merge_notes(source), *words.notes]
    if forgotten := more_stops(tokenizer, words)[len(MORE_STOPS) :]:
        named = ", ".join(words.tokens[index] for index in forgotten)
        notes.append(f"a GGUF file names three tokens at which answers end; give llama.cpp the others: {named}")
    if uneven := [label for label, _, stored in chosen if stored == Type.F16 != wanted]:
        notes.append(f"{len(uneven)} matrices are f16, because their rows are no multiple of 32: {uneven[0]} …")
    return Exported(name, path.stat().st_size, notes)


def sampling(directory: Path) -> dict[str, float | int]:
    """How a model in `directory` is sampled here, where its `generation_config.json` does not say otherwise.

    All is named, for the defaults of other programs are not ours. UserError if the file is no JSON.
    """
    path, values = directory / "generation_config.json", {name: getattr(SamplingParams, name) for name in SAMPLING}
    if path.is_file():
        content = read_json(path)
        values |= {name: content[name] for name in SAMPLING if content.get(name) is not None}
    try:
        return {name: int(value) if name == "top_k" else float(value) for name, value in values.items()}
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} has no numbers for sampling: {error}") from None


def more_stops(tokenizer: Tokenizer, words: GGUFVocabulary) -> list[int]:
    """What ends an answer beside the end of sequence; padding, which llama.cpp mostly knows by its name, last."""
    others = [index for index in tokenizer.stop_ids if index != tokenizer.eos_id and index < len(words.tokens)]
    return sorted(others, key=lambda index: index == tokenizer.pad_id)


def _tokenizer_fields(tokenizer: Tokenizer, words: GGUFVocabulary) -> dict[str, Value]:
    template = {} if words.chat_template is None else {"tokenizer.chat_template": words.chat_template}
    return {
        "tokenizer.ggml.model": "gpt2",  # byte-level BPE
        "tokenizer.ggml.pre": words.pre,
        "tokenizer.ggml.tokens": words.tokens,
        "tokenizer.ggml.token_type": words.types,
        "tokenizer.ggml.merges": words.merges,
        "tokenizer.ggml.bos_token_id": tokenizer.bos_id,
        "tokenizer.ggml.eos_token_id": tokenizer.eos_id,
        "tokenizer.ggml.padding_token_id": tokenizer.pad_id,
        **dict(zip(MORE_STOPS, more_stops(tokenizer, words))),
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": False,
        **template,
    }
