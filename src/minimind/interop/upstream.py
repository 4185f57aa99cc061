"""The public MiniMind project's weights of every version, turned into the Hugging Face layout.

A version is recognized by its tensors:

| tensors                                | version                                                      |
|----------------------------------------|--------------------------------------------------------------|
| `self_attn.q_norm`                     | minimind-3                                                   |
| `self_attn.q_proj` without             | minimind2                                                    |
| `attention.wq`, keys ¼ of its width    | minimind2-legacy, of early 2025                              |
| `attention.wq`, keys ½ of its width    | minimind-v1, of 2024                                         |
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from reprlib import repr as shown
from typing import Any

import torch

from minimind.errors import UserError
from minimind.interop.checkpoints import find_weights, read_tensors
from minimind.interop.rotary_pairs import halves
from minimind.interop.versions import VERSIONS, UpstreamSettings, model_config, read_settings
from minimind.model import ModelConfig, Transformer
from minimind.model.config import FAMILIES
from minimind.model.hf.adapter import is_adapter
from minimind.model.hf.config import from_hf
from minimind.model.hf.files import check_numbers
from minimind.model.hf.fit import check_sizes, check_weights, shapes_of
from minimind.model.hf.names import STACKED, to_disk
from minimind.model.hf.weights import load_model, set_tensors
from minimind.tokenizer import Tokenizer
from minimind.util.json_files import read_json

EARLY_NAMES = {
    "lm_head": "output",
    "embed_tokens": "tok_embeddings",
    "post_attention_layernorm": "ffn_norm",
    "input_layernorm": "attention_norm",
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "mlp.": "feed_forward.",
    "gate_proj": "w1",
    "down_proj": "w2",
    "up_proj": "w3",
    "shared_experts.0.": "shared_experts.",
    "model.": "",
}
FEED_FORWARD = (("gate_proj", 0), ("up_proj", 0), ("down_proj", 1))  # along which dimension its width lies
LORA = re.compile(r"\blora(\.|_)[AB]\b", re.IGNORECASE)
# What can be computed from the config, and lies in some files all the same: rotary tables and causal masks.
BUFFERS = re.compile(
    r"(model\.)?(freqs_cis|pos_cis|freqs_cos|freqs_sin|rotary_emb\.inv_freq)"
    r"|layers\.\d+\.attention\.mask|model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq"
)


@dataclass
class UpstreamWeights:
    """Weights that were read and recognized."""

    where: str
    """file or folder, for messages"""
    folder: Path
    config: ModelConfig
    version: str | None
    """None for a folder in Hugging Face's own layout"""
    source: str
    """what names the settings that the tensors do not tell, for messages"""
    tensors: dict[str, torch.Tensor]


def read_weights(path: str | Path, version: str | None = None, config: str | Path | None = None) -> UpstreamWeights:
    """Read published weights: a `.pth`, `.bin` or `.safetensors` file, or a folder with a `config.json`, or with an
    adapter, which is merged into its base.

    version     one of VERSIONS; by default it is recognized by the tensors
    config      a file with the settings that tensors cannot tell; by default the `config.json` beside the weights

    What neither says is taken from the version's published defaults. UserError for everything that does not fit.
    """
    if version not in (None, *VERSIONS):
        raise UserError(f"version {version!r} is unknown; there are {', '.join(VERSIONS)}")
    files = find_weights(path)
    where, folder = str(path), files[0].parent
    if is_adapter(folder):
        adapted = load_model(folder)
        tensors = to_disk(adapted.state_dict(), adapted.config)
        return UpstreamWeights(where, folder, adapted.config, None, where, tensors)
    content, source = read_config_file(folder, config)
    if not content and version is None and files[0].suffix in (".safetensors", ".bin"):
        raise UserError(f"{folder} has no config.json; give one as --config, or a --version for its defaults")
    kind = content.get("model_type", "minimind")
    if not isinstance(kind, str) or (kind not in FAMILIES and kind.lower() != "minimind"):
        raise UserError(
            f"{source}: model_type {shown(kind)} is not supported; known: minimind, {', '.join(FAMILIES)}"
        )
    tensors = {name: t for name, t in read_tensors(files).items() if not BUFFERS.fullmatch(name)}
    if tensors and all(LORA.search(name) for name in tensors):
        raise UserError(
            f"{where} is a LoRA adapter alone (its first tensor: {next(iter(tensors))}), not a model; name the "
            "directory of the model that it was trained on with --base, and it becomes an adapter of that"
        )
    for name, tensor in tensors.items():
        check_numbers(name, tensor, where)
    if kind in FAMILIES:
        found = _hugging_face_config(content, source, version)
        return UpstreamWeights(where, folder, found, None, source, tensors)
    settings = read_settings(content, source)
    if version and settings.version not in (None, version):
        raise UserError(f"{source} is of version {settings.version}, not {version}; leave --version out")
    version = version or settings.version or recognize(tensors, where)
    shape = _config(version, settings, tensors, where)
    return UpstreamWeights(where, folder, shape, version, source, tensors)


def _hugging_face_config(content: dict[str, Any], source: str, version: str | None) -> ModelConfig:
    """The shape of a folder in Hugging Face's own layout. It does not record at which length it was trained, unless
    its version is given."""
    config = from_hf(content, source)
    if version is None:
        return config
    known = VERSIONS[version]
    if config.model_type not in (known.dense, known.sparse):
        raise UserError(f"{source}: a {config.model_type} model is not {version}; leave --version out")
    trained = config.original_max_position_embeddings or known.defaults["original_max_position_embeddings"]
    return replace(config, original_max_position_embeddings=trained)


def read_config_file(folder: Path, config: str | Path | None) -> tuple[dict[str, Any], str]:
    """The settings given, else those beside the weights, and the file's name; nothing if there are none."""
    path = folder / "config.json" if config is None else Path(config)
    if config is None and not path.is_file():
        return {}, str(folder)
    return read_json(path, "give a config.json"), str(path)


def recognize(tensors: dict[str, torch.Tensor], where: str) -> str:
    """The version whose names and shapes these are; UserError for tensors of no known architecture."""
    if any(".self_attn.q_norm." in name for name in tensors):
        return "minimind-3"
    if any(".self_attn.q_proj." in name for name in tensors):
        return "minimind2"
    query = _size(tensors, ("layers.*.attention.wq.weight", 0))
    key = _size(tensors, ("layers.*.attention.wk.weight", 0))
    if query and key and key * 2 == query:
        return "minimind-v1"
    if query and key and key * 4 == query:
        return "minimind2-legacy"
    if query and key:
        raise UserError(
            f"{where}: its keys are {key} wide and its queries {query}, so it cannot be told of which version "
            f"it is; give --version {' or '.join(name for name, g in VERSIONS.items() if g.early)}"
        )
    some = ", ".join(list(tensors)[:3]) or "none at all"
    raise UserError(
        f"{where} holds no known architecture (its tensors: {some} …); supported are the MiniMind versions "
        f"{', '.join(VERSIONS)} and Hugging Face folders of {', '.join(FAMILIES)}"
    )


def read_tokenizer(directory: str | Path, config: ModelConfig) -> Tokenizer:
    """The tokenizer of a directory; UserError if the model has no rows for some of its ids."""
    tokenizer = Tokenizer.load(directory)
    if tokenizer.vocab_size > config.vocab_size:
        raise UserError(
            f"the tokenizer in {directory} has {tokenizer.vocab_size} ids and the model only {config.vocab_size}; "
            "give the one that it was trained with"
        )
    return tokenizer


def build(weights: UpstreamWeights) -> Transformer:
    """The model, fp32 on the CPU, in evaluation mode; UserError naming a tensor that does not fit."""
    if weights.version is None:
        check_weights(weights.config, shapes_of(weights.tensors), weights.where, weights.source)
        model = Transformer(weights.config, seed=None)
        set_tensors(model, {name: tensor.float() for name, tensor in weights.tensors.items()}, weights.where)
        return model.eval()
    early = VERSIONS[weights.version].early
    check_sizes(weights.config, shapes_of(weights.tensors), weights.source)
    with torch.device("meta"):
        expected = places(Transformer(weights.config, seed=None), early)
    _check(weights, expected)
    model = Transformer(weights.config, seed=None)
    with torch.no_grad():
        for name, place in places(model, early).items():
            turned = name.endswith((".wq.weight", ".wk.weight"))
            tensor = weights.tensors[name]
            place.copy_(halves(tensor, weights.config.head_dim) if turned else tensor)
    return model.eval()


def places(model: Transformer, early: bool) -> dict[str, torch.Tensor]:
    """Each tensor that the project's files hold, and the part of the model's memory that it fills."""
    parameters: dict[str, torch.Tensor] = {}
    for name, parameter in model.named_parameters():
        if stacked := STACKED.fullmatch(name):
            experts, matrix = stacked.groups()
            parameters |= {f"{experts}.{number}.{matrix}.weight": one for number, one in enumerate(parameter)}
        elif ".shared_expert." in name:  # theirs lie side by side in ours, which is as wide as all together
            parts = parameter.chunk(model.config.n_shared_experts, dim=1 if "down_proj" in name else 0)
            for number, part in enumerate(parts):
                parameters[name.replace(".shared_expert.", f".shared_experts.{number}.")] = part
        else:
            parameters[name] = parameter
    return {early_name(name): place for name, place in parameters.items()} if early else parameters


def early_name(name: str) -> str:
    """A parameter's name as the versions before 2025 had it."""
    for ours, theirs in EARLY_NAMES.items():
        name = name.replace(ours, theirs)
    return name


def _check(weights: UpstreamWeights, expected: dict[str, torch.Tensor]) -> None:
    """UserError naming the first tensor that is missing, left over or of another shape."""
    described = f"a {weights.version} model with these settings"
    for name in expected:
        if name not in weights.tensors:
            raise UserError(f"{weights.where}: tensor {name} of {described} is missing")
    for name in weights.tensors:
        if name not in expected:
            raise UserError(f"{weights.where}: tensor {name} is not part of {described}")
    for name, place in expected.items():
        shape, wanted = tuple(weights.tensors[name].shape), tuple(place.shape)
        if shape != wanted:
            raise UserError(
                f"{weights.where}: tensor {name} has shape {shape}, in {described} it has {wanted}; other settings "
                "than the published ones come from --config"
            )


# ------------------------------------------------------------------------------------ what the tensors tell


def _config(version: str, settings: UpstreamSettings, tensors: dict[str, torch.Tensor], where: str) -> ModelConfig:
    """The model's shape. A head that repeats the embedding is taken out of `tensors`."""
    early = VERSIONS[version].early
    shape = _shape(tensors, early)
    tied = settings.values.get("tie_word_embeddings")
    embedding, head = (early_name(n) if early else n for n in ("model.embed_tokens.weight", "lm_head.weight"))
    if embedding not in tensors:  # without it nothing tells how large the model is
        raise UserError(f"{where}: tensor {embedding} of a {version} model with these settings is missing")
    if head in tensors and tied is not False:
        equal = torch.equal(tensors[embedding], tensors[head])
        if tied and not equal:
            raise UserError(
                f"{settings.where} says tie_word_embeddings, but {head} and {embedding} are not the same"
            )
        shape["tie_word_embeddings"] = equal
        if equal:
            del tensors[head]
    return model_config(version, settings, shape)


def _shape(tensors: dict[str, torch.Tensor], early: bool) -> dict[str, Any]:
    """Read settings from names and shapes. Of sizes the commonest counts, so that an odd one is found."""

    def size(*places: tuple[str, int]) -> int | None:
        return _size(tensors, *((early_name(name) if early else name, dim) for name, dim in places))

    layer = "model.layers.*"
    experts = _count(tensors, r".*\.experts\.(\d+)\..*")
    mlp = f"{layer}.mlp.experts.*" if experts else f"{layer}.mlp"
    shape: dict[str, Any] = {
        "vocab_size": size(("model.embed_tokens.weight", 0)),
        "hidden_size": size(
            (f"{layer}.input_layernorm.weight", 0), (f"{layer}.post_attention_layernorm.weight", 0)
        ),
        "intermediate_size": size(*((f"{mlp}.{matrix}.weight", dim) for matrix, dim in FEED_FORWARD)),
        "num_hidden_layers": _count(tensors, r"(?:model\.)?layers\.(\d+)\..*") or None,
        "use_moe": bool(experts),
    }
    if experts:
        shape["num_experts"] = experts
        shape["n_shared_experts"] = _count(tensors, r".*\.shared_experts\.(\d+|w1)\..*")
    if channels := size((f"{layer}.self_attn.q_norm.weight", 0), (f"{layer}.self_attn.k_norm.weight", 0)):
        shape["head_dim"] = channels
        for name, matrix in (("num_attention_heads", "q_proj"), ("num_key_value_heads", "k_proj")):
            shape[name] = (size((f"{layer}.self_attn.{matrix}.weight", 0)) or 0) // channels
    return {name: value for name, value in shape.items() if value is not None}


def _size(tensors: dict[str, torch.Tensor], *places: tuple[str, int]) -> int | None:
    """The commonest size that tensors of these names have along these dimensions; `*` in a name is any number."""
    sizes: Counter[int] = Counter()
    for wanted, dim in places:
        pattern = re.compile(re.escape(wanted).replace(r"\*", r"\d+"))
        sizes.update(t.shape[dim] for name, t in tensors.items() if pattern.fullmatch(name) and t.dim() > dim)
    return sizes.most_common(1)[0][0] if sizes else None


def _count(tensors: dict[str, torch.Tensor], pattern: str) -> int:
    """How many different things the pattern's group finds in the names."""
    return len({match[1] for name in tensors if (match := re.fullmatch(pattern, name))})
