"""What a frozen base in fewer bits saves and costs while an adapter is trained beside it.

    python -m benchmarks.adapter_memory --out docs/results/adapter-memory.md
    python -m benchmarks.adapter_memory --preset minimind2 --types fp32 bf16 --steps 3

Each row is a process of its own: it reads a model of random weights, adds an adapter, and makes steps on packed
random tokens. Memory is the largest of the process while it makes them, less what Python and torch took before the
model; time is the processor's, of forward, backward and update, the least of all steps after the first.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from benchmarks.results import command, machine, table, write_page

from minimind.bench.synthetic import packed_batch
from minimind.hardware import DTYPES, process_peak_memory, reset_process_peak_memory
from minimind.model import Transformer, save_model
from minimind.model.count import count_parameters
from minimind.model.hf.weights import add_adapter, load_tensors
from minimind.model.lora import LoraOptions
from minimind.optim.options import OptimizerOptions
from minimind.plan.memory import frozen_bytes
from minimind.presets import get
from minimind.train.objective import NextToken
from minimind.train.step import TrainStep
from minimind.train.strategies import SingleDevice

HEADER = ["computed in", "base", "weights predicted, MB", "peak of a step, MB", "fp32 base = 1"]
HEADER += ["seconds a step", "fp32 base = 1"]


def child(options: argparse.Namespace) -> None:
    """Print what the steps took, as JSON."""
    config = get(options.preset)
    reset_process_peak_memory()
    before = process_peak_memory()
    model = Transformer(config, seed=None)
    load_tensors(model, options.model)
    add_adapter(model, LoraOptions(rank=options.rank, base_bits=options.bits), 0, options.model)
    model.compute_dtype = DTYPES[options.types[0]]
    strategy = SingleDevice(torch.device("cpu"), keep_memory=False)
    optimizer = OptimizerOptions(name="adamw", learning_rate=1e-3, embedding_learning_rate=1e-3)
    step = TrainStep(model.train(), NextToken(), [], optimizer, strategy, 1)
    batch = packed_batch(1, options.tokens, config.vocab_size)
    seconds = []
    reset_process_peak_memory()
    for _ in range(options.steps):
        start = time.process_time()
        step(batch, 1.0)
        seconds.append(time.process_time() - start)
    print(json.dumps({"memory": process_peak_memory() - before, "seconds": min(seconds[1:])}))


def measure(options: argparse.Namespace, directory: Path, kind: str, bits: int) -> dict[str, float]:
    words = ["--preset", options.preset, "--rank", str(options.rank), "--tokens", str(options.tokens)]
    words += ["--steps", str(options.steps), "--types", kind, "--model", str(directory), "--bits", str(bits)]
    argv = [sys.executable, "-m", "benchmarks.adapter_memory", *words]
    found: dict[str, float] = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="minimind2")
    parser.add_argument("--rank", type=int, default=8, help="of all matrices of the blocks")
    parser.add_argument("--types", nargs="+", default=["fp32", "bf16"], help="of the computation")
    parser.add_argument("--tokens", type=int, default=512, help="of a step")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--out", type=Path, help="page to write; printed by default")
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--bits", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.model:
        child(options)
        return
    config, rows = get(options.preset), []
    with tempfile.TemporaryDirectory() as directory:
        model = Transformer(config)
        for name, parameter in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):  # a fresh model's blocks add nothing yet
                parameter.data.normal_(std=0.02)
        save_model(model, directory)
        del model
        for kind in options.types:
            found = {bits: measure(options, Path(directory), kind, bits) for bits in (32, 8, 4)}
            for bits, one in found.items():
                figures = [f"{frozen_bytes(config, bits) / 1e6:,.0f}"]  # type: ignore[arg-type]
                for name, unit, form in (("memory", 1e6, ",.0f"), ("seconds", 1, ".2f")):
                    figures += [f"{one[name] / unit:{form}}", f"{one[name] / found[32][name]:.2f}"]
                rows.append([kind, "fp32" if bits == 32 else f"{bits} bits", *figures])
    parameters = count_parameters(config)["total"]
    what = f"`{options.preset}` ({parameters:,} parameters), adapters of rank {options.rank} on all its matrices, "
    what += f"AdamW, steps of {options.tokens} tokens in one sequence."
    made = f"{machine(torch.device('cpu'), 'bitsandbytes')}\nMade by `{command()}`."
    write_page(options.out, "A frozen base in fewer bits", made, what, table(HEADER, rows))


if __name__ == "__main__":
    main()
