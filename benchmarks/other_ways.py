"""Other ways to train than ours, each a stage with one part changed (see levers.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from minimind.data.batches.batch import IGNORE, Batch
from minimind.data.batches.loader import BatchSource, Loader
from minimind.losses import cross_entropy
from minimind.losses.cross_entropy import hidden_states, next_token_nll
from minimind.model import Transformer
from minimind.model.attention import AttentionChoice, Mask, attend
from minimind.model.rope import rotate
from minimind.model.transformer import MLP, Attention, Linear
from minimind.recipe import Recipe
from minimind.stages.pretrain import STAGE as PRETRAIN
from minimind.stages.stage import Stage, make_model
from minimind.train.objective import NextToken, Terms
from minimind.train.setup import Setup


def with_model(change: Callable[[Transformer, Recipe], None]) -> Stage:
    """Pretraining whose model is changed after it was made."""

    def changed(recipe: Recipe) -> Transformer:
        model = make_model(recipe)
        change(model, recipe)
        return model

    return replace(PRETRAIN, model=changed)


def attention_by(choice: AttentionChoice) -> Stage:
    def choose(model: Transformer, recipe: Recipe) -> None:
        model.attention = choice

    return with_model(choose)


def fused(x: torch.Tensor, *linears: Linear) -> tuple[torch.Tensor, ...]:
    """Several products of one input as one; the parameters stay as they are."""
    weight = torch.cat([linear.weight for linear in linears]).to(x.dtype)
    return F.linear(x, weight).split([linear.out_features for linear in linears], -1)


class FusedAttention(Attention):
    """Query, key and value in one product."""

    def forward(self, x_BTD: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor], mask: Mask) -> torch.Tensor:
        B, T, _ = x_BTD.shape
        parts = fused(x_BTD, self.q_proj, self.k_proj, self.v_proj)
        query, key, value = (part.view(B, T, -1, self.head_dim) for part in parts)
        query, key = rotate(self.q_norm(query), *rotation), rotate(self.k_norm(key), *rotation)
        mixed = attend(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), mask)
        return self.o_proj(mixed.transpose(1, 2).reshape(B, T, -1))


class FusedMLP(MLP):
    """Gate and up in one product."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, up = fused(x, self.gate_proj, self.up_proj)
        return self.down_proj(F.silu(gate) * up)


def fuse_products(model: Transformer, recipe: Recipe) -> None:
    config = model.config
    for number in range(config.num_hidden_layers):
        parts: dict[str, nn.Module] = {
            f"model.layers.{number}.self_attn": FusedAttention(config),
            f"model.layers.{number}.mlp": FusedMLP(config.hidden_size, config.intermediate_size),
        }
        for name, part in parts.items():
            part.load_state_dict(model.get_submodule(name).state_dict())
            model.set_submodule(name, part)


def fill_output_projections(model: Transformer, recipe: Recipe) -> None:
    for name, parameter in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            generator = torch.Generator().manual_seed(recipe.seed)
            torch.nn.init.normal_(parameter, std=0.02, generator=generator)


class TwoAhead(NextToken):
    """The next token, and with weight 0.3 the one after it.

    A second head looks at the same hidden states through an MLP of its own and is thrown away at the end (as the
    extra heads of Gloeckle et al. 2024, arXiv:2404.19737, can be).
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        width = setup.model.config.hidden_size
        self.head = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))

    def forward(self, model: Transformer, batch: Batch) -> Terms:
        hidden = hidden_states(model, batch)
        later = torch.full_like(batch.targets, IGNORE)
        same = batch.documents[:, 1:] == batch.documents[:, :-1]
        later[:, :-1] = batch.targets[:, 1:].masked_fill(~same, IGNORE)
        there = later.flatten() >= 0
        guess = (hidden + self.head(hidden)).flatten(0, 1)[there]
        second = cross_entropy.linear_cross_entropy(guess, model.output_weight, later.flatten()[there])
        return Terms({"loss": next_token_nll(model, hidden, batch) + 0.3 * second})


class Growing:
    """Batches of a first loader for so many steps, then those of a second from its own beginning."""

    prefetch = True

    def __init__(self, first: Loader, second: Loader, start: int) -> None:
        self.first, self.second, self.start, self.sequences = first, second, start, second.sequences

    def step(self, k: int, rank: int = 0, world: int = 1) -> Batch:
        if k < self.start:
            return self.first.step(k, rank, world)
        return self.second.step(k - self.start, rank, world)

    def steps(self, epochs: float) -> int:
        return self.second.steps(epochs)

    def epoch(self, k: int) -> float:
        return self.first.epoch(min(k, self.start)) + self.second.epoch(max(0, k - self.start))


def growing(setup: Setup, seq_len: int, sequences: int, later_sequences: int, part: float) -> BatchSource:
    """For a part of the steps sequences of another length or number, then so many of the recipe's length."""
    recipe, documents = setup.recipe, (setup.data, setup.train_documents)
    steps = round((recipe.budget.tokens or 0) / recipe.batch.tokens_per_step)
    first = Loader(*documents, seq_len, sequences, recipe.seed)
    second = Loader(*documents, recipe.batch.seq_len, later_sequences, recipe.seed + 1)
    return Growing(first, second, int(steps * part))


def short_sequences_first(setup: Setup) -> BatchSource:
    """Four times as many sequences of a quarter of the length in the first third of the steps."""
    length, count = setup.recipe.batch.seq_len, setup.recipe.batch.sequences
    return growing(setup, length // 4, 4 * count, count, 1 / 3)


def few_sequences_first(setup: Setup) -> BatchSource:
    """Half of the sequences in the first half of the steps, then one and a half times as many: as many tokens in
    all."""
    length, count = setup.recipe.batch.seq_len, setup.recipe.batch.sequences
    return growing(setup, length, count // 2, 3 * count // 2, 1 / 2)


MASKED_ATTENTION = attention_by("masked")
REFERENCE_ATTENTION = attention_by("reference")
FUSED_PRODUCTS = with_model(fuse_products)
FILLED_PROJECTIONS = with_model(fill_output_projections)
ALL_LOGITS = replace(PRETRAIN, objective=lambda setup: NextToken(cross_entropy.reference))
TWO_AHEAD = replace(PRETRAIN, objective=TwoAhead)
SHORT_FIRST = replace(PRETRAIN, source=short_sequences_first)
FEW_FIRST = replace(PRETRAIN, source=few_sequences_first)
