"""Whether weights are those of the model that a config describes, told by names and shapes alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch

from minimind.errors import UserError
from minimind.model.config import ModelConfig
from minimind.model.hf.names import to_disk
from minimind.model.transformer import Transformer

Shape = tuple[int, ...]


def shapes_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def check_weights(config: ModelConfig, shapes: Mapping[str, Shape], where: str | Path, file: str | Path) -> None:
    """UserError unless weights of these names and shapes are those that `config` describes; nothing is allocated.

    where  they are from, `file` the config's, both for messages
    """
    check_sizes(config, shapes, file)
    with torch.device("meta"):
        wanted = shapes_of(to_disk(Transformer(config, seed=None).state_dict(), config))
    spare = {"lm_head.weight"} if config.tie_word_embeddings else set()  # some writers keep the tied copy
    check_fit({name: shape for name, shape in shapes.items() if name not in spare}, wanted, where, Path(file).name)


def check_sizes(config: ModelConfig, shapes: Mapping[str, Shape], file: str | Path) -> None:
    """UserError, naming the keys, for sizes that no weights of these shapes have.

    What passes can be built on meta without fear: there are as many layers as tensors at most, and no matrix is
    larger than all the weights together.
    """
    if config.num_hidden_layers > len(shapes):
        raise UserError(
            f"{file}: num_hidden_layers is {config.num_hidden_layers:,}, and the weights are {len(shapes)} tensors"
        )
    heads = [("num_attention_heads", "head_dim"), ("num_key_value_heads", "head_dim")]
    experts = [("num_experts", "moe_intermediate_size"), ("n_shared_experts", "moe_intermediate_size")]
    total = sum(map(math.prod, shapes.values()))
    for keys in [("vocab_size",), *heads, *(experts if config.family.experts else [("intermediate_size",)])]:
        sizes = {key: getattr(config, key) for key in (*keys, "hidden_size")}
        if math.prod(sizes.values()) > total:
            said = " and ".join(f"{key} {size:,}" for key, size in sizes.items())
            raise UserError(f"{file}: {said} make a matrix of more numbers than all the weights have, {total:,}")


def check_fit(shapes: Mapping[str, Shape], wanted: Mapping[str, Shape], where: str | Path, described: str) -> None:
    """UserError naming a tensor that is missing, left over or of another shape than `described` says."""
    for name in {**wanted, **shapes}:
        if name not in shapes:
            raise UserError(f"{where}: tensor {name} is missing")
        if name not in wanted:
            raise UserError(f"{where}: tensor {name} is not part of the model that {described} describes")
        if shapes[name] != wanted[name]:
            raise UserError(f"{where}: tensor {name} has shape {shapes[name]}, {described} says {wanted[name]}")
