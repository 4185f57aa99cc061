"""The ceilings of this machine: how fast it multiplies matrices, by type and size, and how fast it copies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from minimind.bench.step import Product, layer_products, output_product
from minimind.hardware import DTYPES, EMULATED, product_rate, synchronize
from minimind.model.config import ModelConfig
from minimind.model.transformer import Transformer

COPIED = 2**28  # bytes: more than any cache holds
REPEATS = 4  # of product_rate
LONGEST = 8.0  # seconds that one figure may take


def types(device: torch.device) -> list[str]:
    """The types worth timing: TF32 is how a GPU can read fp32, where a program allows it."""
    return ["fp32", "tf32", "bf16", "fp16"] if device.type == "cuda" else list(DTYPES)


def product_rates(
    products: list[Product], device: torch.device, on_done: Callable[[], None]
) -> dict[str, list[float | None]]:
    """Operations per second of each product, by type; None where it would take seconds, the type being emulated.

    The types take turns at every product, so that what else happens on the machine falls on all.
    """
    names = types(device)
    rates: dict[str, list[float | None]] = {name: [] for name in names}
    slowest = dict.fromkeys(names, EMULATED)  # as slow as an emulated type, until it is known
    for rows, inner, columns in products:
        for name in names:
            small = 2 * rows * inner * columns <= 2 * 256**3
            if small or REPEATS * 2 * rows * inner * columns / slowest[name] < LONGEST:
                with _tf32(name == "tf32"):
                    rate = product_rate(rows, inner, columns, device, DTYPES.get(name, torch.float32))
                rates[name].append(rate)
                slowest[name] = rate
            else:
                rates[name].append(None)
            on_done()
    return rates


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    if allowed:
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def preset_products(config: ModelConfig, tokens: int) -> list[Product]:
    """The different matrix products of a forward pass of `tokens` tokens, the output layer's last."""
    with torch.device("meta"):
        model = Transformer(config, seed=None)
    return [*layer_products(model, tokens), output_product(config, tokens)]


def copy_rate(device: torch.device) -> float:
    """Bytes read and written per second by a large copy."""
    source = torch.ones(COPIED // 4, device=device)
    target = torch.empty_like(source)
    best = 0.0
    for _ in range(5):
        synchronize(device)
        start = time.perf_counter()
        target.copy_(source)
        synchronize(device)
        best = max(best, 2 * COPIED / (time.perf_counter() - start))
    return best


def gain_of_threads(device: torch.device) -> float | None:
    """How many times as fast a product of 1024³ is on all threads as on one; None with one, or off a CPU."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        return None
    together = product_rate(1024, 1024, 1024, device, torch.float32)
    torch.set_num_threads(1)
    try:
        return together / product_rate(1024, 1024, 1024, device, torch.float32)
    finally:
        torch.set_num_threads(threads)
