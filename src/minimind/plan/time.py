"""How long a training takes, and whether compiling it pays."""

from __future__ import annotations

COMPILE_SECONDS = 15  # what compiling the blocks costs on a CPU, cold
COMPILE_GAIN = 0.11  # part of the time that it saves there
PLAIN_SHARE = 0.45  # part of the matrix products' rate that a step on a CPU reaches without compiling


def training_seconds(tokens: float, flops_per_token: float, matmul_rate: float) -> float:
    """Seconds of a training on a CPU, about, before anything of it was timed."""
    return tokens * flops_per_token / (PLAIN_SHARE * matmul_rate)


def compiling_pays(seconds: float) -> bool:
    """Whether a training of so many seconds on a CPU is long enough to win back the time of compiling."""
    return seconds * COMPILE_GAIN > COMPILE_SECONDS
