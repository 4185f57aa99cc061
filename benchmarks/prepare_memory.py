"""How fast `minimind data prepare` is, and how much memory all of its processes take together (Linux).

    python benchmarks/prepare_memory.py --megabytes 2000 --workers 4

Writes a file of the given size (the built-in corpus again and again, each document with a number of its
own), prepares it with the command as typed, and every 0.2 s adds up over the command and its workers what
/proc says of them: USS, the memory that no other process shares, and PSS, which counts shared memory in parts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from minimind.tokenizer import Tokenizer
from minimind.tokenizer.train import train
from minimind.world import conversations, pretrain_texts

DOCUMENTS = 6000  # different ones


def write_file(path: Path, kind: str, size: int) -> Tokenizer:
    """A .jsonl of `size` bytes, and a tokenizer trained on its text."""
    source = pretrain_texts(0) if kind == "pretrain" else conversations(0)
    documents = list(islice(source, DOCUMENTS))
    number = 0
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < size:
            for document in documents:
                number += 1
                if kind == "pretrain":
                    record = {"text": f"{number}. {document['text']}"}
                else:
                    first, *rest = document["conversations"]
                    record = {"conversations": [{**first, "content": f"{number}. {first['content']}"}, *rest]}
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
    texts = [json.dumps(document, ensure_ascii=False) for document in documents]
    return train(texts, vocab_size=6400)


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    except FileNotFoundError:
        return []
    return [pid, *(one for child in children for one in family(int(child)))]


def memory(pids: list[int]) -> tuple[float, float]:
    """USS and PSS of the processes together, in MiB."""
    uss = pss = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        sizes = {name: int(size) for name, size in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
        uss += sizes["Private_Clean"] + sizes["Private_Dirty"]
        pss += sizes["Pss"]
    return uss / 1024, pss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=2000, help="size of the file")
    parser.add_argument("--workers", type=int, default=2, help="as of minimind data prepare")
    parser.add_argument("--kind", choices=["pretrain", "chat"], default="pretrain", help="what the file holds")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        file = directory / "data.jsonl"
        write_file(file, arguments.kind, arguments.megabytes * 10**6).save(directory / "tokenizer")
        command = [sys.executable, "-m", "minimind", "data", "prepare", str(file), "--json"]
        command += ["--tokenizer", str(directory / "tokenizer"), "--cache", str(directory / "cache")]
        command += ["--workers", str(arguments.workers)]
        begin = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        samples = []
        while process.poll() is None:
            pids = family(process.pid)
            samples.append((*memory(pids), len(pids)))
            time.sleep(0.2)
        seconds = time.monotonic() - begin
        assert process.returncode == 0
        assert process.stdout
        counts = json.loads(process.stdout.read())["counts"]
        uss, pss, processes = (max(column) for column in zip(*samples))
        half = len(samples) // 2
        print(
            f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}\n"
            f"{arguments.kind}: {file.stat().st_size / 1e6:,.0f} MB, {counts['documents']:,} documents,"
            f" {counts['tokens']:,} tokens, {arguments.workers} workers\n"
            f"{seconds:.1f} s, {file.stat().st_size / 1e6 / seconds:.2f} MB/s,"
            f" {counts['tokens'] / seconds:,.0f} tokens/s\n"
            f"{processes} processes at most; peak USS {uss:.0f} MiB, peak PSS {pss:.0f} MiB;"
            f" peak USS of the first half {max(s[0] for s in samples[:half]):.0f}, of the second"
            f" {max(s[0] for s in samples[half:]):.0f}"
        )


if __name__ == "__main__":
    main()
