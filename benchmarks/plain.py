"""The plain recipe: how tutorials and the public MiniMind train, as a yardstick for ours.

One sample a row, cut at a fixed length and padded to it; AdamW with one rate and weight decay on every parameter;
half a cosine from the full rate to a tenth of it, no warm-up; 8 micro-batches a step, each divided by its own
tokens; eager; fp32 on a CPU, bf16 autocast on CUDA; all logits at once. The model is ours without what makes it
fast: causal scaled_dot_product_attention, for behind the one document of a row there is only padding. Weights begin
as in GPT-2 (normal, 0.02). Samples are tokenized beforehand, which the usual script does while it trains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from minimind.data.batches.batch import IGNORE
from minimind.data.batches.documents import Documents
from minimind.model import ModelConfig, Transformer


@dataclass(frozen=True)
class PlainRecipe:
    """The settings of the public MiniMind's pretraining."""

    length: int = 340
    """positions of a row"""
    rows: int = 32
    """rows of a micro-batch"""
    accumulation: int = 8
    """micro-batches of a step"""
    learning_rate: float = 5e-4
    weight_decay: float = 0.01


class Plain:
    """A training by the plain recipe."""

    def __init__(
        self,
        recipe: PlainRecipe,
        config: ModelConfig,
        data: Documents,
        documents: np.ndarray,
        steps: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self.recipe, self.data, self.documents, self.steps, self.device = recipe, data, documents, steps, device
        self.model = Transformer(config, seed)
        torch.manual_seed(seed)
        for parameter in self.model.parameters():
            if parameter.ndim == 2:
                torch.nn.init.normal_(parameter, std=0.02)
        self.model.to(device)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.random = np.random.default_rng(seed)
        self.order = np.empty(0, np.int64)
        self.done = 0

    @property
    def tokens_per_micro_batch(self) -> float:
        """Positions of a micro-batch that are no padding, on average over all samples."""
        lengths = np.minimum(self.data.lengths[self.documents] - 1, self.recipe.length)
        return self.recipe.rows * float(lengths.mean())

    def rows(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The next samples: tokens and targets, (rows, length) each; every epoch is shuffled anew."""
        count, length = self.recipe.rows, self.recipe.length
        while len(self.order) < count:
            self.order = np.concatenate([self.order, self.random.permutation(self.documents)])
        chosen, self.order = self.order[:count], self.order[count:]
        tokens = torch.zeros(count, length, dtype=torch.int64)
        targets = torch.full((count, length), IGNORE)
        for row, document in enumerate(chosen.tolist()):
            ids, mask = self.data.read(document, 0, length + 1)
            wide = torch.from_numpy(ids.astype(np.int64))
            tokens[row, : len(ids) - 1] = wide[:-1]
            targets[row, : len(ids) - 1] = wide[1:].masked_fill(torch.from_numpy(mask[1:] == 0), IGNORE)
        return tokens, targets

    def micro_batch(self) -> None:
        """Forward and backward of one micro-batch."""
        tokens, targets = self.rows()
        tokens, targets = tokens.to(self.device), targets.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            logits = self.model.logits(self.model(tokens))
            loss = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORE)
        (loss / self.recipe.accumulation).backward()

    def update(self) -> None:
        """Clip, step and count."""
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        cosine = 0.5 * (1 + math.cos(math.pi * self.done / self.steps))
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * (0.1 + 0.9 * cosine)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.done += 1

    def step(self) -> None:
        """All micro-batches of a step, and its update."""
        for _ in range(self.recipe.accumulation):
            self.micro_batch()
        self.update()
