"""Muon: momentum whose update is orthogonalised, matrix by matrix.

Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon): the momentum of each matrix is replaced by the
nearest matrix with orthonormal rows or columns, so that all its directions move by the same amount. The nearest
one is approximated by five Newton-Schulz steps, matrix products alone.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch

# An odd quintic a·x + b·x³ + c·x⁵ whose iteration drives singular values in (0, 1] to about 1, steep at 0.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5


def orthogonalise(matrices_NRC: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A stack of matrices (N, R, C), each replaced by approximately U Vᵀ of its singular value decomposition.

    Singular values come out between about 0.7 and 1.2, which serves as well as exactly 1.
    """
    a, b, c = COEFFICIENTS
    x = matrices_NRC.to(dtype)
    tall = x.shape[1] > x.shape[2]
    if tall:  # the products below are R×R: make R the smaller side
        x = x.transpose(1, 2)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.transpose(1, 2)
        poly = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, poly, x, beta=a)
    return x.transpose(1, 2) if tall else x


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay, for matrices (R, C) and stacks of them (E, R, C).

    The update of a matrix is scaled by sqrt(max(1, R / C)), so that one learning rate serves all shapes.
    `found_inf`, a tensor that is 1 when the gradients are not finite, makes a step change nothing, without
    asking the device.
    """

    found_inf: torch.Tensor | None = None

    def __init__(
        self,
        params: Any,
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype  # of the Newton-Schulz products

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape = defaultdict(list)
            for parameter in group["params"]:
                by_shape[parameter.shape].append(parameter)
            for parameters in by_shape.values():
                self._step_stack(parameters, group["lr"], group["momentum"], group["weight_decay"])

    def _step_stack(self, parameters: list[torch.Tensor], lr: float, momentum: float, weight_decay: float) -> None:
        """One step of all matrices of one shape: their Newton-Schulz products run as one batch."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        assert len(gradients) == len(parameters), "a parameter without gradient"
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        buffers = [self.state[parameter]["momentum"] for parameter in parameters]
        if self.found_inf is not None:  # a buffer drawn towards itself stays as it is, bit for bit
            bad = self.found_inf != 0
            gradients = [torch.where(bad, buffer, gradient) for buffer, gradient in zip(buffers, gradients)]
        torch._foreach_lerp_(buffers, gradients, 1 - momentum)
        nesterov = torch._foreach_lerp(gradients, buffers, momentum)
        rows, columns = parameters[0].shape[-2:]
        stack = torch.cat([matrices.view(-1, rows, columns) for matrices in nesterov])
        update = orthogonalise(stack, self.dtype).to(parameters[0].dtype)
        update = update * (lr * max(1.0, rows / columns) ** 0.5)
        decay: float | torch.Tensor = 1 - lr * weight_decay
        if self.found_inf is not None:
            update = torch.where(bad, 0.0, update)
            decay = torch.where(bad, 1.0, decay)
        torch._foreach_mul_(parameters, decay)
        torch._foreach_sub_(parameters, list(update.view(-1, *parameters[0].shape).unbind()))
