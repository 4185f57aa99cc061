"""Several adapters over one base, chosen request by request, in one batch.

A merged copy of the weights for each adapter would cost the base's memory as often. Here only the thin matrices are
held, and the base's product is computed once for all tokens (as in Punica, Chen et al. 2023, arXiv:2310.18547, and
S-LoRA, Sheng et al. 2023, arXiv:2311.03285):

    y = x · Wᵀ + (x · A) · B

The A of all adapters that a step needs stand side by side as one matrix, and their B below each other. Of x · A
each token keeps the columns of its own adapter; the others become 0. So every matrix costs two thin products more,
however the adapters are mixed, their ranks may differ, and a token without one gets exactly the base's. Of DoRA
(arXiv:2402.09353) each output is multiplied by a number of its own as well, which is 1 for everybody else.

Letters in names: N tokens, D width of the input, F of the output, R ranks of several matrices together, M adapters
and the base alone, which is the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import torch
from torch import nn

from minimind.errors import UserError
from minimind.model import Transformer
from minimind.model.lora import LoraLinear
from minimind.model.moe import MoE
from minimind.model.transformer import Block, Linear


def fused_linears(block: nn.Module) -> dict[str, list[Linear]]:
    """A block's matrices, those of one input together, by the names that they have in the engine."""
    assert isinstance(block, Block)
    attention, mlp = block.self_attn, block.mlp
    fused = {"qkv": [attention.q_proj, attention.k_proj, attention.v_proj], "out": [attention.o_proj]}
    return (
        fused
        if isinstance(mlp, MoE)
        else fused | {"gate_up": [mlp.gate_proj, mlp.up_proj], "down": [mlp.down_proj]}
    )


def check_adapters(adapted: Mapping[str, Transformer]) -> None:
    """UserError for an adapter of something else than a block's own matrices: of experts."""
    for name, model in adapted.items():
        linears = chain(*(chain(*fused_linears(block).values()) for block in model.model.layers))
        known = {id(part) for one in linears if isinstance(one, LoraLinear) for part in one.parameters()}
        for part, parameter in model.named_parameters():
            if ".lora_" in part and id(parameter) not in known:
                raise UserError(
                    f"adapter {name} cannot be chosen per request, because of its {part}; merge it into its base: "
                    "minimind export hf ADAPTER --out DIR"
                )


def check_name(adapted: Mapping[str, Transformer], name: str | None) -> None:
    """UserError unless one of the adapters has the name; None: the base alone."""
    if name is not None and name not in adapted:
        raise UserError(f"there is no adapter {name} here, but {', '.join(adapted) or 'none at all'}")


class Mix:
    """Which adapter each of a step's N tokens asks for; None: the base alone."""

    def __init__(self, adapters_N: Sequence[str | None], device: torch.device) -> None:
        asked = dict.fromkeys(adapters_N)
        self.names = tuple(sorted(name for name in asked if name is not None))
        self.mixed = len(asked) > 1
        places = [-1 if name is None else self.names.index(name) for name in adapters_N]
        self.places_N1 = torch.tensor(places, device=device)[:, None]
        self.masks: dict[tuple[int, ...], torch.Tensor] = {}

    def others(self, ranks: tuple[int, ...]) -> torch.Tensor:
        """(N, R): the columns that are not of the token's adapter, where the adapters have these ranks."""
        if ranks not in self.masks:
            owners = [place for place, rank in enumerate(ranks) for _ in range(rank)]
            self.masks[ranks] = torch.tensor(owners, device=self.places_N1.device) != self.places_N1
        return self.masks[ranks]


class LowRank:
    """What adapters make of one product y: stretch · y + (x · A) · B, with the adapter's scale and stretch in B.

    `adapted` are the matrices that stand side by side in the product, as each adapter has them.
    """

    def __init__(self, adapted: Mapping[str, Sequence[Linear]], dtype: torch.dtype, device: torch.device) -> None:
        self.parts: dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}  # (R, D), (F, R) and (F,)
        for name, linears in adapted.items():
            A, B, stretch = zip(*map(_low_rank, linears))
            fused = torch.cat(A), torch.block_diag(*B), torch.cat(stretch)
            self.parts[name] = tuple(part.to(device, dtype) for part in fused)  # type: ignore[assignment]
        self.joined: tuple[str, ...] = ()  # the adapters whose matrices stand side by side at present

    def add(self, x_ND: torch.Tensor, y_NF: torch.Tensor, mix: Mix) -> None:
        if mix.names != self.joined:
            self._join(mix.names)
        if not any(self.ranks):
            return
        low_NR = x_ND @ self.A_DR
        if mix.mixed:
            low_NR.masked_fill_(mix.others(self.ranks), 0)
        if self.stretch_MF is not None:
            y_NF.mul_(self.stretch_MF[mix.places_N1[:, 0]])
        y_NF.addmm_(low_NR, self.B_RF)

    def _join(self, names: tuple[str, ...]) -> None:
        parts = [self.parts[name] for name in names]
        A, B, stretch = zip(*parts)
        self.ranks = tuple(map(len, A))
        self.A_DR, self.B_RF = torch.cat(A).t().contiguous(), torch.cat(B, 1).t().contiguous()
        stretch_MF = torch.stack([*stretch, torch.ones_like(stretch[0])])
        self.stretch_MF = None if bool((stretch_MF == 1).all()) else stretch_MF
        self.joined = names


def _low_rank(linear: Linear) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A (r, D), stretch · scale · B (F, r) and the stretch (F,); of a matrix without adapter the rank is 0."""
    stretch_F = torch.ones_like(linear.weight[:, 0])
    if not isinstance(linear, LoraLinear):
        return linear.weight[:0], linear.weight[:, :0], stretch_F
    if linear.options.dora:
        stretch_F = linear.lora_magnitude_vector / linear.row_norms()
    return linear.lora_A.weight, stretch_F[:, None] * linear.scale * linear.lora_B.weight, stretch_F
