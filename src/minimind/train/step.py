"""One training step, whole: split into micro-batches, accumulate gradients, reduce, clip, update.

Used by the trainer, by `minimind bench` and by the benchmarks. Nothing in it asks the device anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

from minimind.data.batches.batch import Batch
from minimind.data.batches.collate import split_into_micro_batches
from minimind.errors import UserError
from minimind.model import Transformer
from minimind.optim.groups import build_optimizers
from minimind.optim.options import OptimizerOptions
from minimind.recipe import Recipe
from minimind.train.objective import Auxiliary, Objective
from minimind.train.router import Routers
from minimind.train.strategies import Strategy

T = TypeVar("T")

GROWTH_STEPS = 1000  # good steps after which fp16's loss scale is doubled


@dataclass
class StepResult:
    """What one step was, still on the device.

    losses   (terms,), each divided by its units in the whole step
    metrics  (2, metrics): sums and numbers of units
    norm     of the gradient before clipping; not finite where the step was skipped
    """

    losses: torch.Tensor
    metrics: torch.Tensor
    norm: torch.Tensor


class LossModule(nn.Module):
    """Objective and auxiliaries as one module, so that DDP sees all use of the parameters in one forward."""

    def __init__(self, model: Transformer, objective: Objective, auxiliaries: Sequence[Auxiliary]) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.auxiliaries = auxiliaries

    def forward(self, batch: Batch) -> tuple[dict[str, torch.Tensor], dict[str, tuple[torch.Tensor, torch.Tensor]]]:
        for auxiliary in self.auxiliaries:
            auxiliary.before_forward()
        terms = self.objective(self.model, batch)
        losses = terms.losses
        for auxiliary in self.auxiliaries:
            losses = losses | auxiliary.terms(batch)
        return losses, terms.metrics


class TrainStep:
    """A model with its objective and optimizers, ready to make steps; `strategy` says where.

    scale   what the loss is multiplied by before the backward pass: 1, but for fp16, whose small gradients
            would vanish (loss scaling: Micikevicius et al. 2018, arXiv:1710.03740)
    """

    def __init__(
        self,
        model: Transformer,
        objective: Objective,
        auxiliaries: Sequence[Auxiliary],
        options: OptimizerOptions,
        strategy: Strategy,
        micro_batch_size: int,
        say: Callable[[str], None] = print,
    ) -> None:
        """`micro_batch_size`: sequences computed at once; `say` hears when they become fewer."""
        self.model, self.objective, self.auxiliaries = model, objective, auxiliaries
        self.strategy, self.micro_batch_size, self.say = strategy, micro_batch_size, say
        self.module = strategy.prepare(LossModule(model, objective.to(strategy.device), auxiliaries))
        self.fp16 = model.compute_dtype == torch.float16
        matmul_dtype = torch.float32 if self.fp16 else model.compute_dtype
        self.optimizers = build_optimizers(model, options, matmul_dtype, list(objective.parameters()))
        self.parameters = [p for o in self.optimizers for group in o.param_groups for p in group["params"]]
        self.grad_clip = options.grad_clip
        self.scale = torch.tensor(2.0**16 if self.fp16 else 1.0, device=strategy.device)
        self.good_steps = torch.zeros((), device=strategy.device)
        self.terms: list[str] = []
        self.metrics: list[str] = []

    def __call__(self, batch: Batch, lr_multiplier: float) -> StepResult:
        """One step on this process's share of a batch, at `lr_multiplier` times the peak learning rates."""
        losses, metrics = self.with_less_memory(lambda: self.accumulate(batch))
        norm = self.update(lr_multiplier, losses.sum())
        for auxiliary in self.auxiliaries:
            auxiliary.end_step(self.strategy.total(auxiliary.step_totals()), norm)
        return StepResult(losses, metrics, norm)

    def accumulate(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Accumulate the step's gradient; returns `losses` and `metrics` of the result.

        Every term is divided by its units in the whole step, known before the first forward pass.
        """
        micro_batches = split_into_micro_batches(batch, self.micro_batch_size)
        units = [self.units(micro) for micro in micro_batches]
        self.terms = list(units[0])
        totals = self.strategy.sum([sum(unit[name] for unit in units) for name in self.terms])
        divisors = totals.masked_fill(totals == 0, 1).to(torch.float32)
        for auxiliary in self.auxiliaries:
            auxiliary.begin_step()
        losses = torch.zeros(len(self.terms), device=self.strategy.device)
        metrics: torch.Tensor | float = 0.0
        for number, micro in enumerate(micro_batches, start=1):
            with self.strategy.micro_batch(self.module, last=number == len(micro_batches)):
                sums, looked_at = self.module(micro.to(self.strategy.device))
                shares = torch.stack([sums[name] / divisor for name, divisor in zip(self.terms, divisors)])
                self.strategy.backward(shares.sum() * self.scale)
            losses += shares.detach()
            self.metrics = list(looked_at)
            metrics = metrics + stack_metrics(looked_at, losses)
        assert isinstance(metrics, torch.Tensor)
        return self.strategy.total(losses), self.strategy.total(metrics) if self.metrics else metrics

    def units(self, batch: Batch) -> dict[str, float]:
        """Units of every term: the objective's, then those of the auxiliaries."""
        units = self.objective.units(batch)
        for auxiliary in self.auxiliaries:
            units = units | auxiliary.units(batch)
        return units

    @torch.no_grad()
    def update(self, lr_multiplier: float, loss: torch.Tensor) -> torch.Tensor:
        """Unscale and clip the gradients, move the parameters; returns the gradient's norm before clipping.

        A gradient or `loss` that is not finite changes nothing, no weight and no optimizer state; the norm is then
        not finite either.
        """
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = self.strategy.grad_norm(gradients) / self.scale + 0 * loss
        bad = ~torch.isfinite(norm)
        limit = self.grad_clip or torch.inf
        torch._foreach_mul_(gradients, (limit / (norm + 1e-6)).clamp(max=1.0) / self.scale)
        for optimizer in self.optimizers:  # fused optimizers, and our Muon, look for `found_inf`
            optimizer.found_inf = bad.float()  # type: ignore[attr-defined]
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * lr_multiplier
            self.strategy.step(optimizer)
        self.zero_grad()
        if self.fp16:
            self._adapt_scale(bad)
        return norm

    @property
    def adapts_scale(self) -> bool:
        """Whether fp16's loss scale is still a sensible one; asks the device."""
        return self.fp16 and float(self.scale) >= 1

    def zero_grad(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def _adapt_scale(self, bad: torch.Tensor) -> None:
        self.good_steps = torch.where(bad, 0.0, self.good_steps + 1)
        grow = self.good_steps >= GROWTH_STEPS
        self.scale = torch.where(bad, self.scale / 2, torch.where(grow, self.scale * 2, self.scale))
        self.good_steps = torch.where(grow, 0.0, self.good_steps)

    def with_less_memory(self, work: Callable[[], T]) -> T:
        """What `work` returns; when memory runs out it begins again with half as many sequences at a time, which
        changes no result."""
        while True:
            try:
                return work()
            except torch.OutOfMemoryError:
                smaller = self.micro_batch_size // 2
            if not smaller or self.strategy.world > 1:
                raise UserError(
                    f"out of memory with {self.micro_batch_size} sequences at a time; use a smaller "
                    "batch.micro_batch_tokens, batch.seq_len or model"
                )
            self.micro_batch_size = smaller
            self.zero_grad()
            self.say(f"out of memory: resuming with {smaller} sequences at a time (same results)")

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {
            "optimizers": [self.strategy.state_dict(optimizer) for optimizer in self.optimizers],
            "scale": self.scale,
            "good_steps": self.good_steps,
        }
        state |= {auxiliary.name: auxiliary.state_dict() for auxiliary in self.auxiliaries}
        if objective := self.objective.state_dict():
            state["objective"] = objective
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            self.strategy.load_state_dict(optimizer, saved)
        self.scale = state["scale"].to(self.scale.device)
        self.good_steps = state["good_steps"].to(self.scale.device)
        for auxiliary in self.auxiliaries:
            auxiliary.load_state_dict(state[auxiliary.name])
        self.objective.load_state_dict(state.get("objective", {}))


def make_step(
    recipe: Recipe, model: Transformer, objective: Objective, strategy: Strategy, say: Callable[[str], None] = print
) -> TrainStep:
    """The step of a recipe: with as many sequences at once as `batch.micro_batch_tokens` allows, in equal
    micro-batches, and with the auxiliaries that the model has."""
    share = recipe.batch.sequences // strategy.world
    limit = max(1, min(share, recipe.batch.micro_batch_tokens // recipe.batch.seq_len))
    micro_batch_size = next(size for size in range(limit, 0, -1) if share % size == 0)
    auxiliaries = list(objective.auxiliaries)
    if model.config.family.experts:
        auxiliaries.append(Routers(model, recipe.router, strategy.device))
    return TrainStep(model, objective, auxiliaries, recipe.optimizer, strategy, micro_batch_size, say)


def stack_metrics(metrics: dict[str, tuple[torch.Tensor, torch.Tensor]], like: torch.Tensor) -> torch.Tensor:
    """(2, metrics): sums and numbers of units."""
    if not metrics:
        return like.new_zeros(2, 0)
    return torch.stack([torch.stack([part.detach().float() for part in pair]) for pair in metrics.values()], 1)
