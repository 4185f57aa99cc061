"""A training step in pieces that can be timed: gradients of a micro-batch, update, matrix products, attention."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

from minimind.data.batches.batch import Batch
from minimind.hardware import synchronize
from minimind.model.attention import attend, make_mask
from minimind.model.config import ModelConfig
from minimind.model.transformer import Transformer
from minimind.optim.groups import build_optimizers
from minimind.recipe import Recipe
from minimind.stages import STAGES
from minimind.stages.launch import make_model
from minimind.train.parallel import Strategy
from minimind.train.router import Routers
from minimind.train.step import Update

Product = tuple[int, int, int]  # rows, inner, columns


class TimedStep:
    """A recipe's model with its objective, routers and optimizers, as the trainer has them.

    Compiled where `recipe.compile` is True; `say` hears it where that fails.
    """

    def __init__(
        self, recipe: Recipe, device: torch.device, dtype: torch.dtype, say: Callable[[str], None] = print
    ) -> None:
        self.device = device
        self.model = make_model(recipe).to(device).train()
        for parameter in self.model.parameters():  # a fresh model's blocks add nothing yet
            parameter.data += 0.02 * torch.randn_like(parameter)
        self.model.compute_dtype = dtype
        if recipe.compile:
            self.model.compile_blocks(say)
        self.objective = STAGES[recipe.stage].OBJECTIVE()
        self.routers = Routers(self.model, recipe.router, device) if recipe.model.family.experts else None
        self.strategy = Strategy(device)
        self.strategy.prepare(self.model, self.objective, self.routers)
        newton_schulz_dtype = torch.float32 if dtype == torch.float16 else dtype
        optimizers = build_optimizers(self.model, recipe.optimizer, newton_schulz_dtype)
        self.update = Update(optimizers, recipe.optimizer.grad_clip, dtype == torch.float16, device)

    def gradients(self, micro: Batch, count: int = 1) -> float:
        """Seconds of forward and backward of `count` micro-batches, added to the gradients that are there."""
        units = self.objective.units(micro) | (self.routers.units(micro) if self.routers else {})
        divisors = {name: torch.tensor(count * value, device=self.device) for name, value in units.items()}

        def run() -> None:
            if self.routers:
                self.routers.begin_step()
            for number in range(1, count + 1):
                batch = micro.to(self.device)
                self.strategy.forward_backward(batch, divisors, self.update.scale, last=number == count)

        return seconds(run, self.device)

    def step(self) -> float:
        """Seconds of clipping and optimizers; the gradients are gone afterwards."""
        return seconds(lambda: self.update.step(1.0, torch.zeros((), device=self.device)), self.device)

    def gradients_and_loss(self, micro: Batch) -> tuple[float, float]:
        """Seconds of forward and backward, and of these the ones of output layer and loss, both ways.

        The latter is the time from the last hidden states to their gradient.
        """
        times: list[float] = []

        def note(*_: Any) -> None:
            synchronize(self.device)
            times.append(time.perf_counter())

        def after_model(module: Any, inputs: Any, hidden_BTD: torch.Tensor) -> None:
            hidden_BTD.register_hook(note)  # called when the gradient is there
            note()

        handle = self.model.register_forward_hook(after_model)
        whole = self.gradients(micro)
        handle.remove()
        return whole, times[1] - times[0]

    def products(self, micro: Batch) -> float:
        """Seconds of the layers' matrix products alone, those of forward and backward, in their real shapes."""
        dtype, device = self.model.compute_dtype, self.device
        total = 0.0
        for (rows, inner, columns), count in layer_products(self.model, micro.tokens.numel()).items():
            x = torch.randn(rows, inner, device=device).to(dtype)
            weight = torch.randn(columns, inner, device=device).to(dtype)
            gradient = torch.randn(rows, columns, device=device).to(dtype)

            def run(x: Any = x, weight: Any = weight, gradient: Any = gradient, count: int = count) -> None:
                for _ in range(count):
                    _ = x @ weight.T, gradient @ weight, gradient.T @ x

            total += seconds(run, device)
        return total

    def attention(self, micro: Batch) -> float:
        """Seconds of the attention of all layers, from queries, keys and values on, forward and backward."""
        config, documents_BT = self.model.config, micro.documents.to(self.device)
        shape = (*documents_BT.shape, config.num_attention_heads, config.head_dim)
        key_shape = (*documents_BT.shape, config.num_key_value_heads, config.head_dim)
        mask = make_mask(documents_BT, self.model.compiled)
        inputs = [
            torch.randn(size, device=self.device).to(self.model.compute_dtype).transpose(1, 2).requires_grad_()
            for size in (shape, key_shape, key_shape)
        ]

        def run() -> None:
            for _ in range(config.num_hidden_layers):
                self.attend(*inputs, mask).sum().backward()

        return seconds(run, self.device)

    @property
    def attend(self) -> Callable[..., torch.Tensor]:
        return torch.compile(attend, dynamic=False) if self.model.compiled else attend


def seconds(run: Callable[[], Any], device: torch.device) -> float:
    synchronize(device)
    start = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - start


def layer_products(model: Transformer, tokens: int) -> Counter[Product]:
    """The products (tokens, in) @ (in, out) of one forward pass through the layers, and how often each occurs.

    An expert sees its even share of the tokens' choices.
    """
    found: Counter[Product] = Counter()
    config = model.config
    for parameter in model.model.layers.parameters():
        if parameter.ndim == 2:
            found[tokens, parameter.shape[1], parameter.shape[0]] += 1
        elif parameter.ndim == 3:
            experts, columns, inner = parameter.shape
            found[math.ceil(tokens * config.num_experts_per_tok / experts), inner, columns] += experts
    return found


def output_product(config: ModelConfig, tokens: int) -> Product:
    """The product that turns the hidden states of all tokens into logits."""
    return tokens, config.hidden_size, config.vocab_size
