"""What each GGUF type costs: size, and bits per byte on the documents that a run held out.

    python -m benchmarks.gguf_quants runs/quickstart/chat --out docs/results/gguf.md

Every file is read back (its numbers in fp32) and measured like any model. That tells what rounding the weights
costs; llama.cpp also rounds what it multiplies them with. So at some positions llama.cpp itself says how likely it
finds the next token, beside our model, read from the same file, at the same positions.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from benchmarks.llama_cpp import LlamaCpp
from benchmarks.results import command, machine, table, write_page

from minimind import config
from minimind.data.batches.batch import IGNORE, Batch
from minimind.data.batches.loader import sequential_batches
from minimind.eval.perplexity import evaluate_nll
from minimind.interop.gguf import export_gguf
from minimind.interop.gguf_read import read_gguf
from minimind.model import Transformer, load_model
from minimind.recipe import Recipe
from minimind.stages import STAGES
from minimind.tokenizer import Tokenizer

TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
ROWS = 8


@dataclass
class Place:
    """A position in a document: the tokens up to there, and the one that comes next."""

    before: list[int]
    target: int


def held_out(run: Path) -> Iterator[Batch]:
    """The held-out documents of a run, in rows as long as in its training."""
    recipe = config.load(Recipe, files=[run / "recipe.yaml"])
    data, _, documents = STAGES[recipe.stage].data(recipe, Tokenizer.load(run / "model"), STAGES[recipe.stage].kind)
    return sequential_batches(data, documents, recipe.batch.seq_len, ROWS)


def places(batches: list[Batch], count: int) -> list[Place]:
    """Positions drawn from all that have a target."""
    known = [(batch, *where) for batch in batches for where in (batch.targets != IGNORE).nonzero().tolist()]
    chosen = np.random.default_rng(0).choice(len(known), min(count, len(known)), replace=False)
    found = []
    for batch, row, column in (known[index] for index in sorted(chosen)):
        start = column - int(batch.positions[row, column])
        before = batch.tokens[row, start : column + 1].tolist()
        found.append(Place(before, int(batch.targets[row, column])))
    return found


@torch.inference_mode()
def ours(model: Transformer, place: Place) -> float:
    """The log-probability of what comes next, in bits."""
    logits = model.logits(model(torch.tensor([place.before])))[0, -1]
    return float(logits.log_softmax(-1)[place.target]) / math.log(2)


def theirs(llama: LlamaCpp, vocab_size: int, place: Place) -> float:
    """The same by llama.cpp."""
    return float(llama.log_probabilities(place.before, vocab_size)[place.target]) / math.log(2)


def compare(run: Path, sample: int, most: int) -> str:
    """A section of the page on one run."""
    batches = list(islice(held_out(run), most))
    model = load_model(run / "model")
    parameters = sum(tensor.numel() for tensor in model.state_dict().values())
    drawn = places(batches, sample)
    rows, first = [], 0.0
    with tempfile.TemporaryDirectory() as directory:
        for kind in TYPES:
            path = Path(directory) / f"{kind}.gguf"
            size = export_gguf(run / "model", path, kind).bytes
            back, _ = read_gguf(path)
            nll = evaluate_nll(back, batches, torch.device("cpu"))
            first = first or nll.bits_per_byte
            llama = LlamaCpp(path, back.config.context_length)
            pairs = [(ours(back, place), theirs(llama, back.config.vocab_size, place)) for place in drawn]
            mine, others = (-sum(values) / len(pairs) for values in zip(*pairs))
            apart = sum(abs(a - b) for a, b in pairs) / len(pairs)
            loss = f"{round(nll.bits_per_byte / first - 1, 4) + 0.0:+.2%}"  # + 0.0: no minus before a zero
            cells = [f"{size / 1e6:.2f}", f"{size * 8 / parameters:.1f}", f"{nll.bits_per_byte:.4f}", loss]
            rows.append([f"`{kind}`", *cells, f"{mine:.4f}", f"{others:.4f}", f"{apart:.4f}"])
            print(*rows[-1], sep="\t", flush=True)
    header = ["type", "file, MB", "bits a parameter", "bits per byte", "more than f32", "ours, bits a token"]
    header += ["llama.cpp", "mean difference"]
    text = (
        f"{parameters:,} parameters ({model.config.model_type}, width {model.config.hidden_size}), measured on "
        f"{nll.tokens:,} held-out tokens, {nll.bytes:,.0f} bytes.\n"
        f"The last three columns: {len(drawn):,} positions drawn from them."
    )
    return f"## {run}\n\n{text}\n\n{table(header, rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run directories with a finished model")
    parser.add_argument("--out", type=Path, required=True, help="page to write")
    parser.add_argument("--sample", type=int, default=300, help="positions to ask llama.cpp about (default: 300)")
    parser.add_argument("--batches", type=int, default=20, help="most rows read, in eights (default: 20)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    began = time.perf_counter()
    sections = [compare(run, options.sample, options.batches) for run in options.runs]
    about = f"{machine(torch.device('cpu'), 'gguf', 'xllamacpp')}\nMade by `{command()}`\nin "
    write_page(options.out, "GGUF types", f"{about}{time.perf_counter() - began:.0f} seconds.", *sections)


if __name__ == "__main__":
    main()
