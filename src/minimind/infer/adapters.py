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

import torch
from torch import nn

from minimind.errors import UserError
from minimind.model import Transformer
from minimind.model.lora import LoraLinear
from minimind.model.moe import MATRICES, Correction, Experts, MoE
from minimind.model.transformer import MLP, Block, Linear


def fused_linears(block: nn.Module) -> dict[str, list[Linear]]:
    """A block's matrices, those of one input together, by the names that they have in the engine."""
    assert isinstance(block, Block)
    attention = block.self_attn
    mlp = block.mlp.shared_expert if isinstance(block.mlp, MoE) else block.mlp
    fused = {"qkv": [attention.q_proj, attention.k_proj, attention.v_proj], "out": [attention.o_proj]}
    if isinstance(mlp, MLP):  # dense, or the expert that every token sees
        fused |= {"gate_up": [mlp.gate_proj, mlp.up_proj], "down": [mlp.down_proj]}
    return fused


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


class ExpertsLowRank:
    """The same for a block's experts, whose A and B are stacked: one correction of each kind of their matrices.

    `adapted` are the experts as each adapter has them.
    """

    def __init__(self, adapted: Mapping[str, Experts], dtype: torch.dtype, device: torch.device) -> None:
        self.parts = {
            name: [
                None if part is None else tuple(matrix.to(device, copy=True) for matrix in part[:2])
                for part in experts.corrections(dtype)
            ]
            for name, experts in adapted.items()
        }
        self.joined: tuple[str, ...] = ()
        self.stacks: list[tuple[tuple[int, ...], torch.Tensor, torch.Tensor] | None] = []

    def corrections(self, mix: Mix | None) -> list[Correction | None]:
        """One of gate, up and down each, for the adapters that a step's tokens ask for."""
        if mix is None:
            return [None] * len(MATRICES)
        if mix.names != self.joined:
            self._join(mix.names)
        found: list[Correction | None] = []
        for stack in self.stacks:
            if stack is None:
                found.append(None)
            else:
                ranks, a_ErI, b_EOr = stack
                found.append(Correction(a_ErI, b_EOr, mix.others(ranks) if mix.mixed else None))
        return found

    def _join(self, names: tuple[str, ...]) -> None:
        self.joined, self.stacks = names, []
        for parts in zip(*(self.parts[name] for name in names)):
            ranks = tuple(0 if part is None else part[0].shape[1] for part in parts)
            if there := [part for part in parts if part is not None]:
                A, B = zip(*there)
                self.stacks.append((ranks, torch.cat(A, 1), torch.cat(B, 2)))
            else:
                self.stacks.append(None)


def _low_rank(linear: Linear) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A (r, D), stretch · scale · B (F, r) and the stretch (F,); of a matrix without adapter the rank is 0."""
    stretch_F = torch.ones_like(linear.weight[:, 0])
    if not isinstance(linear, LoraLinear):
        return linear.weight[:0], linear.weight[:, :0], stretch_F
    if linear.options.dora:
        stretch_F = linear.lora_magnitude_vector / linear.row_norms()
    return linear.lora_A.weight, stretch_F[:, None] * linear.scale * linear.lora_B.weight, stretch_F
