"""What adapters beside the weights cost an answer: tokens a second with 0, 1, 4 … of them in one batch.

    python -m benchmarks.adapter_speed --out docs/results/adapter-speed.md
    python -m benchmarks.adapter_speed --adapters 1 --rounds 3

One engine, random weights and adapters; greedy answers of equal length to prompts of equal length. The mixtures
take turns, and a ratio is the median over the rounds. What counts is the processor's time, not the clock's: other
work on the machine then falls on nobody.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import random
import statistics
import time
from pathlib import Path

import torch
from benchmarks.results import command, machine, table, write_page

from minimind.infer.engine import Engine
from minimind.infer.sampler import SamplingParams
from minimind.model import Transformer
from minimind.model.count import count_parameters
from minimind.model.lora import LoraOptions, add_lora, lora_layers
from minimind.presets import get


def adapted(base: Transformer, rank: int) -> Transformer:
    model = copy.deepcopy(base, {id(parameter): parameter for parameter in base.parameters()})
    add_lora(model, LoraOptions(rank=rank))
    for layer in lora_layers(model).values():
        layer.lora_B.weight.data.normal_(std=0.02)
    return model


def seconds(engine: Engine, prompts: list[list[int]], names: list[str | None], tokens: int) -> float:
    """Of the processor, for an answer to each prompt, by its adapter."""
    start = time.process_time()
    engine.generate(prompts, SamplingParams(temperature=0, max_tokens=tokens, stop_ids=()), names)
    return time.process_time() - start


def compare(options: argparse.Namespace, rows: int, weights: str) -> list[list[str]]:
    """The rows of the table for so many answers at once."""
    base = Transformer(get(options.preset)).eval()
    adapters = {f"a{i}": adapted(base, options.rank) for i in range(max(options.adapters))}
    engine = Engine(base, rows, adapters=adapters, prefix_bytes=0, weights=weights)  # type: ignore[arg-type]
    luck = random.Random(0)
    prompts = [[luck.randrange(base.config.vocab_size) for _ in range(options.prompt)] for _ in range(rows)]
    mixtures: dict[int, list[str | None]] = {0: [None] * rows}
    for count in options.adapters:
        if count <= rows:
            mixtures[count] = [name for name, _ in zip(itertools.cycle(list(adapters)[:count]), prompts)]
    for names in mixtures.values():
        seconds(engine, prompts, names, 4)
    rounds = [
        {count: seconds(engine, prompts, names, options.tokens) for count, names in mixtures.items()}
        for _ in range(options.rounds)
    ]
    found = []
    for count in mixtures:
        rate = statistics.median(rows * options.tokens / one[count] for one in rounds)
        ratio = statistics.median(one[0] / one[count] for one in rounds)
        found.append([str(rows), weights, str(count), f"{rate:,.0f}", f"{ratio:.2f}"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="minimind2-small")
    parser.add_argument("--rank", type=int, default=8, help="of all matrices of the blocks")
    parser.add_argument("--adapters", nargs="+", type=int, default=[1, 4, 16], help="in one batch")
    parser.add_argument("--answers", nargs="+", type=int, default=[1, 32], help="at once")
    parser.add_argument("--weights", nargs="+", default=["full", "int8"])
    parser.add_argument("--prompt", type=int, default=16, help="tokens of a prompt")
    parser.add_argument("--tokens", type=int, default=32, help="tokens of an answer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="page to write; printed by default")
    options = parser.parse_args()
    header = [
        "answers at once",
        "weights",
        "different adapters",
        "tokens a second of processor",
        "without adapters = 1",
    ]
    rows = [row for n in options.answers for weights in options.weights for row in compare(options, n, weights)]
    parameters = count_parameters(get(options.preset))["total"]
    what = f"`{options.preset}` ({parameters:,} parameters), adapters of rank {options.rank} on all its matrices."
    made = f"{machine(torch.device('cpu'))}\nMade by `{command()}`."
    write_page(options.out, "Adapters beside the weights", made, what, table(header, rows))


if __name__ == "__main__":
    main()
