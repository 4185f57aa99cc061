"""Make the model that a test of `train grpo` starts from: it can calculate, but mostly says that it does not know.

    python -m benchmarks.hesitant --work runs/hesitant --out tests/fixtures/hesitant

A small model is fine-tuned on the embedded world's arithmetic, with 55 of 100 answers replaced by an excuse. So
most greedy answers are the excuse, while answers that are sampled are right often enough to learn from.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from minimind.cli import main as minimind
from minimind.world.preference import SORRY
from minimind.world.rng import Rng
from minimind.world.sample import Message, assistant
from minimind.world.skills import SKILLS

SHAPE = {
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "intermediate_size": 256,
    "max_position_embeddings": 256,
}
HESITATION = 0.55
COMMON = ["--batch.seq_len", "128", "--compile", "false", "--precision", "fp32", "--evaluation.samples", "0"]


def arithmetic(rng: Rng, count: int, hesitation: float) -> list[list[Message]]:
    """Questions and answers, of which a part are excuses."""
    conversations = []
    for _ in range(count):
        lang = rng.pick(("en", "zh"))
        messages = SKILLS["arithmetic"](rng, lang).messages
        if hesitation and rng.chance(hesitation):
            messages = [*messages[:-1], assistant(SORRY[lang])]
        conversations.append(messages)
    return conversations


def write(path: Path, rows: Iterable[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="directory of data and runs")
    parser.add_argument("--out", type=Path, required=True, help="where the model goes, in bf16")
    parser.add_argument("--steps", type=int, default=2600)
    options = parser.parse_args()
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    certain = arithmetic(Rng(1, "exp"), 6000, 0)
    plain = write(work / "plain.jsonl", ({"conversations": messages} for messages in certain))
    texts = write(work / "texts.jsonl", ({"text": " ".join(m["content"] for m in one)} for one in certain))
    hesitant = arithmetic(Rng(7, "hesitant"), 120_000, HESITATION)
    chats = write(work / "chats.jsonl", ({"conversations": messages} for messages in hesitant))
    tokenizer, base, chat = (str(work / name) for name in ("tokenizer", "base", "chat"))
    minimind(["tokenizer", "train", "--data", plain, "--vocab-size", "400", "--out", tokenizer])
    shape = [word for name, value in SHAPE.items() for word in (f"--model.{name}", str(value))]
    first = ["--tokenizer", tokenizer, "--data", texts, "--budget.steps", "1"]
    minimind(["train", "pretrain", *shape, *COMMON, *first, "--out", base])
    settings = f"--batch.tokens_per_step 4096 --optimizer.learning_rate 0.02 --budget.steps {options.steps}".split()
    minimind(["train", "sft", *COMMON, *settings, "--from", base, "--data", chats, "--out", chat])
    minimind(["export", "hf", chat, "--dtype", "bf16", "--out", str(options.out)])


if __name__ == "__main__":
    main()
