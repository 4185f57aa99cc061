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
from minimind.plan.derive import derive
from minimind.recipe import Recipe
from minimind.stages.stage import make_model
from minimind.train.objective import NextToken
from minimind.train.step import make_step
from minimind.train.strategies.single import SingleDevice

Product = tuple[int, int, int]  # rows, inner, columns


class TimedStep:
    """A recipe's training step, as the trainer makes it, in pieces that are timed.

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
        self.training = make_step(derive(recipe), self.model, NextToken(), SingleDevice(device), say)

    def gradients(self, micro: Batch) -> float:
        """Seconds of forward and backward of a micro-batch, added to the gradients that are there."""
        self.training.micro_batch_size = len(micro.tokens)
        return seconds(lambda: self.training.accumulate(micro), self.device)

    def update(self) -> float:
        """Seconds of clipping and optimizers; the gradients are gone afterwards."""
        return seconds(lambda: self.training.update(1.0, torch.zeros((), device=self.device)), self.device)

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
        mask = make_mask(documents_BT, micro.cu_seqlens, self.model.compiled)
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
