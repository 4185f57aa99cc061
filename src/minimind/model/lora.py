"""LoRA: a frozen matrix learns a correction of low rank (Hu et al. 2021, arXiv:2106.09685).

Fine-tuning all of W costs a gradient and an optimizer's state for every weight. What it changes is close to a
matrix of low rank, so here W stays as it is, and only two thin matrices are trained: A (r, D) and B (F, r).

    y = x · Wᵀ + scale · (x · Aᵀ) · Bᵀ

A starts random and B zero, so training starts at the base model exactly. `merge_lora` adds scale · B · A to W, and
then the adapter costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, NamedTuple

import torch

from minimind.errors import UserError
from minimind.model.transformer import Linear, Transformer
from minimind.util.typed import Range, check_fields


@dataclass(frozen=True)
class LoraOptions:
    """A small adapter that is trained instead of all weights."""

    rank: Annotated[int, Range(0, 2**16)] = 0
    """rank of the adapter's matrices; 0 = no adapter, all weights are trained"""
    alpha: Annotated[float | None, Range(0, 1e6)] = None
    """what the adapter adds is multiplied by alpha / rank. Default: 2 · rank"""
    rank_stabilized: bool = False
    """multiply by alpha / sqrt(rank) instead, for large ranks (rsLoRA, Kalajdzievski 2023, arXiv:2312.03732)"""
    targets: list[str] = field(default_factory="q_proj k_proj v_proj o_proj gate_proj up_proj down_proj".split)
    """names of the matrices that get an adapter; of a model with experts only q_proj, k_proj, v_proj, o_proj can"""

    def __post_init__(self) -> None:
        check_fields(self, "lora.")
        if not self.targets:
            raise UserError("lora.targets is empty; name matrices, for example q_proj v_proj")

    def effective_alpha(self) -> float:
        return 2.0 * self.rank if self.alpha is None else self.alpha

    def scale(self) -> float:
        return self.effective_alpha() / (self.rank**0.5 if self.rank_stabilized else self.rank)


class Coverage(NamedTuple):
    """What an adapter covers."""

    modules: list[str]
    """names of the adapted matrices"""
    parameters: int
    """number of its own"""


class LoraLinear(Linear):
    """A frozen Linear with a correction of low rank; its parts are named as in peft."""

    def __init__(self, linear: Linear, options: LoraOptions, base: Path | None, generator: torch.Generator) -> None:
        with torch.device("meta"):  # its own matrix is not needed
            super().__init__(linear.in_features, linear.out_features)
        self.weight = linear.weight
        self.options, self.base, self.scale = options, base, options.scale()
        self.lora_A = Linear(linear.in_features, options.rank).to(self.weight)
        self.lora_B = Linear(options.rank, linear.out_features).to(self.weight)
        noise = torch.rand(self.lora_A.weight.shape, generator=generator) * 2 - 1
        with torch.no_grad():
            self.lora_A.weight.copy_(noise * linear.in_features**-0.5)  # as a Linear of torch starts
            self.lora_B.weight.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + self.scale * self.lora_B(self.lora_A(x))

    def merged_weight(self) -> torch.Tensor:
        """W + scale · B · A."""
        return self.weight + self.scale * (self.lora_B.weight @ self.lora_A.weight)


def add_lora(model: Transformer, options: LoraOptions, seed: int = 0, base: Path | None = None) -> Coverage:
    """Give every matrix that `options.targets` names an adapter, and freeze all else.

    A target is the end of a matrix's name, as in peft: `q_proj`, or `layers.0.self_attn.q_proj`. `base` is the
    directory that the model was read from; the adapter's files name it. UserError for a target that is not there.
    """
    assert options.rank > 0, "a rank of 0 stands for no adapter"
    assert not has_lora(model), "one adapter at a time"
    linears = adaptable(model)
    matches = {t: {name for name in linears if f".{name}".endswith(f".{t}")} for t in options.targets}
    for target, names in matches.items():
        if not names:
            why = " (experts get no adapters)" if model.config.family.experts else ""
            kinds = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in linears))
            raise UserError(f"lora.targets: this model has no {target} to adapt{why}; there are {kinds}")
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    for name, linear in linears.items():
        if any(name in names for names in matches.values()):
            model.set_submodule(name, LoraLinear(linear, options, base, generator))
    return Coverage(list(lora_layers(model)), sum(p.numel() for p in model.parameters() if p.requires_grad))


def adaptable(model: Transformer) -> dict[str, Linear]:
    """The matrices inside the blocks by name; of a model with experts those of the attention."""
    where = ".self_attn." if model.config.family.experts else ".layers."
    return {name: module for name, module in model.named_modules() if type(module) is Linear and where in name}


def lora_layers(model: Transformer) -> dict[str, LoraLinear]:
    """The adapted matrices by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLinear)}


def has_lora(model: Transformer) -> bool:
    return bool(lora_layers(model))


@torch.no_grad()
def merge_lora(model: Transformer) -> dict[str, LoraLinear]:
    """Make the adapter part of the weights: a plain model, trainable as a whole; returns what was replaced."""
    layers = lora_layers(model)
    for name, layer in layers.items():
        with torch.device("meta"):
            linear = Linear(layer.in_features, layer.out_features)
        linear.weight = torch.nn.Parameter(layer.merged_weight())
        model.set_submodule(name, linear)
    model.requires_grad_(True)
    return layers


def unmerge_lora(model: Transformer, layers: dict[str, LoraLinear]) -> None:
    """Put back what `merge_lora` replaced, to the last bit."""
    model.requires_grad_(False)
    for name, layer in layers.items():
        model.set_submodule(name, layer)
