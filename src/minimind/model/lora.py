"""LoRA: a frozen matrix learns a correction of low rank (Hu et al. 2021, arXiv:2106.09685).

Fine-tuning all of W costs a gradient and an optimizer's state for every weight. What it changes is close to a
matrix of low rank, so here W stays as it is, and only two thin matrices are trained: A (r, D) and B (F, r).

    y = x · Wᵀ + scale · (x · Aᵀ) · Bᵀ

A starts random and B zero, so training starts at the base model exactly. `merge_lora` adds scale · B · A to W, and
then the adapter costs nothing. The matrices of a model's experts are stacked, and so are their A and B.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from minimind.errors import UserError
from minimind.model.count import count_parameters
from minimind.model.moe import MATRICES, Correction, Experts
from minimind.model.quantized import BaseBits, QuantizedLinear, quantize
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
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.0
    """share of an adapter's inputs that a training step leaves out, against overfitting on few examples"""
    dora: bool = False
    """train length and direction of each matrix's rows apart (DoRA, Liu et al. 2024, arXiv:2402.09353): often
    better at small ranks, and slower"""
    base_bits: BaseBits = 32
    """bits of each weight of the blocks' frozen matrices during the training: 8 or 4 take less memory and more time
    (QLoRA, Dettmers et al. 2023, arXiv:2305.14314). Not for a model with experts"""
    targets: list[str] = field(default_factory="q_proj k_proj v_proj o_proj gate_proj up_proj down_proj".split)
    """names of the matrices that get an adapter; of a model with experts gate_proj, up_proj and down_proj are those
    of all its experts, and shared_expert.gate_proj and its like those of the shared one"""

    def __post_init__(self) -> None:
        check_fields(self, "lora.")
        if not self.targets:
            raise UserError("lora.targets is empty; name matrices, for example q_proj v_proj")

    def effective_alpha(self) -> float:
        return 2.0 * self.rank if self.alpha is None else self.alpha

    def scale(self) -> float:
        return self.effective_alpha() / (self.rank**0.5 if self.rank_stabilized else self.rank)


class Base(NamedTuple):
    """The model that an adapter was made for."""

    path: Path
    fingerprint: str
    """SHA-256 of its weights in fp32"""


class Coverage(NamedTuple):
    """What an adapter covers."""

    modules: list[str]
    """names of the adapted matrices; the experts' of one kind in a block count as one"""
    parameters: int
    """number of its own"""
    share: float
    """of all the model's, its own included"""

    def __str__(self) -> str:
        kinds = ", ".join(dict.fromkeys(re.sub(r"model\.layers\.\d+\.\w+\.", "", name) for name in self.modules))
        return f"{self.parameters:,} parameters ({self.share:.2%} of all) in {len(self.modules)} adapters ({kinds})"


class LoraLinear(Linear):
    """A frozen Linear with a correction of low rank; its parts are named as in peft.

    With `dora` each row of the corrected matrix is brought to a length that is trained, m (F,):

        y_f = m_f / ‖W'_f‖ · x · W'_f, where W' = W + scale · B · A

    ‖W'‖ counts as a constant in the gradient, as the paper proposes (section 4.3).
    """

    def __init__(self, linear: Linear, options: LoraOptions, base: Base | None, generator: torch.Generator) -> None:
        with torch.device("meta"):  # its own matrix is not needed
            super().__init__(linear.in_features, linear.out_features)
            self.lora_A = Linear(linear.in_features, options.rank)
            self.lora_B = Linear(options.rank, linear.out_features)
        self.base_layer = linear if isinstance(linear, QuantizedLinear) else None
        if self.base_layer is None:
            self.weight = linear.weight
        else:
            self.register_parameter("weight", None)
        self.options, self.base, self.scale, self.enabled = options, base, options.scale(), True
        self.lora_A.weight, self.lora_B.weight = thin_matrices(linear.weight, options.rank, generator)
        if options.dora:
            self.lora_magnitude_vector = nn.Parameter(torch.linalg.vector_norm(linear.weight.detach(), dim=1))

    def frozen(self, x: torch.Tensor) -> torch.Tensor:
        """x · Wᵀ."""
        return super().forward(x) if self.base_layer is None else self.base_layer(x)

    def frozen_weight(self) -> torch.Tensor:
        """W (F, D), made anew where it is kept in fewer bits."""
        return self.weight if self.base_layer is None else self.base_layer.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        plain = self.frozen(x)
        if not self.enabled:
            return plain
        drop = self.options.dropout > 0 and self.training
        kept = F.dropout(x, self.options.dropout) if drop else x
        low_rank = self.scale * self.lora_B(self.lora_A(kept))
        if not self.options.dora:
            return plain + low_rank
        stretch = (self.lora_magnitude_vector / self.row_norms()).to(x.dtype)
        turned = self.frozen(kept) if drop else plain  # of what is dropped the base's own part stays
        return plain + (stretch - 1) * turned + stretch * low_rank

    @torch.no_grad()
    def row_norms(self) -> torch.Tensor:
        """(F,): lengths of the rows of W + scale · B · A."""
        return torch.linalg.vector_norm(self.corrected_weight(), dim=1)

    def corrected_weight(self) -> torch.Tensor:
        return self.frozen_weight() + self.scale * (self.lora_B.weight @ self.lora_A.weight)

    def merged_weight(self) -> torch.Tensor:
        """W + scale · B · A; with `dora` its rows brought to their trained lengths."""
        if not self.options.dora:
            return self.corrected_weight()
        return (self.lora_magnitude_vector / self.row_norms())[:, None] * self.corrected_weight()

    def merged(self) -> Linear:
        with torch.device("meta"):
            linear = Linear(self.in_features, self.out_features)
        linear.weight = nn.Parameter(self.merged_weight())
        return linear


class LoraExperts(Experts):
    """Frozen experts, each with corrections of low rank of its own to its matrices of some kinds, stacked."""

    def __init__(
        self,
        experts: Experts,
        kinds: list[str],
        options: LoraOptions,
        base: Base | None,
        generator: torch.Generator,
    ) -> None:
        nn.Module.__init__(self)
        self.options, self.base, self.scale, self.enabled = options, base, options.scale(), True
        for name in MATRICES:
            self.register_parameter(name, experts.get_parameter(name))
        self.lora_A, self.lora_B = nn.ParameterDict(), nn.ParameterDict()
        for name in kinds:
            matrix_EOI = experts.get_parameter(name)
            self.lora_A[name], self.lora_B[name] = thin_matrices(matrix_EOI, options.rank, generator)

    def corrections(self, dtype: torch.dtype) -> list[Correction | None]:
        if not self.enabled:
            return [None] * len(MATRICES)
        return [
            Correction(self.lora_A[name].to(dtype), self.scale * self.lora_B[name].to(dtype))
            if name in self.lora_A
            else None
            for name in MATRICES
        ]

    def merged(self) -> Experts:
        experts = Experts.__new__(Experts)
        nn.Module.__init__(experts)
        for name in MATRICES:
            weight = self.get_parameter(name)
            if name in self.lora_A:
                weight = weight + self.scale * (self.lora_B[name] @ self.lora_A[name])
            experts.register_parameter(name, nn.Parameter(weight))
        return experts


Adapted = LoraLinear | LoraExperts
HEAD = "score.weight"
"""what an adapter of a reward model trains and keeps as a whole: it begins at zero, and has no base"""
PARTS = (".lora_A", ".lora_B", ".base_layer")
"""Linears inside an adapted one"""


def thin_matrices(weight: torch.Tensor, rank: int, generator: torch.Generator) -> tuple[nn.Parameter, nn.Parameter]:
    """A (…, r, I) and B (…, O, r) beside matrices (…, O, I): A starts as a Linear of torch does, and B zero."""
    *stack, outputs, inputs = weight.shape
    noise = torch.rand((*stack, rank, inputs), generator=generator) * 2 - 1
    a, b = (noise * inputs**-0.5).to(weight), torch.zeros(*stack, outputs, rank).to(weight)
    return nn.Parameter(a), nn.Parameter(b)


def add_lora(model: Transformer, options: LoraOptions, seed: int = 0, base: Base | None = None) -> Coverage:
    """Give every matrix that `options.targets` names an adapter, and freeze all else but a reward model's head.

    A target is the end of a matrix's name, as in peft: `q_proj`, or `layers.0.self_attn.q_proj`; those of a shared
    expert are meant only where it is named. `base` is the model that the adapter is for; its files name it.
    UserError for a target that is not there.
    """
    assert options.rank > 0, "a rank of 0 stands for no adapter"
    assert not has_lora(model), "one adapter at a time"
    names = adaptable(model)
    matches = {t: {name for name in names if is_named(t, name)} for t in options.targets}
    for target, found in matches.items():
        if not found:
            kinds = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in names))
            raise UserError(f"lora.targets: this model has no {target} to adapt; there are {kinds}")
    adapted = [name for name in names if any(name in found for found in matches.values())]
    if model.config.family.experts and (options.dropout or options.dora) and any(".mlp." in n for n in adapted):
        name = "lora.dora" if options.dora else "lora.dropout"
        raise UserError(f"{name} cannot be had for experts; give --lora.targets q_proj k_proj v_proj o_proj")
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name == HEAD)
    if options.base_bits != 32:
        if model.config.family.experts:
            raise UserError(
                f"lora.base_bits {options.base_bits} cannot be had for a model with experts; leave it out"
            )
        quantize(model, names, options.base_bits)
    for name, module in list(model.named_modules()):
        if isinstance(module, Linear) and name in adapted:
            model.set_submodule(name, LoraLinear(module, options, base, generator).train(model.training))
        elif isinstance(module, Experts) and (stacks := [m for m in MATRICES if f"{name}.{m}" in adapted]):
            model.set_submodule(name, LoraExperts(module, stacks, options, base, generator).train(model.training))
    return coverage(model)


def is_named(target: str, name: str) -> bool:
    is_shared = ".shared_expert." in name and "shared_expert" not in target
    return f".{name}".endswith(f".{target}") and not is_shared


def adaptable(model: Transformer) -> list[str]:
    """Names of the matrices inside the blocks, those of the experts stacked; a router has no adapter."""
    names: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, Experts):
            names += [f"{name}.{kind}" for kind in MATRICES]
        elif isinstance(module, Linear) and ".layers." in name and not name.endswith(PARTS):
            names.append(name)
    return names


def coverage(model: Transformer) -> Coverage:
    """What the adapter of a model covers, and its share of all parameters."""
    modules: list[str] = []
    for name, layer in adapted_modules(model).items():
        modules += [name] if isinstance(layer, LoraLinear) else [f"{name}.{kind}" for kind in layer.lora_A]
    beside = sum(p.numel() for name, p in model.named_parameters() if ".lora_" in name)
    parameters = beside + sum(p.numel() for name, p in model.named_parameters() if name == HEAD)
    return Coverage(modules, parameters, parameters / (count_parameters(model.config)["total"] + beside))


def adapted_modules(model: nn.Module) -> dict[str, Adapted]:
    """The modules with an adapter by name: Linears, and the experts of a block."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Adapted)}


def lora_layers(model: nn.Module) -> dict[str, LoraLinear]:
    """The adapted Linears by name."""
    return {name: layer for name, layer in adapted_modules(model).items() if isinstance(layer, LoraLinear)}


def has_lora(model: nn.Module) -> bool:
    return bool(adapted_modules(model))


@contextmanager
def without_lora(model: Transformer) -> Iterator[None]:
    """Inside, the model computes what its base does and records no routings: a reference without a second model."""
    layers, routings = adapted_modules(model).values(), model.routings
    model.routings = None
    for layer in layers:
        layer.enabled = False
    try:
        yield
    finally:
        model.routings = routings
        for layer in layers:
            layer.enabled = True


@torch.no_grad()
def merge_lora(model: nn.Module) -> dict[str, Adapted]:
    """Make the adapter part of the weights: a plain model, trainable as a whole; returns what was replaced."""
    layers = adapted_modules(model)
    for name, layer in layers.items():
        model.set_submodule(name, layer.merged())
    model.requires_grad_(True)
    return layers


def unmerge_lora(model: nn.Module, layers: dict[str, Adapted]) -> None:
    """Put back what `merge_lora` replaced, to the last bit."""
    for name, layer in layers.items():
        model.set_submodule(name, layer)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".lora_" in name or name == HEAD)
