"""Muon: momentum whose update is orthogonalized, matrix by matrix.

Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon): the momentum of each matrix is replaced by the
nearest matrix with orthonormal rows or columns, so that all its directions move by the same amount. The nearest
one is approximated by five Newton-Schulz steps, matrix products alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch

Coefficients = tuple[tuple[float, float, float], ...]  # of a step each

# Odd quintics a·x + b·x³ + c·x⁵ that drive singular values in (0, 1] to about 1, one after the other.
ITERATIONS: dict[str, Coefficients] = {
    # The same five times, steep at 0: values come out between about 0.7 and 1.2.
    "newton_schulz": ((3.4445, -4.7750, 2.0315),) * 5,
    # Each the best there is after those before it, for values from 0.001 on (Polar Express, Amsel et al. 2025,
    # arXiv:2505.16932): values come out between 0.85 and 1.15.
    "polar_express": (
        (8.156554524902461, -22.48329292557795, 15.878769915207462),
        (4.042929935166739, -2.808917465908714, 0.5000178451051316),
        (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
        (3.285753657755655, -2.3681294933425376, 0.46449024233002604),
        (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
    ),
}


def orthogonalize(
    matrices_NRC: torch.Tensor, dtype: torch.dtype, coefficients: Coefficients = ITERATIONS["newton_schulz"]
) -> torch.Tensor:
    """A stack of matrices (N, R, C), each replaced by approximately U Vᵀ of its singular value decomposition."""
    x = matrices_NRC.to(dtype)
    tall = x.shape[1] > x.shape[2]
    if tall:  # the products below are R×R: make R the smaller side
        x = x.transpose(1, 2)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for a, b, c in coefficients:
        gram = x @ x.transpose(1, 2)
        poly = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, poly, x, beta=a)
    return x.transpose(1, 2) if tall else x


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay, for matrices (R, C) and stacks of them (E, R, C).

    The update of a matrix is scaled by sqrt(max(1, R / C)), so that one learning rate serves all shapes.
    `found_inf`, a tensor that is 1 when the gradients are not finite, makes a step change nothing, without
    asking the device.

    dtype             of the products of the iteration
    iteration         a key of ITERATIONS
    row_decay         above 0: NorMuon (Li et al. 2025, arXiv:2510.05491). Each row of the update is divided by the
                      running root mean square of its entries, of which this much is kept at each step, and the
                      whole is brought back to its old norm
    cautious_decay    decay only the weights that the update draws towards zero as well (Chen et al. 2025,
                      arXiv:2510.12402)
    """

    found_inf: torch.Tensor | None = None

    def __init__(
        self,
        params: Any,
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
        iteration: str = "newton_schulz",
        row_decay: float = 0.0,
        cautious_decay: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype
        self.coefficients = ITERATIONS[iteration]
        self.row_decay = row_decay
        self.cautious_decay = cautious_decay

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape = defaultdict(list)
            for parameter in group["params"]:
                by_shape[parameter.shape].append(parameter)
            for parameters in by_shape.values():
                self._step_stack(parameters, group["lr"], group["momentum"], group["weight_decay"])

    def _step_stack(self, parameters: list[torch.Tensor], lr: float, momentum: float, weight_decay: float) -> None:
        """One step of all matrices of one shape: the products of their iterations run as one batch."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        assert len(gradients) == len(parameters), "a parameter without gradient"
        buffers = self._state_of(parameters, "momentum", torch.zeros_like)
        bad = None if self.found_inf is None else self.found_inf != 0
        if bad is not None:  # a buffer drawn towards itself stays as it is, bit for bit
            gradients = [torch.where(bad, buffer, gradient) for buffer, gradient in zip(buffers, gradients)]
        torch._foreach_lerp_(buffers, gradients, 1 - momentum)
        nesterov = torch._foreach_lerp(gradients, buffers, momentum)
        rows, columns = parameters[0].shape[-2:]
        stack = torch.cat([matrices.view(-1, rows, columns) for matrices in nesterov])
        update = orthogonalize(stack, self.dtype, self.coefficients).to(parameters[0].dtype)
        updates = list(update.view(-1, *parameters[0].shape).unbind())
        if self.row_decay:
            updates = self._normalise_rows(parameters, updates, bad)
        kept: float | torch.Tensor = 1 - lr * weight_decay
        if bad is not None:
            kept = torch.where(bad, 1.0, kept)
            updates = [torch.where(bad, 0.0, update) for update in updates]
        if self.cautious_decay:
            for parameter, update in zip(parameters, updates):
                parameter.copy_(torch.where(update * parameter > 0, parameter * kept, parameter))
        else:
            torch._foreach_mul_(parameters, kept)
        torch._foreach_sub_(parameters, torch._foreach_mul(updates, lr * max(1.0, rows / columns) ** 0.5))

    def _normalise_rows(
        self, parameters: list[torch.Tensor], updates: list[torch.Tensor], bad: torch.Tensor | None
    ) -> list[torch.Tensor]:
        squares = self._state_of(parameters, "row_squares", lambda p: torch.zeros_like(p[..., :1]))
        means = [update.square().mean(-1, keepdim=True) for update in updates]
        if bad is not None:
            means = [torch.where(bad, square, mean) for square, mean in zip(squares, means)]
        torch._foreach_lerp_(squares, means, 1 - self.row_decay)
        normalized = [update / square.sqrt().clamp_min(1e-8) for update, square in zip(updates, squares)]
        norm = lambda x: x.norm(dim=(-2, -1), keepdim=True)  # noqa: E731
        return [new * (norm(old) / norm(new).clamp_min(1e-8)) for new, old in zip(normalized, updates)]

    def _state_of(
        self, parameters: list[torch.Tensor], name: str, initial: Callable[[torch.Tensor], torch.Tensor]
    ) -> list[torch.Tensor]:
        """The buffers of that name, made where there are none yet."""
        for parameter in parameters:
            if name not in self.state[parameter]:
                self.state[parameter][name] = initial(parameter.detach())
        return [self.state[parameter][name] for parameter in parameters]
