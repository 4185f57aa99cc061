"""Sampled tokens a second of a rollout: our engine, and transformers' `generate` one prompt's group at a time.

    python -m benchmarks.rollout_speed --models runs/quickstart/chat --out docs/results/rollout-speed.md
    python -m benchmarks.rollout_speed --models runs/quickstart/chat minimind2-small --threads 2

Both sample whole groups of answers to the same prompts of the world, at temperature 1 and untruncated, on the same
threads; ours also records log-probabilities and plays whole episodes, as the training does. What counts are tokens
up to the one that ends an answer: a group of `generate` runs until its longest answer ends. The two take turns.

With one thread the time is that of the processor, so that what else happens on the machine costs neither anything;
with more it is time that passed. A model of a preset's name is random: a fortieth of its tokens end an answer.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from benchmarks.infer_speed import model_files
from benchmarks.results import command, machine, table, write_page
from transformers import AutoModelForCausalLM

from minimind.infer.engine import Engine
from minimind.infer.sampler import SamplingParams
from minimind.model import load_model
from minimind.model.count import count_parameters
from minimind.presets import PRESETS
from minimind.rl.envs.single_turn import SingleTurn
from minimind.rl.prompts.world import training_prompts
from minimind.rl.rollout import run_episodes
from minimind.rl.types import Prompt
from minimind.tokenizer import Tokenizer

Lengths = list[int]  # sampled tokens of each answer
Rollout = Callable[[int], Lengths]  # by its seed
HEADER = ["prompts", "longest answer", "tokens an answer", "plain, tokens/s", "ours, tokens/s", "ours / plain"]


@dataclass
class Task:
    """What is asked, and how long an answer may be."""

    name: str
    skills: list[str]
    think: bool
    max_tokens: int


TASKS = [
    Task("arithmetic", ["arithmetic"], False, 48),
    Task("two-step sums with thinking", ["two_steps"], True, 160),
]


def ours(source: Path, prompts: list[Prompt], task: Task, stop_ids: tuple[int, ...], group: int) -> Rollout:
    model, tokenizer = load_model(source), Tokenizer.load(source)
    engine = Engine(model, max_batch=len(prompts) * group)
    params = SamplingParams(temperature=1.0, top_p=1.0, max_tokens=task.max_tokens, stop_ids=stop_ids)
    envs = [SingleTurn(prompt) for prompt in prompts for _ in range(group)]

    def rollout(seed: int) -> Lengths:
        engine.refresh()
        seeds = range(seed * len(envs), (seed + 1) * len(envs))
        played = run_episodes(engine, tokenizer, envs, params, seeds, model.config.context_length, task.think)
        return [one.length for one in played]

    return rollout


def plain(source: Path, prompts: list[Prompt], task: Task, stop_ids: tuple[int, ...], group: int) -> Rollout:
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval(),
        Tokenizer.load(source),
    )
    model.generation_config.eos_token_id = list(stop_ids)

    def rollout(seed: int) -> Lengths:
        torch.manual_seed(seed)
        lengths = []
        for prompt in prompts:
            ids, _ = tokenizer.encode_chat(prompt.messages, add_generation_prompt=True, open_thinking=task.think)
            answers = model.generate(
                torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
                do_sample=True, temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=task.max_tokens,
                num_return_sequences=group, pad_token_id=0,
            )[:, len(ids) :].tolist()  # fmt: skip
            for answer in answers:
                ends = [place for place, token in enumerate(answer) if token in stop_ids]
                lengths.append(ends[0] + 1 if ends else len(answer))
        return lengths

    return rollout


def measure(source: Path, task: Task, options: argparse.Namespace, random: bool) -> list[str]:
    tokenizer = Tokenizer.load(source)
    stop_ids = tuple(range(2, tokenizer.vocab_size, 40)) if random else tokenizer.stop_ids
    prompts = training_prompts(0, 0, options.prompts, task.skills, task.think)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    contenders = [make(source, prompts, task, stop_ids, options.group_size) for make in (plain, ours)]
    rates: list[list[float]] = [[], []]
    lengths: Lengths = []
    for seed in range(1, options.rounds + 1):
        for found, rollout in zip(rates, contenders):
            start = clock()
            answers = rollout(seed)
            found.append(sum(answers) / (clock() - start))
            lengths += answers
    slow, fast = map(statistics.median, rates)
    deciles = statistics.quantiles(lengths, n=10)
    spread = f"{statistics.mean(lengths):.0f} ({deciles[0]:.0f} to {deciles[-1]:.0f})"
    return [task.name, str(task.max_tokens), spread, f"{slow:,.0f}", f"{fast:,.0f}", f"{fast / slow:.1f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", required=True, help="runs, model directories or presets")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    parts = []
    with tempfile.TemporaryDirectory() as directory:
        for name in options.models:
            source = model_files(name, Path(directory))
            config = load_model(source).config
            rows = [measure(source, task, options, name in PRESETS) for task in TASKS]
            parts += [f"## {name}", f"{count_parameters(config)['total']:,} parameters.", table(HEADER, rows)]
    seconds = "of the processor" if options.threads == 1 else "that passed"
    about = (
        f"{machine(torch.device('cpu'), 'transformers')}\n{options.prompts} prompts with {options.group_size} "
        f"answers each, seconds {seconds}, medians of {options.rounds} rounds; of an answer's tokens the mean, the "
        f"first and the last decile.\nMade by `{command()}`."
    )
    write_page(options.out, "Speed of rollouts", about, *parts)


if __name__ == "__main__":
    main()
