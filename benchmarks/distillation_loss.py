"""What the distillation loss costs: by chunks, the plain way, and the matrix products that nothing can do without.

    python -m benchmarks.distillation_loss                     a minute on one core
    python -m benchmarks.distillation_loss --device cuda --vocab-size 151936 --precision bf16

Forward and backward through student's and teacher's output layers: three products for the student, one for the
teacher (none where its likeliest tokens are cached). The ways are timed in turn, so that what else happens on the
machine falls on all; on a CPU the processor's time counts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from benchmarks.results import machine

from minimind.hardware import DTYPES, keep_freed_memory, pick_device, synchronize
from minimind.losses.cross_entropy import linear_cross_entropy
from minimind.losses.distillation import TeacherStates, linear_distillation, reference, top_k


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--positions", type=int, default=4096)
    parser.add_argument("--vocab-size", type=int, default=6400)
    parser.add_argument("--width", type=int, default=256, help="of the student")
    parser.add_argument("--teacher-width", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    device, dtype = pick_device(options.device), DTYPES[options.precision]
    if device.type == "cpu":
        keep_freed_memory()
    N, V, D, E = options.positions, options.vocab_size, options.width, options.teacher_width

    torch.manual_seed(0)
    hidden = torch.randn(N, D, device=device).to(dtype).requires_grad_()
    weight = (torch.randn(V, D, device=device) / D**0.5).requires_grad_()
    teacher_weight = (torch.randn(V, E, device=device) / E**0.5).to(dtype)
    targets = torch.randint(0, V, (N,), device=device)
    states = TeacherStates(torch.randn(N, E, device=device).to(dtype), lambda hidden: hidden @ teacher_weight.T)
    likeliest = top_k(states, 64)

    def products() -> None:
        narrow = weight.detach().to(dtype)
        for i in range(0, N, 1024):
            rows = hidden.detach()[i : i + 1024]
            logits, _ = rows @ narrow.T, states.head(states.hidden_ND[i : i + 1024])
            _ = logits @ narrow, logits.T @ rows

    def training(loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
        def once() -> None:
            hidden.grad = weight.grad = None
            loss().backward()

        return once

    ways = {
        "the four products alone": products,
        "cross-entropy by chunks, no teacher": training(lambda: linear_cross_entropy(hidden, weight, targets)),
    }
    for kind in ("forward_kl", "reverse_kl", "js"):
        arguments = (hidden, weight, targets, states, 0.1, 1.0, kind)
        ways[f"{kind} by chunks"] = training(lambda a=arguments: linear_distillation(*a).loss)
        ways[f"{kind}, the plain way"] = training(lambda a=arguments: reference(*a))
    arguments = (hidden, weight, targets, likeliest, 0.1, 1.0, "forward_kl")
    ways["forward_kl by chunks, cached top 64"] = training(lambda: linear_distillation(*arguments).loss)
    ways["forward_kl, the plain way, cached top 64"] = training(lambda: reference(*arguments))

    clock = time.process_time if device.type == "cpu" else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(options.rounds + 1):
        for name, way in ways.items():
            start = clock()
            way()
            synchronize(device)
            if number:  # the first lays out memory
                seconds[name].append(clock() - start)
    print(machine(device), f"{N} positions, {V} tokens, widths {D} and {E}, {options.precision}")
    floor = statistics.median(seconds["the four products alone"])
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"{name:<42} {1000 * median:8.1f} ms  {median / floor:5.2f} of the products")


if __name__ == "__main__":
    main()
