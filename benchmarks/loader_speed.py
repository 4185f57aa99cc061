"""How fast one thread makes batches from shards on disk, and how full their rows are.

    python benchmarks/loader_speed.py                  the table
    python benchmarks/loader_speed.py --seq-lens 512 --documents 500000

Synthetic data, log-normal lengths: "texts" (median 500 tokens; split) and "instructions" (median 90 tokens,
the second half trained on; truncated). The shards are read from the page cache, as in a training after its
first epoch. Columns: seconds to construct the loader (and pack the first epoch), pieces packed per second, million
positions per second of Loader.step, fraction of padding.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from minimind.bench.data import POSITIONS_PER_STEP, loader_rate, packing_rate
from minimind.bench.synthetic import write_shards
from minimind.data.batches.loader import Loader
from minimind.data.batches.packing import Long

KINDS: dict[str, tuple[str, float, float, Long]] = {  # kind of shards, median, sigma, long
    "texts": ("pretrain", 500, 0.6, "split"),
    "instructions": ("chat", 90, 0.7, "truncate"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100_000, help="documents of each kind")
    parser.add_argument("--seq-lens", type=int, nargs="+", default=[128, 256, 512, 768, 2048], metavar="T")
    parser.add_argument("--seconds", type=float, default=3.0, help="time to measure each row length")
    arguments = parser.parse_args()

    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, ", end="")
    print(f"torch {torch.__version__}, numpy {np.__version__}, one thread, {arguments.documents} documents")
    print(f"{'data':13} {'T':>5} {'start s':>8} {'packed/s':>10} {'Mtokens/s':>10} {'padding':>8}")
    for name, (kind, median, sigma, long) in KINDS.items():
        lengths = np.random.default_rng(1).lognormal(np.log(median), sigma, arguments.documents)
        with tempfile.TemporaryDirectory() as directory:
            data = write_shards(Path(directory), kind, np.maximum(lengths.astype(np.int64), 3), 6400)
            for seq_len in arguments.row_lengths:
                packed = packing_rate(data.lengths, seq_len, long)
                began = time.perf_counter()
                rows = POSITIONS_PER_STEP // seq_len
                loader = Loader(data, np.arange(len(data)), seq_len, rows, seed=0, long=long)
                start = time.perf_counter() - began
                speed = loader_rate(loader, arguments.seconds)
                print(
                    f"{name:13} {seq_len:5} {start:8.2f} {packed:10.2e} {speed / 1e6:10.1f}"
                    f" {loader.stats.padding:8.2%}"
                )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
