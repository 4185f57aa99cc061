"""Many streaming clients on one server for a while: is an answer lost, mixed up or stuck, and does memory grow?

    python -m benchmarks.serve_soak runs/quickstart/chat --minutes 5 --out docs/results/serve-soak.md

A `minimind serve` process of its own on loopback. First every prompt is asked alone, greedily; then the clients ask
the same prompts all at once, each for itself without a pause, some leaving in the middle of an answer, some sending
nonsense. An answer counts as

    lost    if it ended without its last event, or was refused though it should not have been
    mixed   if its text is not the one given alone
    stuck   if nothing came for a minute

and the server must be empty afterwards, and end in order. Needs the extras serve and test (for httpx), and Linux
for the memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import torch
from benchmarks.results import command, machine, table, write_page

NONSENSE = [
    b"",
    b"{",
    b"\xff\xfe",
    b"[]",
    b'{"messages": 5}',
    b'{"messages": [{"role": "user"}], "n": 99}',
    b"[" * 5000,
]
SILENCE = 60.0  # seconds after which an answer is stuck


@dataclass
class Tally:
    whole: int = 0
    left: int = 0
    nonsense: int = 0
    busy: int = 0
    lost: int = 0
    mixed: int = 0
    stuck: int = 0
    tokens: int = 0
    first_token: list[float] = field(default_factory=list)
    """seconds, of every answer of which a piece was read"""


def main() -> None:
    options = parse()
    serve = [
        sys.executable,
        "-m",
        "minimind",
        "serve",
        str(options.model),
        "--port",
        "0",
        "--device",
        options.device,
    ]
    server = subprocess.Popen(serve, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        line = server.stderr.readline()
        if (found := re.search(r"at (http://\S+)/v1 \((.*)\);", line)) is None:
            sys.exit(line + server.stderr.read())
        report = asyncio.run(soak(found[1], server.pid, options))
        server.send_signal(signal.SIGTERM)
        report["exit code after SIGTERM"] = str(server.wait(60))
    finally:
        server.kill()
    where = machine(torch.device(options.device), "fastapi", "uvicorn")
    rows = table(["", found[2]], [list(row) for row in report.items()])
    write_page(
        options.out, "The server under load", f"{where}\nClients run on the same machine.", f"`{command()}`", rows
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the Markdown page there")
    return parser.parse_args()


def request(number: int, options: argparse.Namespace) -> dict[str, Any]:
    question = f"What is {number + 11} + {7 * number % 90 + 10}?"
    message = {"role": "user", "content": question}
    return {"messages": [message], "temperature": 0, "max_tokens": options.max_tokens, "stream": True}


async def soak(url: str, pid: int, options: argparse.Namespace) -> dict[str, str]:
    tally = Tally()
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=SILENCE, limits=limits) as client:
        while True:
            try:
                await client.get("/health")
                break
            except httpx.ConnectError:
                await asyncio.sleep(0.1)
        alone = [await ask(client, request(number, options), Tally()) for number in range(options.clients)]
        before = memory(pid)
        start = time.perf_counter()
        end = start + 60 * options.minutes
        await asyncio.gather(
            *(one(client, number, alone, end, tally, options) for number in range(options.clients))
        )
        seconds = time.perf_counter() - start
        await asyncio.sleep(1)
        after = memory(pid)
        metrics = (await client.get("/metrics")).text
    left_over = {name: figure(metrics, f"minimind_{name}") for name in ("batch_size", "waiting")}
    first = sorted(tally.first_token)
    p50, p99 = statistics.median(first), first[int(0.99 * len(first))]
    return {
        "clients": f"{options.clients}, {len(set(alone))} different answers",
        "time": f"{seconds:.0f} s",
        "answers read to the end": f"{tally.whole:,} ({tally.tokens / seconds:,.0f} pieces/s)",
        "answers left in the middle": f"{tally.left:,}",
        "malformed bodies, all refused with 400": f"{tally.nonsense:,}",
        "refused with 429": f"{tally.busy:,}",
        "lost / mixed / stuck": f"{tally.lost} / {tally.mixed} / {tally.stuck}",
        "still running / waiting afterwards": f"{left_over['batch_size']:.0f} / {left_over['waiting']:.0f}",
        "time to the first token, p50 / p99": f"{p50:.2f} s / {p99:.2f} s",
        "memory before / after": f"{before} MiB / {after} MiB",
    }


async def one(
    client: httpx.AsyncClient, number: int, alone: list[str], end: float, tally: Tally, options: argparse.Namespace
) -> None:
    """One client until the time is over."""
    luck = random.Random(number)
    while time.perf_counter() < end:
        what = luck.random()
        if what < 0.1:
            content, headers = luck.choice(NONSENSE), {"content-type": "application/json"}
            response = await client.post("/v1/chat/completions", content=content, headers=headers)
            tally.nonsense += response.status_code == 400
            tally.lost += response.status_code != 400
            continue
        which = luck.randrange(len(alone))
        leave_after = luck.randint(1, options.max_tokens // 2) if what < 0.3 else None
        try:
            said = await ask(client, request(which, options), tally, leave_after)
        except httpx.ReadTimeout:
            tally.stuck += 1
        except httpx.HTTPStatusError as error:
            tally.busy += error.response.status_code == 429
            tally.lost += error.response.status_code != 429
        except (httpx.TransportError, EOFError):
            tally.lost += 1
        else:
            tally.mixed += not alone[which].startswith(said) if leave_after else said != alone[which]
            tally.left += leave_after is not None
            tally.whole += leave_after is None


async def ask(client: httpx.AsyncClient, body: dict[str, Any], tally: Tally, leave_after: int | None = None) -> str:
    """A streamed answer, or its first pieces."""
    said, pieces, start = "", 0, time.perf_counter()
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if line == "data: [DONE]":
                return said
            if line:
                event = json.loads(line.removeprefix("data: "))
                if "error" in event:
                    raise EOFError
                piece = event["choices"][0]["delta"].get("content", "")
                said += piece
                if piece:
                    pieces += 1
                    tally.tokens += 1
                    if pieces == 1:
                        tally.first_token.append(time.perf_counter() - start)
            if pieces == leave_after:
                return said
    raise EOFError


def memory(pid: int) -> int:
    """What the process holds, in MiB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
    assert found is not None
    return int(found[1]) // 1024


def figure(metrics: str, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", metrics, re.MULTILINE)
    assert found is not None
    return float(found[1])


if __name__ == "__main__":
    main()
