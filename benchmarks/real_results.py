"""What a pretraining and its fine-tuning on real data reached: a page of results and the curves.

    python -m benchmarks.real_results runs/zh-en runs/zh-en-chat --out docs/results

Held-out bits per byte of each training file apart (documents held out by the hash of their content), speed, and the
answers to ten fixed questions, greedy and unedited.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from benchmarks.results import command, table, write_page

from minimind import config
from minimind.api import Model
from minimind.data.batches.loader import sequential_batches
from minimind.eval.perplexity import evaluate_nll
from minimind.hardware import pick_device
from minimind.model import load_model
from minimind.recipe import Recipe
from minimind.runs.plots import plots
from minimind.runs.read import read_run
from minimind.runs.svg import grid
from minimind.stages import STAGES
from minimind.tokenizer import Tokenizer
from minimind.util.files import write_text

# Fixed before any model was trained.
QUESTIONS = (
    "你好，请介绍一下你自己。",
    "中国的首都是哪里？",
    "请用一句话解释什么是编程。",
    "写一首关于春天的短诗。",
    "我今天心情不好，怎么办？",
    "把“I like reading books.”翻译成中文。",
    "What is the capital of France?",
    "Give three tips for staying healthy.",
    "Write a short poem about the sea.",
    "Explain what a computer is in one sentence.",
)


def by_file(run: Path) -> list[tuple[str, int, float]]:
    """(file, held-out tokens read, bits per byte) of each training file."""
    recipe = config.load(Recipe, files=[run / "recipe.yaml"])
    data, _, held_out = STAGES[recipe.stage].data(recipe, Tokenizer.load(run / "model"), STAGES[recipe.stage].kind)
    model = load_model(run / "model")
    found = []
    for file in recipe.data:
        mine = np.array([n for n in held_out if data.provenance(int(n))[0] == file])
        batches = sequential_batches(data, mine, recipe.batch.seq_len, 8)
        nll = evaluate_nll(model, batches, pick_device("cpu"))
        found.append((Path(file).name, nll.tokens, nll.bits_per_byte))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path, help="run directory of the pretraining")
    parser.add_argument("chat", type=Path, help="run directory of the fine-tuning")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="directory to write to")
    parser.add_argument("--note", default="", help="a sentence about the machine, for the page")
    options = parser.parse_args()
    runs = [read_run(options.base), read_run(options.chat)]
    write_text(options.out / "real-zh-en.svg", grid([plot for run in runs for plot in plots([run])[:2]]))
    stages = []
    for run in runs:
        s = run.summary()
        speed = f"{s['tokens_per_second']:,.0f}"
        minutes = f"{s['seconds'] / 60:.1f}"
        stages.append(
            [s["stage"], f"{s['steps']:,}", f"{s['tokens']:,}", minutes, speed, f"{s['bits_per_byte']:.4f}"]
        )
    scores = [[name, f"{tokens:,}", f"{bits:.4f}"] for run in runs for name, tokens, bits in by_file(run.path)]
    model = Model.load(options.chat)
    greedy = {"temperature": 0.0, "max_tokens": 120}
    answers = [model.chat([{"role": "user", "content": q}], **greedy)["content"] for q in QUESTIONS]
    said = [f"**{q}**\n\n```text\n{answer}\n```" for q, answer in zip(QUESTIONS, answers)]
    began = runs[0].environment
    parts = [
        f"{time.strftime('%Y-%m-%d')}, {began['processor']} with {began['threads']} threads "
        f"({began['cpu_capability']}, fp32), Python {began['python']}, torch {began['torch']}. Recipes "
        f"`zh-en-pretrain` and `zh-en-sft`; this page was made by `{command()}`. " + options.note,
        f"![curves](real-zh-en.svg)\n\n{sum(p.numel() for p in load_model(options.base / 'model').parameters()):,} "
        "parameters.",
        table(["stage", "steps", "tokens", "minutes", "tokens/s (median)", "held-out bits/byte"], stages),
        "## Held-out bits per byte by file\n\n"
        + table(["file", "tokens read", "bits per byte"], scores)
        + "\n\nRows as long as in training, without overlap; of conversations only what the assistant says.",
        "## Ten answers, greedy and unedited\n\n" + "\n\n".join(said),
    ]
    write_page(options.out / "real-zh-en.md", "A bilingual model from real data", *parts)


if __name__ == "__main__":
    main()
