"""What matrices in 8 bits cost: bits per byte on the documents that a run held out.

    python -m benchmarks.int8_quality runs/quickstart/base runs/quickstart/chat --out docs/results/int8.md

Every document is read by the engine's own network, once with the model's matrices and once with 8-bit ones.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from benchmarks.gguf_quants import held_out
from benchmarks.results import command, machine, table, write_page

from minimind.data.batches.batch import IGNORE, Batch
from minimind.infer.inputs import Inputs
from minimind.infer.network import Network
from minimind.model import load_model
from minimind.tokenizer import Tokenizer


def documents(batches: list[Batch]) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Ids of each document and what comes after each of them (IGNORE: not measured)."""
    for batch in batches:
        for tokens, targets, numbers in zip(batch.tokens, batch.targets, batch.documents):
            for number in numbers.unique().tolist():
                mine = numbers == number
                if number >= 0 and bool((targets[mine] != IGNORE).any()):
                    yield tokens[mine].tolist(), targets[mine]


def log_probabilities(network: Network, ids: list[int]) -> torch.Tensor:
    """(T, V), in nats."""
    inputs = Inputs().prefill(network.cache(1, len(ids)), ids, 0, len(ids))
    return network.logits(network.hidden(inputs)).log_softmax(-1)


@torch.inference_mode()
def measure(run: Path, most: int) -> list[str]:
    """A row of the table."""
    model, tokenizer = load_model(run / "model"), Tokenizer.load(run / "model")
    networks = Network(model), Network(model, "int8")
    nats, apart, same, tokens, size = [0.0, 0.0], 0.0, 0, 0, 0
    for ids, targets in documents(list(islice(held_out(run), most))):
        kept = targets != IGNORE
        wanted = targets[kept]
        full, rounded = (log_probabilities(network, ids)[kept] for network in networks)
        given = [found.gather(-1, wanted[:, None]) for found in (full, rounded)]
        nats = [sum_ - float(one.sum()) for sum_, one in zip(nats, given)]
        apart += float((given[0] - given[1]).abs().sum())
        same += int((full.argmax(-1) == rounded.argmax(-1)).sum())
        tokens += len(wanted)
        size += len(tokenizer.decode(wanted.tolist()).encode())
    bits = [value / math.log(2) / size for value in nats]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    cells = [f"{run}", f"{parameters:,}", f"{tokens:,}", *(f"{value:.4f}" for value in bits)]
    return [*cells, f"{bits[1] / bits[0] - 1:+.2%}", f"{apart / tokens:.4f}", f"{same / tokens:.1%}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run directories with a finished model")
    parser.add_argument("--batches", type=int, default=4, help="most rows read, in eights (default: 4)")
    parser.add_argument("--out", type=Path, help="page to write; printed by default")
    options = parser.parse_args()
    rows = [measure(run, options.batches) for run in options.runs]
    header = ["run", "parameters", "held-out tokens", "bits per byte", "in 8 bits", "more"]
    header += ["mean difference of a token's log-probability, nats", "same likeliest token"]
    about = f"{machine(torch.device('cpu'))}\nMade by `{command()}`."
    write_page(options.out, "Matrices in 8 bits", about, table(header, rows))


if __name__ == "__main__":
    main()
