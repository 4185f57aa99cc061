"""How fast a preset trains here, with how many tokens at once, and what limits it."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from minimind.bench.step import TimedStep, layer_products
from minimind.bench.synthetic import packed_batch
from minimind.data.batches.batch import PADDING, Batch
from minimind.hardware import free_memory, matmul_rate, peak_memory_gb, reset_peak_memory
from minimind.model.count import count_parameters
from minimind.plan.flops import flops_per_token
from minimind.plan.memory import lacking_memory
from minimind.plan.time import training_seconds
from minimind.recipe import Recipe

WARM_UP = 2  # calls before any that counts: the first compiles and lays out memory, the second gives a time
EFFICIENT = 0.7  # part of the rate of large products above which matrices do not count as small
PARTS = {
    "products": "products",
    "attention": "attention",
    "loss": "output, loss",
    "other": "the rest",
    "optimizer": "optimizer",
}


@dataclass(frozen=True)
class MicroBatch:
    """One number of tokens at once; what was skipped has no figures."""

    tokens: int
    skipped: str = ""
    seconds: float = 0.0
    """forward and backward"""
    tokens_per_second: float = 0.0
    """of whole steps, without padding"""
    mfu: float = 0.0
    """share of `Speed.matmul_rate`"""
    memory_gb: float = 0.0


@dataclass
class Speed:
    """What was measured of one preset."""

    preset: str
    parameters: int
    tokens_per_step: int
    compiled: bool
    matmul_rate: float = 0.0
    """floating-point operations per second of the fastest matrix product that was timed between the steps"""
    large_rates: tuple[float, float] = (0.0, 0.0)
    """slowest and fastest of the large products among them: how far the machine's speed moved meanwhile"""
    update_seconds: float = 0.0
    """clipping and optimizers, once a step"""
    micro_batches: list[MicroBatch] = field(default_factory=list)
    best: int = 0
    """tokens at once of the fastest; 0 when nothing could be measured"""
    parts: dict[str, float] = field(default_factory=dict)
    """share of a step's time at the best, by the names of PARTS"""
    product_efficiency: float = 0.0
    """rate of the layers' matrix products as a share of matmul_rate"""
    limit: str = ""


def work(recipe: Recipe, sizes: list[int], rounds: int) -> float:
    """Floating-point operations of `measure`, about: what a progress bar counts."""
    return flops_per_token(recipe.model, recipe.batch.seq_len) * sum(sizes) * (WARM_UP + rounds)


def measure(
    recipe: Recipe,
    sizes: list[int],
    rounds: int,
    seconds: float,
    device: torch.device,
    dtype: torch.dtype,
    on_work: Callable[[float], None],
    say: Callable[[str], None],
) -> Speed:
    """Time steps of a recipe with each of `sizes` tokens at once; medians of rounds in which all sizes take turns.

    A size is at least one sequence, and rounded down to whole ones. What would not fit in memory or in `seconds` is
    left out, with the reason.
    """
    end = time.monotonic() + seconds
    seq_len = recipe.batch.seq_len
    flops = flops_per_token(recipe.model, seq_len)
    parameters = count_parameters(recipe.model)["total"]
    speed = Speed(recipe.preset, parameters, recipe.batch.tokens_per_step, bool(recipe.compile))
    peak = matmul_rate(device, dtype)
    micros: dict[int, Batch] = {}
    memory: dict[int, float] = {}
    skipped: dict[int, str] = {}
    per_token, timed = training_seconds(1, flops, peak), None
    for tokens in sorted(sizes):
        calls = (WARM_UP + 2 * rounds) * tokens + rounds * sum(micros)  # twice: for the parts of the best
        why = next(iter(skipped.values()), "")
        if not why and time.monotonic() + calls * per_token > end:
            why = f"not measured, it would take about {calls * per_token:,.0f} s (--seconds)"
        if not why and (lacking := lacking_memory(tokens, memory, parameters, free_memory(device))):
            why = f"out of memory: up to {lacking:.1f} GB more"
        try:
            if not why:
                reset_peak_memory(device)
                timed = timed or TimedStep(recipe, device, dtype, say)
                micro = packed_batch(tokens // seq_len, seq_len, recipe.model.vocab_size)
                timed.gradients(micro)
                per_token = timed.gradients(micro) / tokens
                timed.update()
                micros[tokens], memory[tokens] = micro, peak_memory_gb(device)
                on_work(WARM_UP * flops * tokens)
        except RuntimeError as error:  # on a CPU, torch has no class of its own for it
            if not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
                raise
            why = "out of memory"
        if why:
            skipped[tokens] = why
    if timed and micros:
        if skipped:
            timed.model.zero_grad()  # of a backward pass that ran out of memory
        _time(speed, timed, micros, memory, rounds, end, flops, on_work)
    speed.micro_batches += [MicroBatch(tokens, why) for tokens, why in skipped.items()]
    timed = None
    gc.collect()  # so that the next preset finds its memory free
    torch.compiler.reset()  # torch compiles only so many versions of the same code
    return speed


def _time(
    speed: Speed,
    timed: TimedStep,
    micros: dict[int, Batch],
    memory: dict[int, float],
    rounds: int,
    end: float,
    flops: float,
    on_work: Callable[[float], None],
) -> None:
    """Fill in `speed`."""
    device, dtype = timed.device, timed.model.compute_dtype
    gradients: dict[int, list[float]] = {tokens: [] for tokens in micros}
    peaks, updates = [], []
    for number in range(rounds):
        if number >= 2 and time.monotonic() > end:
            break
        for tokens, micro in micros.items():
            gradients[tokens].append(timed.gradients(micro))
            peaks.append(matmul_rate(device, dtype))
            on_work(flops * tokens)
        updates.append(timed.update())
    speed.update_seconds = statistics.median(updates)
    for tokens, micro in micros.items():
        once = statistics.median(gradients[tokens])
        positions = micro.tokens.numel()
        step_seconds = speed.tokens_per_step / positions * once + speed.update_seconds
        real = float((micro.documents != PADDING).double().mean())
        rate = speed.tokens_per_step * real / step_seconds
        speed.micro_batches.append(MicroBatch(tokens, "", once, rate, 0.0, memory[tokens]))
    speed.best = max(speed.micro_batches, key=lambda one: one.tokens_per_second).tokens
    products = _split(speed, timed, micros[speed.best], rounds, peaks)
    # Small products may be faster than large ones, or timed in a quieter moment: the ceiling is the fastest of all.
    steps = [one.tokens_per_second * flops for one in speed.micro_batches]
    speed.matmul_rate, speed.large_rates = max(*peaks, *products, *steps), (min(peaks), max(peaks))
    speed.product_efficiency = statistics.median(products) / speed.matmul_rate
    speed.micro_batches = [
        replace(one, mfu=rate / speed.matmul_rate) for one, rate in zip(speed.micro_batches, steps)
    ]
    speed.limit = limit(speed)


def _split(speed: Speed, timed: TimedStep, micro: Batch, rounds: int, peaks: list[float]) -> list[float]:
    """Fill in the parts of a step: what was timed apart, and what is left. Returns the rates of the layers'
    products; those of large ones are added to `peaks`."""
    positions = micro.tokens.numel()
    shapes = layer_products(timed.model, positions)
    operations = sum(6 * rows * inner * columns * count for (rows, inner, columns), count in shapes.items())
    times = []
    for number in range(rounds + 1):
        whole, loss = timed.gradients_and_loss(micro)
        products, attention = timed.products(micro), timed.attention(micro)
        if number:  # the first lays out memory
            times.append((whole, loss, products, attention))
            peaks.append(matmul_rate(timed.device, timed.model.compute_dtype))
    whole, loss, products, attention = (statistics.median(column) for column in zip(*times))
    optimizer = speed.update_seconds * positions / speed.tokens_per_step
    parts = {"products": products, "attention": attention, "loss": loss}
    parts |= {"other": max(0.0, whole - sum(parts.values())), "optimizer": optimizer}
    total = sum(parts.values())
    speed.parts = {name: seconds / total for name, seconds in parts.items()}
    return [operations / products for _, _, products, _ in times]


def limit(speed: Speed) -> str:
    """In one sentence what takes most of a step, and what would change it; then what comes next."""
    first, second = sorted(speed.parts, key=lambda part: -speed.parts[part])[:2]
    share, efficiency = f"{speed.parts[first]:.0%} of a step", f"{speed.product_efficiency:.0%}"
    return f"{_reason(speed, first, share, efficiency)} (next: {PARTS[second]}, {speed.parts[second]:.0%})"


def _reason(speed: Speed, part: str, share: str, efficiency: str) -> str:
    rates = [one.tokens_per_second for one in speed.micro_batches if not one.skipped]
    if part == "products" and speed.product_efficiency >= EFFICIENT:
        return f"the machine's matrix products: {share}, at {efficiency} of the fastest"
    if part == "products":
        return f"small matrices: their products are {share} and reach {efficiency} of the fastest"
    if part == "attention":
        return f"attention: {share}; shorter sequences cost less"
    if part == "loss":
        return f"the output layer and its loss: {share}; a smaller vocabulary costs less"
    if part == "optimizer":
        return f"the optimizer: {share} of {speed.tokens_per_step:,} tokens; larger steps share its cost"
    if len(rates) > 1 and rates[-1] > 1.25 * rates[-2]:
        return f"starting operations, not computing: {share}; more tokens at once cost hardly more"
    advice = "" if speed.compiled else "; compiled, these operations are joined"
    return f"memory bandwidth: what happens between the matrix products is {share}{advice}"
