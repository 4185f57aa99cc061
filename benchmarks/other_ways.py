"""Other ways to train than ours, each put in the place of ours for the rest of this process (see levers.py)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from minimind.data.batches.batch import IGNORE, Batch
from minimind.data.batches.loader import Loader
from minimind.losses import cross_entropy, next_token
from minimind.model import Transformer, attention, transformer
from minimind.model.moe import Routing
from minimind.model.transformer import MLP, Linear
from minimind.optim.options import OptimizerOptions
from minimind.recipe import Recipe
from minimind.stages import pretrain
from minimind.stages.launch import Loaded
from minimind.train import parallel, trainer
from minimind.train.objective import NextToken


def one_masked_call() -> None:
    transformer.make_mask = lambda documents, compiled: attention.Mask(attention.document_mask(documents))


def plain_products() -> None:
    one_masked_call()
    transformer.attend = lambda q, k, v, mask: attention.reference_attention(q, k, v, mask.allowed_BTS)


def memory_given_back() -> None:
    parallel.keep_freed_memory = lambda: None


def all_logits_at_once() -> None:
    next_token.linear_cross_entropy = cross_entropy.reference


def fused_products() -> None:
    """Query, key and value in one product, gate and up in another; the parameters stay as they are."""

    def fused(x: torch.Tensor, *linears: Linear) -> tuple[torch.Tensor, ...]:
        weight = torch.cat([linear.weight for linear in linears]).to(x.dtype)
        return F.linear(x, weight).split([linear.out_features for linear in linears], -1)

    def attend(self: transformer.Attention, x_BTD, rotation, mask):  # type: ignore[no-untyped-def]
        B, T, _ = x_BTD.shape
        parts = fused(x_BTD, self.q_proj, self.k_proj, self.v_proj)
        query, key, value = (part.view(B, T, -1, self.head_dim) for part in parts)
        query = transformer.rotate(self.q_norm(query), *rotation)
        key = transformer.rotate(self.k_norm(key), *rotation)
        mixed = transformer.attend(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), mask)
        return self.o_proj(mixed.transpose(1, 2).reshape(B, T, -1))

    def feed_forward(self: MLP, x: torch.Tensor) -> torch.Tensor:
        gate, up = fused(x, self.gate_proj, self.up_proj)
        return self.down_proj(F.silu(gate) * up)

    transformer.Attention.forward, MLP.forward = attend, feed_forward  # type: ignore[method-assign]


def projections_not_zero() -> None:
    ours = transformer.initialize

    def initialize(model: Transformer, seed: int) -> None:
        ours(model, seed)
        for name, parameter in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                torch.nn.init.normal_(parameter, std=0.02, generator=torch.Generator().manual_seed(seed))

    transformer.initialize = initialize


class TwoAhead(NextToken):
    """The next token, and with weight 0.3 the one after it.

    A second head looks at the same hidden states through an MLP of its own and is thrown away at the end (as the
    extra heads of Gloeckle et al. 2024, arXiv:2404.19737, can be).
    """

    head: nn.Module

    def __call__(
        self, model: Transformer, batch: Batch, routings: list[Routing] | None = None
    ) -> dict[str, torch.Tensor]:
        hidden = model(batch.tokens, batch.positions, batch.documents, routings=routings)
        later = torch.full_like(batch.targets, IGNORE)
        same = batch.documents[:, 1:] == batch.documents[:, :-1]
        later[:, :-1] = batch.targets[:, 1:].masked_fill(~same, IGNORE)
        there = later.flatten() >= 0
        guess = (hidden + self.head(hidden)).flatten(0, 1)[there]
        second = cross_entropy.linear_cross_entropy(guess, model.output_weight, later.flatten()[there])
        return {"loss": next_token.next_token_nll(model, hidden, batch) + 0.3 * second}


def two_tokens_ahead() -> None:
    pretrain.OBJECTIVE = TwoAhead
    ours = trainer.build_optimizers

    def with_head(model: Transformer, options: OptimizerOptions, dtype: torch.dtype) -> list[torch.optim.Optimizer]:
        width = model.config.hidden_size
        TwoAhead.head = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
        rate = 0.002
        group = {"params": list(TwoAhead.head.parameters()), "lr": rate, "initial_lr": rate}
        second = torch.optim.AdamW([group], betas=(0.9, 0.95), weight_decay=0.0, fused=True)
        return [*ours(model, options, dtype), second]

    trainer.build_optimizers = with_head


class Growing:
    """Batches of a first loader for so many steps, then those of a second from its own beginning."""

    def __init__(self, first: Loader, second: Loader, steps: int) -> None:
        self.first, self.second, self.steps = first, second, steps

    def step(self, k: int, rank: int = 0, world: int = 1) -> Batch:
        if k < self.steps:
            return self.first.step(k, rank, world)
        return self.second.step(k - self.steps, rank, world)

    def epoch(self, k: int) -> float:
        return self.first.epoch(min(k, self.steps)) + self.second.epoch(max(0, k - self.steps))


def short_rows_first(recipe: Recipe, loaded: Loaded, steps: int) -> Growing:
    """Four times as many rows of a quarter of the length in the first third of the steps."""
    data, documents, _ = loaded
    length, rows = recipe.batch.seq_len, recipe.batch.rows
    short = Loader(data, documents, length // 4, 4 * rows, recipe.seed)
    return Growing(short, Loader(data, documents, length, rows, recipe.seed + 1), steps // 3)


def few_rows_first(recipe: Recipe, loaded: Loaded, steps: int) -> Growing:
    """Half of the rows in the first half of the steps, then one and a half times as many: as many tokens in all."""
    data, documents, _ = loaded
    length, rows = recipe.batch.seq_len, recipe.batch.rows
    few = Loader(data, documents, length, rows // 2, recipe.seed)
    return Growing(few, Loader(data, documents, length, 3 * rows // 2, recipe.seed + 1), steps // 2)
