"""Tokens a second of our engine, of transformers and of llama.cpp, with the same weights, side by side.

    python -m benchmarks.infer_speed --out docs/results/infer-speed.md
    python -m benchmarks.infer_speed --quick                one model, one round, about a minute
    python -m benchmarks.infer_speed --models runs/chat     a trained model instead of random weights

Greedy answers of equal length to prompts of equal length, no token of which ends an answer; the time is that of the
whole request, the reading of the prompt included. All take turns, so that what else happens on the machine falls on
all; figures are medians of the rounds, ratios those of medians. Each has a process of its own and as many threads:
beside llama.cpp in one process PyTorch reaches a third to a half of its speed. llama.cpp has its own choice of
cache and attention; one request over HTTP asks for one answer.

Time to the first token: requests arrive at random (Poisson) at half the rate that the engine can serve, against the
same requests to an idle engine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import xllamacpp
from benchmarks.llama_cpp import LlamaCpp
from benchmarks.results import command, machine, table, write_page
from benchmarks.trainings import in_a_process
from transformers import AutoModelForCausalLM

from minimind.infer.engine import Engine
from minimind.infer.sampler import SamplingParams
from minimind.interop.gguf import export_gguf
from minimind.model import Transformer, load_model, save_model
from minimind.model.count import count_parameters
from minimind.model.hf.weights import model_directory
from minimind.presets import PRESETS, get
from minimind.tokenizer.train import train

Prompts = list[list[int]]
Answer = Callable[[Prompts, int], None]  # gives every prompt an answer of so many tokens


def model_files(name: str, directory: Path) -> Path:
    """A model directory: a trained one, or a preset with random weights of a trained model's size."""
    if name not in PRESETS:
        return model_directory(name)
    config = get(name)
    model, generator = Transformer(config), torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)
    words = ["".join(random.Random(i).choices("abcdefghijklmnopqrstuvwxyz", k=6)) for i in range(5000)]
    save_model(model, directory / name, train([" ".join(words)], min(config.vocab_size, 1000)))
    return directory / name


def ours(source: Path, rows: int, context: int, weights: str) -> Answer:
    engine = Engine(load_model(source), rows, weights=weights, prefix_bytes=0)  # type: ignore[arg-type]

    def answer(prompts: Prompts, count: int) -> None:
        engine.generate(prompts, SamplingParams(temperature=0, max_tokens=count, stop_ids=()))

    return answer


def transformers(source: Path, rows: int, context: int) -> Answer:
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None

    def answer(prompts: Prompts, count: int) -> None:
        ids = torch.tensor(prompts)
        mask = torch.ones_like(ids)
        model.generate(ids, attention_mask=mask, max_new_tokens=count, do_sample=False, pad_token_id=0)

    return answer


def llama_cpp(source: Path, rows: int, context: int, path: Path) -> Answer:
    """`path`: the file to write, named after its type."""
    export_gguf(source, path, path.stem)
    llama = LlamaCpp(path, context, rows, torch.get_num_threads(), exact=False)
    pool = ThreadPoolExecutor(rows)

    def one(prompt: list[int], count: int) -> None:
        said = llama.post(
            "/completion", prompt=prompt, n_predict=count, temperature=0, cache_prompt=False, ignore_eos=True
        )
        assert said["tokens_predicted"] == count

    def answer(prompts: Prompts, count: int) -> None:
        list(pool.map(one, prompts, [count] * len(prompts)))

    return answer


class Contender:
    """Somebody who answers prompts, made in a process of its own, which sleeps while others have their turn."""

    def __init__(self, make: Callable[..., Answer], *arguments: Any) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.process = ProcessPoolExecutor(1, spawn, _begin, (torch.get_num_threads(), make, arguments))

    def rate(self, prompts: Prompts, count: int) -> float:
        """Tokens of answers a second."""
        return len(prompts) * count / self.process.submit(_seconds, prompts, count).result()


def _begin(threads: int, make: Callable[..., Answer], arguments: tuple[Any, ...]) -> None:
    global _answer
    torch.set_num_threads(threads)
    _answer = make(*arguments)


def _seconds(prompts: Prompts, count: int) -> float:
    start = time.perf_counter()
    _answer(prompts, count)
    return time.perf_counter() - start


def rates(
    source: Path, makers: dict[str, tuple[Any, ...]], prompts: Prompts, options: argparse.Namespace
) -> dict[str, float]:
    """The median of the rounds; a few tokens before them are not counted."""
    context = options.prompt + options.tokens + 1
    who = {name: Contender(make, source, len(prompts), context, *more) for name, (make, *more) in makers.items()}
    for one in who.values():
        one.rate(prompts, 4)
    found = [{name: one.rate(prompts, options.tokens) for name, one in who.items()} for _ in range(options.rounds)]
    for one in who.values():
        one.process.shutdown()
    return {name: statistics.median(one[name] for one in found) for name in who}


def first_tokens(engine: Engine, prompts: Prompts, counts: list[int], arrivals: list[float]) -> list[float]:
    """Seconds from each request's arrival to its first token; arrivals are in seconds from now."""
    start = time.perf_counter()
    coming = list(zip(arrivals, prompts, counts))
    under_way = []
    found = []
    while coming or under_way:
        now = time.perf_counter() - start
        while coming and coming[0][0] <= now:
            when, prompt, count = coming.pop(0)
            params = SamplingParams(temperature=0, max_tokens=count, stop_ids=())
            under_way.append((when, engine.submit(prompt, params)))
        if not under_way:
            time.sleep(max(0.0, coming[0][0] - now))
            continue
        heard = [bool(request.ids) for _, request in under_way]
        engine.step()
        now = time.perf_counter() - start
        found += [now - when for (when, request), before in zip(under_way, heard) if request.ids and not before]
        under_way = [(when, request) for when, request in under_way if request.stop_reason is None]
    return found


def under_load(source: Path, rows: int, requests: int) -> list[str]:
    """A row of the table: times to the first token, idle and at half of the load that can be served."""
    luck = random.Random(0)
    engine = Engine(load_model(source), rows, prefix_bytes=0)
    limit = engine.source.config.vocab_size
    prompts = [[luck.randrange(limit) for _ in range(luck.randint(32, 256))] for _ in range(requests)]
    counts = [luck.randint(16, 128) for _ in range(requests)]
    start = time.perf_counter()
    first_tokens(engine, prompts, counts, [0.0] * requests)
    rate = requests / (time.perf_counter() - start)
    idle = [first_tokens(engine, [prompt], [1], [0.0])[0] for prompt in prompts]
    arrivals, now = [], 0.0
    for _ in prompts:
        now += luck.expovariate(rate / 2)
        arrivals.append(now)
    loaded = first_tokens(engine, prompts, counts, arrivals)
    p99 = [statistics.quantiles(times, n=100)[98] for times in (idle, loaded)]
    shown = [f"{1000 * seconds:.0f} ms" for seconds in (statistics.median(idle), statistics.median(loaded), *p99)]
    return [f"{rate:.2f}", *shown, f"{p99[1] / p99[0]:.2f}"]


def compare(name: str, options: argparse.Namespace) -> tuple[str, list[list[str]], list[str]]:
    """What the model is, the rows of its table, and those of the times to the first token."""
    with tempfile.TemporaryDirectory() as directory:
        source = model_files(name, Path(directory))
        config = load_model(source).config
        luck = random.Random(0)
        prompts = [
            [luck.randrange(config.vocab_size) for _ in range(options.prompt)] for _ in range(options.streams)
        ]
        makers: dict[str, tuple[Any, ...]] = {
            "ours": (ours, "full"),
            "transformers": (transformers,),
            **({} if config.family.experts else {"ours, int8": (ours, "int8")}),
            **{f"llama.cpp, {kind}": (llama_cpp, Path(directory) / f"{kind}.gguf") for kind in options.gguf},
        }
        one, many = (rates(source, makers, prompts[:n], options) for n in (1, options.streams))
        rows = []
        for name in makers:
            cells = [cell for at in (one, many) for cell in (f"{at[name]:,.0f}", f"{at['ours'] / at[name]:.2f}")]
            rows.append([name, *cells, f"{many[name] / one['transformers']:.1f}"])
        about = f"{count_parameters(config)['total']:,} parameters ({config.model_type})"
        return about, rows, in_a_process(under_load, source, options.streams, options.requests)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models", nargs="+", default=["minimind2-small", "minimind-3"], help="presets, or trained"
    )
    parser.add_argument("--gguf", nargs="+", default=["f32", "f16", "q8_0"], help="types of llama.cpp's weights")
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--prompt", type=int, default=32, help="tokens of a prompt")
    parser.add_argument("--tokens", type=int, default=128, help="tokens of an answer")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--requests", type=int, default=60, help="requests under load")
    parser.add_argument("--quick", action="store_true", help="the first model, short answers, one round")
    parser.add_argument("--out", type=Path, help="page to write; printed by default")
    options = parser.parse_args()
    if options.quick:
        options.models, options.tokens, options.rounds, options.requests = options.models[:1], 48, 1, 30
    began = time.perf_counter()
    sections = []
    for name in options.models:
        about, rows, first = compare(name, options)
        header = ["", "1 stream, tokens/s", "ours / this", f"{options.streams} streams, tokens/s", "ours / this"]
        header.append("this / one stream of transformers")
        load = [
            "requests/s at most",
            "idle, median",
            "half load, median",
            "idle, p99",
            "half load, p99",
            "ratio of p99",
        ]
        sections += [
            f"## {name}",
            about + ".",
            table(header, rows),
            "Time to the first token:",
            table(load, [first]),
        ]
        print("\n\n".join(sections[-5:]), flush=True)
    intro = (
        f"{machine(torch.device('cpu'), 'transformers', 'xllamacpp')}\nllama.cpp says of itself: "
        f"{xllamacpp.get_system_info().strip()}\nPrompts of {options.prompt} tokens, answers of {options.tokens}, "
        f"{options.rounds} rounds. Made by `{command()}`\nin {time.perf_counter() - began:.0f} seconds."
    )
    write_page(options.out, "Speed of generation", intro, *sections)


if __name__ == "__main__":
    main()
