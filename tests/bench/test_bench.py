"""`minimind bench`: what it measures is real, adds up, and is told; speeds themselves are not tested."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from minimind import presets
from minimind.bench.step import TimedStep, layer_products, output_product
from minimind.bench.synthetic import packed_batch
from minimind.bench.train import PARTS, Speed, limit
from minimind.cli import main
from minimind.data.batches.batch import PADDING
from minimind.model import ModelConfig, Transformer
from minimind.plan.flops import flops_per_token
from minimind.recipe import Recipe

CPU = torch.device("cpu")
SMALL = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
DENSE = ModelConfig("qwen3", num_key_value_heads=2, intermediate_size=48, **SMALL)
MIXTURE = ModelConfig("qwen3_moe", num_key_value_heads=2, num_experts=4, num_experts_per_tok=2, **SMALL)


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict]:
    """What a command prints with --json."""

    def run(*command: str) -> dict:
        assert main(["bench", *command, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["device"] == "cpu"
        assert found["environment"]["torch"] == torch.__version__
        return found

    return run


def test_a_packed_batch_is_full_of_documents() -> None:
    batch = packed_batch(sequences=6, seq_len=128, vocab_size=97)
    assert batch.tokens.shape == (6, 128)
    assert batch.tokens.max() < 97
    assert (batch.documents == PADDING).double().mean() < 0.05
    assert len(batch.table["source"]) > 6


@pytest.mark.parametrize("config", [DENSE, MIXTURE], ids=["dense", "experts"])
def test_timed_pieces_are_those_of_a_training_step(config: ModelConfig) -> None:
    timed = TimedStep(Recipe(model=config), CPU, torch.float32)
    micro = packed_batch(sequences=2, seq_len=64, vocab_size=97)
    whole, loss = timed.gradients_and_loss(micro)
    assert 0 < loss < whole
    gradients = [parameter.grad.clone() for parameter in timed.model.parameters()]
    assert all(gradient.abs().sum() > 0 for gradient in gradients)

    assert timed.gradients(micro) > 0  # adds to what is there
    for parameter, gradient in zip(timed.model.parameters(), gradients):
        torch.testing.assert_close(parameter.grad, 2 * gradient, rtol=1e-4, atol=1e-6)
    before = [parameter.detach().clone() for parameter in timed.model.parameters()]
    assert timed.update() > 0
    assert all((old != new).any() for old, new in zip(before, timed.model.parameters()))
    assert all(parameter.grad is None for parameter in timed.model.parameters())
    assert timed.products(micro) > 0
    assert timed.attention(micro) > 0


@pytest.mark.parametrize("config", [DENSE, MIXTURE], ids=["dense", "experts"])
def test_products_are_all_that_a_forward_pass_multiplies(config: ModelConfig) -> None:
    """6 operations for every parameter that a token is multiplied by, as the trainer's MFU counts them."""
    tokens = 64
    products = layer_products(Transformer(config), tokens)
    products[output_product(config, tokens)] += 1
    counted = sum(6 * r * i * c * count for (r, i, c), count in products.items()) / tokens
    norms = sum(p.numel() for p in Transformer(config).parameters() if p.ndim == 1)
    assert counted == flops_per_token(config, seq_len=0) - 6 * norms


def test_train_measures_every_size(report: Callable[..., dict]) -> None:
    found = report("train", "--preset", "tiny", "--micro-batch-tokens", "128", "64", "--seq-len", "64")
    (speed,) = found["results"]
    assert speed["preset"] == "tiny"
    assert speed["tokens_per_step"] == 32768
    assert [one["tokens"] for one in speed["micro_batches"]] == [64, 128]
    flops = flops_per_token(presets.get("tiny"), 64)
    for one in speed["micro_batches"]:
        assert one["memory_gb"] > 0
        assert one["mfu"] == pytest.approx(one["tokens_per_second"] * flops / speed["matmul_rate"])
        assert 0 < one["mfu"] <= 1
        without_update = one["tokens"] / one["seconds"]
        assert 0 < one["tokens_per_second"] < without_update
    assert speed["best"] == max(speed["micro_batches"], key=lambda one: one["tokens_per_second"])["tokens"]
    assert sum(speed["parts"].values()) == pytest.approx(1)
    assert 0 < speed["product_efficiency"] <= 1
    slowest, fastest = speed["large_rates"]
    assert 0 < slowest <= fastest <= speed["matmul_rate"]
    assert speed["limit"]


def test_no_share_exceeds_one_on_a_machine_whose_speed_moves(
    report: Callable[..., dict], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large products measured far too slow and then threefold faster: what was faster is the ceiling."""
    rates = (1e9 * factor for factor in itertools.cycle((1, 3)))
    monkeypatch.setattr("minimind.bench.train.matmul_rate", lambda device, dtype: next(rates))
    flags = ["train", "--preset", "tiny", "--micro-batch-tokens", "64", "--seq-len", "64"]
    (speed,) = report(*flags, "--seconds", "100000000")["results"]
    assert 0 < speed["product_efficiency"] <= 1
    assert all(0 < one["mfu"] <= 1 for one in speed["micro_batches"])
    assert speed["large_rates"] == [1e9, 3e9]
    assert main(["bench", *flags, "--seconds", "100000000"]) == 0
    assert "tiny: the rate of large products moved from 1 to 3 GFLOP/s" in capsys.readouterr().out


def test_train_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "train", "--preset", "tiny", "--micro-batch-tokens", "340", "--seq-len", "340"]) == 0
    said = capsys.readouterr().out
    for words in ("tokens/s", "MFU", "340", "best", *PARTS.values(), "tiny is limited by", "torch"):
        assert words in said


def test_train_leaves_out_what_takes_too_long(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--micro-batch-tokens", "64", str(2**20), "--seq-len", "64"]
    assert main(["bench", "train", "--preset", "tiny", *sizes, "--seconds", "10", "--rounds", "1"]) == 0
    assert "1,048,576 at once: not measured, it would take about" in capsys.readouterr().out
    assert main(["bench", "train", "--preset", "3b", "--seconds", "1"]) == 1
    said = capsys.readouterr()
    assert "3b, 1,024 and more at once: " in said.out
    assert said.err.startswith("error: nothing could be measured")


OUT_OF_MEMORY = """
import resource, sys
from pathlib import Path
import torch
from minimind.bench import train
from minimind.cli import main

for line in Path("/proc/self/status").read_text().splitlines():
    if line.startswith("VmSize"):
        limit = 1024 * int(line.split()[1]) + 2**28
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sizes = ["--micro-batch-tokens", "64", "32768"]
sys.exit(main(["bench", "train", "--preset", "tiny", "--seq-len", "64", *sizes, "--seconds", "1000"]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_out_of_memory_is_told_and_not_fatal() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", OUT_OF_MEMORY]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "tiny, 32,768 at once: out of memory" in done.stdout
    assert "tiny is limited by" in done.stdout


def test_the_limit_is_the_largest_part() -> None:
    def sentence(part: str, **fields: object) -> str:
        shares = {name: 0.6 if name == part else 0.1 for name in PARTS}
        return limit(Speed("tiny", 1, 32768, parts=shares, **{"compiled": False, **fields}))

    assert sentence("products", product_efficiency=0.9).startswith("the machine's matrix products: 60% of a step")
    assert sentence("products", product_efficiency=0.3).startswith("small matrices")
    assert sentence("attention").startswith("attention")
    assert sentence("loss").startswith("the output layer")
    assert sentence("optimizer").startswith("the optimizer: 60% of a step of 32,768 tokens")
    assert sentence("other").startswith("memory bandwidth")
    assert "compiled" in sentence("other")
    assert "compiled" not in sentence("other", compiled=True)


def test_matmul(report: Callable[..., dict], capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setattr("minimind.commands.bench.SIZES", [64, 128])
    found = report("matmul", "--preset", "tiny", "--tokens", "32")
    squares, shapes = found["operations_per_second"][:2], found["operations_per_second"][2:]
    assert [one["rows"] for one in squares] == [64, 128]
    assert {one["rows"] for one in shapes} == {32}
    assert shapes[-1]["columns"] == presets.get("tiny").vocab_size
    assert all(one[dtype] > 0 for one in squares + shapes for dtype in ("fp32", "bf16", "fp16"))
    assert found["copied_bytes_per_second"] > 1e8
    assert found["auto"]["precision"] in ("fp32", "bf16")

    assert main(["bench", "matmul"]) == 0
    said = capsys.readouterr().out
    for words in ("GFLOP/s", "fp32", "GB/s", "--precision auto takes ", "on one thread bf16 reaches"):
        assert words in said


def test_data(report: Callable[..., dict], corpus, chat_file, tokenizer_directory, capsys) -> None:
    flags = ["--seq-len", "64", "--preset", "tiny", "--tokenizer", str(tokenizer_directory)]
    found = report("data", "--data", str(corpus), str(chat_file), *flags)
    texts, chats = found["results"]
    assert (texts["kind"], texts["documents"]) == ("pretrain", 200)
    assert (chats["kind"], chats["documents"]) == ("chat", 150)
    for one in (texts, chats):
        assert one["megabytes"] <= os.path.getsize(one["file"]) / 1e6
        assert one["prepare_tokens_per_second"] / one["prepare_mb_per_second"] == pytest.approx(
            one["tokens"] / one["megabytes"]
        )
        assert 0 <= one["padding"] < 0.5
        assert min(one["read_mb_per_second"], one["packed_per_second"], one["batch_tokens_per_second"]) > 0
    assert found["training_tokens_per_second"] > 0

    assert main(["bench", "data", "--data", str(corpus), *flags]) == 0
    said = capsys.readouterr().out
    for words in ("texts.jsonl", "padding", "tokens/s", "training tiny reads"):
        assert words in said


def test_data_of_the_built_in_corpus(report: Callable[..., dict], tokenizer_directory) -> None:
    found = report("data", "--megabytes", "1", "--preset", "tiny", "--tokenizer", str(tokenizer_directory))
    assert [one["kind"] for one in found["results"]] == ["pretrain", "chat"]
    assert all(np.isclose(one["megabytes"], 1, atol=0.1) for one in found["results"])


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["train", "--preset", "tny"], "did you mean tiny?"),
        (["train", "--seq-len", "4"], "batch.seq_len must be a whole number from 8"),
        (["train", "--micro-batch-tokens", "256"], "less than one sequence of 512"),
        (["train", "--rounds", "0"], "argument --rounds: expected a whole number from 1"),
        (["matmul", "--preset", "tny"], "did you mean tiny?"),
        (["matmul", "--device", "abacus"], "abacus"),
        (["data", "--data", "nowhere.jsonl"], "nowhere.jsonl does not exist"),
        (["data", "--preset", "tny"], "did you mean tiny?"),
        ([], "COMMAND"),
    ],
)
def test_mistakes_are_one_sentence(command: list[str], words: str, capsys) -> None:
    assert main(["bench", *command]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert words in said
    assert said.count("\n") == 1
