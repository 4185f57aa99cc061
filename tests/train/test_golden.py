"""Two short trainings whose losses are kept in golden.json: no change of the code may move them unnoticed.

To renew the file after a change that is meant to: `PYTHONPATH=src python -m tests.train.test_golden`.
"""

import json
import sys
import tempfile
from pathlib import Path

import pytest
from tests.helpers import losses, make_trainer, texts, write_jsonl

from minimind.tokenizer.train import train as train_tokenizer

GOLDEN = Path(__file__).with_name("golden.json")
STEPS = 50
RATES = {"muon": (0.02, 0.006), "adamw": (0.005, 0.005)}  # of the matrices, of the rest


def curve(optimizer: str, directory: Path) -> list[float]:
    """The loss of every step of a tiny pretraining, all of it made here from seeds."""
    corpus = write_jsonl(directory / "texts.jsonl", ({"text": text} for text in texts(300, seed=1)))
    train_tokenizer(texts(300, seed=1), 350).save(directory / "tokenizer")
    rate, embedding_rate = RATES[optimizer]
    settings = {"optimizer.name": optimizer, "optimizer.learning_rate": rate, "budget.steps": STEPS}
    settings |= {"optimizer.embedding_learning_rate": embedding_rate}
    settings |= {"model.hidden_size": 32, "model.num_hidden_layers": 2, "model.num_attention_heads": 2}
    settings |= {"batch.seq_len": 32, "batch.tokens_per_step": 256, "batch.micro_batch_tokens": 128}
    settings |= {"device": "cpu", "precision": "fp32", "compile": "false", "log_every": 1}
    paths = ["--data", str(corpus), "--tokenizer", str(directory / "tokenizer"), "--out", str(directory / "run")]
    flags = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    make_trainer(["train", "pretrain", *paths, *flags]).fit()
    return losses(directory / "run")


@pytest.mark.parametrize("optimizer", RATES)
def test_losses_are_those_of_the_past(optimizer, tmp_path):
    golden = json.loads(GOLDEN.read_text())[optimizer]
    assert len(golden) == STEPS
    assert golden[-1] < golden[0] - 2
    assert curve(optimizer, tmp_path) == pytest.approx(golden, rel=2e-3)


if __name__ == "__main__":
    found = {}
    for name in RATES:
        with tempfile.TemporaryDirectory() as place:
            found[name] = [round(loss, 5) for loss in curve(name, Path(place))]
    GOLDEN.write_text(json.dumps(found) + "\n")
    print(f"wrote {GOLDEN}", file=sys.stderr)
