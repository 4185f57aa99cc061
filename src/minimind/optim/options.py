"""Settings of the optimizers and of their learning rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from minimind.util.typed import Decay, DerivedFloat, Range, Share, Weight


@dataclass(frozen=True)
class OptimizerOptions:
    """How gradients become steps."""

    name: Literal["muon", "adamw", "sgd"] = "muon"
    """muon moves the matrices inside the blocks and leaves the rest to adamw"""
    learning_rate: Annotated[DerivedFloat, Range(0, 10)] = None
    """peak rate; about 0.02 for muon, 0.002 for adamw. Default: 0.02; for a model from scratch it follows from the
    step under muon, from the width under adamw"""
    embedding_learning_rate: Annotated[DerivedFloat, Range(0, 10)] = None
    """peak rate of embedding, output layer and norms; default: learning_rate (0.3 of it under muon). A model from
    scratch under muon: by default it follows from the width"""
    lora_rate_ratio: Annotated[float, Range(0, 1000, above=True)] = 1.0
    """rate of an adapter's B as a multiple of that of its A (LoRA+, Hayou et al. 2024, arXiv:2402.12354, which
    takes 16 with adamw)"""
    weight_decay: Weight = 0.0
    """decoupled, on matrices only"""
    momentum: Decay = 0.95
    """of muon and sgd"""
    iteration: Literal["newton_schulz", "polar_express"] = "newton_schulz"
    """how muon brings singular values to 1; polar_express comes nearer in as many products"""
    row_decay: Decay = 0.0
    """above 0 (0.95): muon divides each row of its update by the row's running size (NorMuon)"""
    cautious_decay: bool = False
    """muon's weight_decay acts only on weights that the update draws towards zero as well"""
    beta1: Decay = 0.9
    """adamw's decay of the mean gradient"""
    beta2: Decay = 0.95
    """adamw's decay of the mean squared gradient"""
    grad_clip: Annotated[float, Range(0, 1e6)] = 1.0
    """largest norm of the whole gradient; 0 = never clipped"""


@dataclass(frozen=True)
class ScheduleOptions:
    """How the learning rate moves."""

    kind: Literal["cosine", "wsd", "constant"] = "wsd"
    """after the warm-up: half a cosine; or stable, then a linear decay; or constant"""
    warmup: Share = 0.05
    """part of all steps in which the rate rises"""
    decay: Share = 0.5
    """part of all steps over which wsd falls"""
    min_lr_ratio: Share = 0.0
    """rate at the end, as a part of the peak"""
