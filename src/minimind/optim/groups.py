"""Which optimizer moves which parameter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from minimind.optim.muon import Muon

if TYPE_CHECKING:
    from minimind.model import Transformer
    from minimind.optim.options import OptimizerOptions


def build_optimizers(
    model: Transformer,
    options: OptimizerOptions,
    matmul_dtype: torch.dtype,
    others: Sequence[torch.nn.Parameter] = (),
) -> list[torch.optim.Optimizer]:
    """The optimizers of a model. Every trainable parameter is in exactly one; weight decay acts on matrices only.

    others  parameters that are trained beside the model's, such as a head: treated as the embedding is

    muon   Muon for the matrices inside the blocks; AdamW for embedding, output layer, routers and norms
    adamw  AdamW for all (Loshchilov & Hutter 2019, arXiv:1711.05101)
    sgd    SGD with momentum for all
    An adapter's B has `lora_rate_ratio` times the rate of the other matrices (LoRA+).
    Each group keeps its peak rate as `initial_lr`; the schedule sets `lr`.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    # A router's rows are scores of classes, as those of the output layer: not a map between two spaces.
    outer_names = ("embed_tokens.weight", "lm_head.weight", "score.weight", "mlp.gate.weight")
    outer = {name: p for name, p in parameters.items() if name.endswith(outer_names)}
    norms = {name: p for name, p in parameters.items() if p.ndim == 1}
    trained_beside = {f"other.{number}": p for number, p in enumerate(others) if p.requires_grad}
    matrices = {name: p for name, p in parameters.items() if name not in outer and name not in norms}
    ratio = options.lora_rate_ratio
    raised = {name: p for name, p in matrices.items() if ".lora_B." in name and ratio != 1}
    matrices = {name: p for name, p in matrices.items() if name not in raised}
    outer |= trained_beside
    parameters |= trained_beside

    def groups(kinds: list[tuple[dict[str, torch.nn.Parameter], float, float]]) -> list[dict]:
        return [
            {"params": list(named.values()), "lr": rate, "initial_lr": rate, "weight_decay": decay}
            for named, rate, decay in kinds
            if named
        ]

    decay, rate = options.weight_decay, options.learning_rate
    embedding_rate = options.embedding_learning_rate
    betas = (options.beta1, options.beta2)
    optimizers: list[torch.optim.Optimizer]
    if options.name == "muon":
        muon = Muon(
            groups([(matrices, rate, decay), (raised, ratio * rate, decay)]),
            momentum=options.momentum,
            dtype=matmul_dtype,
            iteration=options.iteration,
            row_decay=options.row_decay,
            cautious_decay=options.cautious_decay,
        )
        rest = groups([(outer, embedding_rate, 0.0), (norms, embedding_rate, 0.0)])
        optimizers = [muon, *([torch.optim.AdamW(rest, betas=betas, fused=True)] if rest else [])]
    else:
        inner = [(matrices, rate, decay), (raised, ratio * rate, decay)]
        kinds = groups([*inner, (outer, embedding_rate, decay), (norms, embedding_rate, 0.0)])
        if options.name == "adamw":
            optimizers = [torch.optim.AdamW(kinds, betas=betas, fused=True)]
        else:
            sgd = torch.optim.SGD(kinds, momentum=options.momentum, fused=True)
            for parameter in parameters.values():  # torch leaves them unset when the first step is skipped
                sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
            optimizers = [sgd]
    covered = [id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    assert sorted(covered) == sorted(id(p) for p in parameters.values()), "each parameter in one optimizer"
    return optimizers
