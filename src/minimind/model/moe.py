"""Mixture of experts: a router sends each token to k of E feed-forward networks.

Letters in names: N tokens, D model width, E experts, K experts per token, F width of an expert.
`dispatch_grouped` sorts the tokens by expert, so that each expert reads one block of rows and all are one grouped
matrix product; no token is dropped, nothing is asked of the device. `dispatch_loop` is the obvious way, and the
reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from minimind.model.config import ModelConfig
from minimind.model.kernels.grouped_matmul import grouped_matmul

MATRICES = ("gate_proj", "up_proj", "down_proj")


class Correction(NamedTuple):
    """What is added to the experts' matrices of one kind: B · A to each expert's (O, I)."""

    a_ErI: torch.Tensor
    b_EOr: torch.Tensor
    others_Nr: torch.Tensor | None = None
    """where a token's product with A counts as 0, if the ranks are several adapters' and each token has its own"""


class Routing(NamedTuple):
    """What a router decided for N tokens."""

    logits_NE: torch.Tensor
    """raw scores, in the computation's type"""
    chosen_NK: torch.Tensor
    """indices of the chosen experts"""


class Router(nn.Module):
    """Scores experts and chooses the best k of them for each token.

    By softmax, as Qwen3-MoE (Shazeer et al. 2017, arXiv:1701.06538), or by sigmoids with a bias per expert that
    takes part in choosing only (DeepSeek-V3, arXiv:2412.19437, equation 16). A module named `gate`, as in
    Hugging Face.
    """

    e_score_correction_bias: torch.Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.top_k = config.num_experts_per_tok
        self.normalize = config.norm_topk_prob
        self.scaling = config.routed_scaling_factor
        self.sigmoid = config.family.sigmoid
        self.weight = nn.Parameter(torch.empty(config.num_experts, config.hidden_size))
        if self.sigmoid:
            self.register_buffer("e_score_correction_bias", torch.zeros(config.num_experts))

    def scores(self, logits_NE: torch.Tensor) -> torch.Tensor:
        """(N, E) in at least fp32: each token's probabilities of the experts, or its E independent sigmoids."""
        wide = logits_NE.to(torch.promote_types(logits_NE.dtype, torch.float32))
        return wide.sigmoid() if self.sigmoid else wide.softmax(-1)

    def forward(self, x_ND: torch.Tensor) -> tuple[torch.Tensor, Routing]:
        """Weights (N, K) of the chosen experts, in the type of x, and the routing."""
        # Hugging Face's class of the sigmoid router computes its logits in fp32, that of the softmax does not.
        x_ND = x_ND.to(torch.promote_types(x_ND.dtype, torch.float32)) if self.sigmoid else x_ND
        logits_NE = F.linear(x_ND, self.weight.to(x_ND.dtype))
        scores_NE = self.scores(logits_NE)
        preferred_NE = scores_NE + self.e_score_correction_bias if self.sigmoid else scores_NE
        chosen_NK = preferred_NE.topk(self.top_k, dim=-1).indices
        weights_NK = scores_NE.gather(-1, chosen_NK)
        if self.normalize and self.top_k == 1:
            # p / p is 1 whatever p is: no gradient would reach the router. This is 1, too, with the gradient of
            # log p (a straight-through weight).
            weights_NK = weights_NK / weights_NK.detach()
        elif self.normalize:
            weights_NK = weights_NK / weights_NK.sum(-1, keepdim=True)
        return weights_NK * self.scaling, Routing(logits_NE, chosen_NK)


class Experts(nn.Module):
    """E SwiGLU networks, their matrices stacked; on disk each has its own, see `layout`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        E, D, width = config.num_experts, config.hidden_size, config.moe_intermediate_size
        self.gate_proj = nn.Parameter(torch.empty(E, width, D))
        self.up_proj = nn.Parameter(torch.empty(E, width, D))
        self.down_proj = nn.Parameter(torch.empty(E, D, width))

    def forward(self, x_ND: torch.Tensor, chosen_NK: torch.Tensor, weights_NK: torch.Tensor) -> torch.Tensor:
        """(N, D): for each token the weighted sum of its chosen experts' outputs."""
        gate, up, down = (getattr(self, name).to(x_ND.dtype) for name in MATRICES)
        corrections = self.corrections(x_ND.dtype)
        return dispatch_grouped(x_ND, chosen_NK, weights_NK, gate, up, down, corrections)

    def corrections(self, dtype: torch.dtype) -> Sequence[Correction | None]:
        """What is added to each of MATRICES; nothing, but for adapters (see model.lora)."""
        return (None,) * len(MATRICES)


class MoE(nn.Module):
    """Routed experts, and shared ones that see every token (DeepSeekMoE, arXiv:2401.06066, equation 9)."""

    def __init__(self, config: ModelConfig, shared_expert: nn.Module | None) -> None:
        super().__init__()
        self.gate = Router(config)
        self.experts = Experts(config)
        self.shared_expert = shared_expert

    def forward(self, x_BTD: torch.Tensor) -> tuple[torch.Tensor, Routing]:
        x_ND = x_BTD.flatten(0, 1)
        weights_NK, routing = self.gate(x_ND)
        out_ND = self.experts(x_ND, routing.chosen_NK, weights_NK.to(x_ND.dtype))
        if self.shared_expert is not None:
            out_ND = out_ND + self.shared_expert(x_ND)
        return out_ND.view_as(x_BTD), routing


def dispatch_loop(
    x_ND: torch.Tensor,
    chosen_NK: torch.Tensor,
    weights_NK: torch.Tensor,
    gate_EFD: torch.Tensor,
    up_EFD: torch.Tensor,
    down_EDF: torch.Tensor,
) -> torch.Tensor:
    """The reference: one expert after the other, each on the tokens that chose it."""
    out_ND = torch.zeros_like(x_ND)
    for expert, (gate, up, down) in enumerate(zip(gate_EFD, up_EFD, down_EDF)):
        token, slot = (chosen_NK == expert).nonzero(as_tuple=True)
        rows = x_ND[token]
        rows = F.linear(F.silu(F.linear(rows, gate)) * F.linear(rows, up), down)
        out_ND = out_ND.index_add(0, token, rows * weights_NK[token, slot, None])
    return out_ND


def dispatch_grouped(
    x_ND: torch.Tensor,
    chosen_NK: torch.Tensor,
    weights_NK: torch.Tensor,
    gate_EFD: torch.Tensor,
    up_EFD: torch.Tensor,
    down_EDF: torch.Tensor,
    corrections: Sequence[Correction | None] = (None, None, None),
) -> torch.Tensor:
    """The same with the rows sorted by expert; `corrections` are added to gate, up and down."""
    N, K = chosen_NK.shape
    expert_of_row = chosen_NK.flatten()
    order = expert_of_row.argsort(stable=True)
    back = torch.empty_like(order).scatter_(0, order, torch.arange(N * K, device=order.device))
    counts_E = (expert_of_row[:, None] == torch.arange(len(gate_EFD), device=order.device)).sum(0)
    ends_E = counts_E.cumsum(0).to(torch.int32)  # expert e has the rows from ends[e - 1] up to ends[e]
    rows = x_ND[:, None].expand(N, K, -1).reshape(N * K, -1)
    rows = _Permute.apply(rows, order, back)  # type: ignore[no-untyped-call]
    gate, up, down = corrections
    tokens = order // K
    gated = F.silu(corrected(rows, gate_EFD, gate, ends_E, tokens)) * corrected(rows, up_EFD, up, ends_E, tokens)
    rows = corrected(gated, down_EDF, down, ends_E, tokens)
    rows = _Permute.apply(rows, back, order)  # type: ignore[no-untyped-call]
    return (rows.view(N, K, -1) * weights_NK[..., None]).sum(1)


def corrected(
    rows_NI: torch.Tensor,
    weight_EOI: torch.Tensor,
    correction: Correction | None,
    ends_E: torch.Tensor,
    tokens_N: torch.Tensor,
) -> torch.Tensor:
    """(N, O): each group of rows by its expert's matrix, with what is added to that; see `grouped_matmul`.

    tokens_N  which token each row is of
    """
    out_NO = grouped_matmul(rows_NI, weight_EOI, ends_E)
    if correction is None:
        return out_NO
    low_Nr = grouped_matmul(rows_NI, correction.a_ErI, ends_E)
    if correction.others_Nr is not None:
        low_Nr = low_Nr.masked_fill(correction.others_Nr[tokens_N], 0)
    return out_NO + grouped_matmul(low_Nr, correction.b_EOr, ends_E)


class _Permute(torch.autograd.Function):
    """rows[order]. Autograd's own backward would add rows up one by one; the inverse order picks them."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, order: torch.Tensor, back: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(back)
        return rows[order]

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:  # type: ignore[override]
        (back,) = ctx.saved_tensors
        return grad[back], None, None
