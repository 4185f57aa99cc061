"""From accumulated gradients to new parameters, without asking the device anything."""

from __future__ import annotations

from typing import Any

import torch

GROWTH_STEPS = 1000  # good steps after which fp16's loss scale is doubled


class Update:
    """Unscale, clip and step. A gradient that is not finite changes nothing: no weight, no optimizer state.

    scale     what the loss is multiplied by before the backward pass: 1, but for fp16, whose small gradients
              would vanish (loss scaling: Micikevicius et al. 2018, arXiv:1710.03740)
    """

    def __init__(
        self, optimizers: list[torch.optim.Optimizer], grad_clip: float, fp16: bool, device: torch.device
    ) -> None:
        self.optimizers = optimizers
        self.parameters = [p for o in optimizers for group in o.param_groups for p in group["params"]]
        self.grad_clip = grad_clip
        self.fp16 = fp16
        self.scale = torch.tensor(2.0**16 if fp16 else 1.0, device=device)
        self.good_steps = torch.zeros((), device=device)

    @torch.no_grad()
    def step(self, rate_factor: float, loss: torch.Tensor) -> torch.Tensor:
        """One step at `rate_factor` times the peak rates; returns the gradient's norm before clipping.

        The norm is not finite when the step was skipped, because of the gradient or because of `loss`.
        """
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients) / self.scale + 0 * loss
        bad = ~torch.isfinite(norm)
        limit = self.grad_clip or torch.inf
        torch._foreach_mul_(gradients, (limit / (norm + 1e-6)).clamp(max=1.0) / self.scale)
        for optimizer in self.optimizers:  # fused optimizers, and our Muon, look for `found_inf`
            optimizer.found_inf = bad.float()  # type: ignore[attr-defined]
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * rate_factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self.fp16:
            self._adapt_scale(bad)
        return norm

    def _adapt_scale(self, bad: torch.Tensor) -> None:
        self.good_steps = torch.where(bad, 0.0, self.good_steps + 1)
        grow = self.good_steps >= GROWTH_STEPS
        self.scale = torch.where(bad, self.scale / 2, torch.where(grow, self.scale * 2, self.scale))
        self.good_steps = torch.where(grow, 0.0, self.good_steps)

    def state_dict(self) -> dict[str, Any]:
        return {
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scale": self.scale,
            "good_steps": self.good_steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.scale = state["scale"].to(self.scale.device)
        self.good_steps = state["good_steps"].to(self.scale.device)
