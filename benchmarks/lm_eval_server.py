"""lm-evaluation-harness on a server and on its own `hf` backend: the same log-probabilities, item by item?

    python -m benchmarks.lm_eval_server runs/smoke/chat/model --out docs/results/lm-eval.md

Made-up questions of four choices, in which Chinese, English, digits and emoji meet, and texts to go on with. The
server gets them as ids, as the harness sends them unless told otherwise, and as text. Needs lm-eval[api] and
transformers, no network; any model will do, here that of `minimind quickstart --smoke --out runs/smoke`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import lm_eval
import torch
from benchmarks.results import command, machine, table, write_page
from lm_eval.tasks import TaskManager

TEXT = "the cat sees 17 + 25 old houses, 河水 很 清。 What is 😀 café ← a\tred river? 小明 had 3 apples\nand"
CHOICES = {"output_type": "multiple_choice", "doc_to_choice": "{{choices}}", "doc_to_target": 0}
TEXTS = {
    "output_type": "generate_until",
    "doc_to_target": "",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 16},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model directory")
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the Markdown page there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tasks = write_tasks(Path(folder), options.questions)
        hf = evaluate(tasks, "hf", pretrained=str(options.model), dtype="float32")
        rows = []
        server = [sys.executable, "-m", "minimind", "serve", str(options.model), "--name", "m", "--port", "0"]
        process = subprocess.Popen([*server, "--device", "cpu"], stderr=subprocess.PIPE, text=True)
        try:
            assert process.stderr is not None
            if (found := re.search(r"at (http://\S+)/v1 ", process.stderr.readline())) is None:
                sys.exit(process.stderr.read())
            url = found[1] + "/v1/completions"
            for as_ids in (True, False):
                asked = {
                    "model": "m",
                    "base_url": url,
                    "tokenizer": str(options.model),
                    "tokenized_requests": as_ids,
                }
                ours = evaluate(tasks, "local-completions", tokenizer_backend="huggingface", **asked)
                rows.append(["ids" if as_ids else "texts", *compare(hf, ours)])
        finally:
            process.kill()
            process.wait()
    header = [
        "prompts sent as",
        "log-likelihoods within 1e-3, greedy alike",
        "largest difference",
        "choices",
        "texts",
    ]
    where = machine(torch.device("cpu"), "lm_eval", "transformers")
    note = "A text that is not echoed gets the token in front with which training texts begin; `hf` has none there."
    write_page(options.out, "lm-evaluation-harness", where, f"`{command()}`", table(header, rows), note)


def write_tasks(folder: Path, questions: int) -> TaskManager:
    rng = random.Random(0)
    say = lambda longest: " ".join(rng.choices(TEXT.split(" "), k=rng.randint(1, longest))).strip() or "a"  # noqa: E731
    lines = [json.dumps({"question": say(12), "choices": [say(4) for _ in range(4)]}) for _ in range(questions)]
    (folder / "test.jsonl").write_text("\n".join(lines), encoding="utf-8")
    data = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(folder / "test.jsonl")}}}
    common = {**data, "test_split": "test", "doc_to_text": "{{question}}"}
    for name, task in (("choices", CHOICES), ("texts", TEXTS)):  # YAML reads JSON
        (folder / f"{name}.yaml").write_text(json.dumps({"task": name, **common, **task}), encoding="utf-8")
    return TaskManager(include_path=str(folder))


def evaluate(tasks: TaskManager, backend: str, **arguments: Any) -> dict[str, list[Any]]:
    """By task: what the backend said to each item, in order."""
    result = lm_eval.simple_evaluate(
        backend,
        model_args={**arguments, "max_length": 512},
        tasks=["choices", "texts"],
        task_manager=tasks,
        batch_size=4,
        bootstrap_iters=0,
        device="cpu",
    )
    samples = result["samples"].items()
    return {
        task: [s["filtered_resps"] for s in sorted(items, key=lambda s: s["doc_id"])] for task, items in samples
    }


def compare(hf: dict[str, list[Any]], ours: dict[str, list[Any]]) -> list[str]:
    pairs = [pair for both in zip(hf["choices"], ours["choices"]) for pair in zip(*both)]
    far = [abs(a[0] - b[0]) for a, b in pairs]
    alike = sum(one < 1e-3 and a[1] == b[1] for one, (a, b) in zip(far, pairs))
    likeliest = [max(range(4), key=lambda i: item[i][0]) for item in (*hf["choices"], *ours["choices"])]
    half = len(hf["choices"])
    chosen = sum(a == b for a, b in zip(likeliest[:half], likeliest[half:]))
    texts = sum(a == b for a, b in zip(hf["texts"], ours["texts"]))
    return [f"{alike} of {len(far)}", f"{max(far):.1e}", f"{chosen} of {half}", f"{texts} of {half}"]


if __name__ == "__main__":
    main()
