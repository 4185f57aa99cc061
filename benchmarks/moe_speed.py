"""What a mixture of experts costs beside a dense model of as many active parameters.

    python -m benchmarks.moe_speed                       the table, a few minutes on two cores
    python -m benchmarks.moe_speed --device cuda --rounds 20

Forward and backward of a packed batch through loss and routers as the trainer computes them, the optimizer left
out. The models of a pair are timed in turn, so that what else happens on the machine falls on both; the ratio is
that of the medians, its spread the quartiles of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import platform
import statistics
from dataclasses import replace

import torch

from minimind.bench.step import TimedStep
from minimind.bench.synthetic import packed_batch
from minimind.data.batches.batch import Batch
from minimind.hardware import pick_device, pick_dtype
from minimind.model import ModelConfig
from minimind.model.count import active_parameters
from minimind.recipe import Recipe

SHAPE = {"hidden_size": 512, "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2}
DENSE = ModelConfig("qwen3", intermediate_size=1408, **SHAPE)
# Each has 1,408 active columns of feed-forward width, like the dense model.
PAIRS = {
    "1 of 4 experts": replace(DENSE, model_type="qwen3_moe", num_experts=4, num_experts_per_tok=1),
    "2 of 8 experts": replace(
        DENSE, model_type="qwen3_moe", num_experts=8, num_experts_per_tok=2, moe_intermediate_size=704
    ),
    "3 of 16 and 1 shared": replace(
        DENSE,
        model_type="glm4_moe",
        num_experts=16,
        num_experts_per_tok=3,
        moe_intermediate_size=352,
        n_shared_experts=1,
    ),
}


def step_of(config: ModelConfig, options: argparse.Namespace, device: torch.device) -> TimedStep:
    dtype = pick_dtype(options.precision, device)
    return TimedStep(Recipe(model=config, compile=not options.plain), device, dtype)


def seconds(timed: TimedStep, micro: Batch, count: int) -> float:
    """Time of `count` micro-batches, which make one step."""
    taken = sum(timed.gradients(micro) for _ in range(count))
    timed.model.zero_grad()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--tokens", type=int, default=16384, help="tokens of a step")
    parser.add_argument("--micro", type=int, default=4096, help="tokens at once")
    parser.add_argument("--seq-len", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--plain", action="store_true", help="without torch.compile")
    options = parser.parse_args()
    device = pick_device(options.device)
    micro = packed_batch(options.micro // options.seq_len, options.seq_len, DENSE.vocab_size)
    count = options.tokens // options.micro

    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    print(f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}, {options.precision}, ", end="")
    print(f"{options.tokens} tokens a step, {options.micro} at once, {'plain' if options.plain else 'compiled'}")
    print(f"{'model':<22} {'active':>11} {'seconds':>8} {'dense':>8} {'ratio':>6}   quartiles")
    dense = step_of(DENSE, options, device)
    for label, config in PAIRS.items():
        mixture = step_of(config, options, device)
        for timed in (dense, mixture):  # compile, and lay out memory
            seconds(timed, micro, 1)
        times = [(seconds(mixture, micro, count), seconds(dense, micro, count)) for _ in range(options.rounds)]
        ours, theirs = (statistics.median(column) for column in zip(*times))
        low, _, high = statistics.quantiles([one / other for one, other in times], n=4)
        active = active_parameters(config)
        figures = f"{active:>11,} {ours:>8.3f} {theirs:>8.3f} {ours / theirs:>6.3f}   {low:.3f} to {high:.3f}"
        print(f"{label:<22} {figures}")


if __name__ == "__main__":
    main()
