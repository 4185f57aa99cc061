"""What all tests share: one thread, a cache of their own, and a tiny tokenizer with data."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: tiny tensors gain nothing from more


# Tests that may be skipped in continuous integration, by the reason they give. Any other skip fails it: an oracle
# that is not installed must not pass for one that agrees.
ALLOWED_SKIPS = ("needs a CUDA device", "needs chromium", "curl is not installed", "bf16 is not native here")
unexplained_skips: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if not any(allowed in reason for allowed in ALLOWED_SKIPS):
            unexplained_skips.append(f"{report.nodeid}: {reason}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    on_worker = hasattr(session.config, "workerinput")
    if os.environ.get("CI") and unexplained_skips and not on_worker:
        print("\nskipped without leave:", *unexplained_skips, sep="\n  ")
        session.exitstatus = 1


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MINIMIND_CACHE, also for processes that tests start."""
    directory = tmp_path_factory.mktemp("cache")
    os.environ["MINIMIND_CACHE"] = str(directory)
    return directory


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 texts."""
    from tests.helpers import texts, write_jsonl

    return write_jsonl(tmp_path_factory.mktemp("data") / "texts.jsonl", ({"text": text} for text in texts(200)))


@pytest.fixture(scope="session")
def chat_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 conversations."""
    from tests.helpers import chats, write_jsonl

    rows = ({"conversations": chat} for chat in chats(150))
    return write_jsonl(tmp_path_factory.mktemp("data") / "chats.jsonl", rows)


@pytest.fixture(scope="session")
def thought_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 conversations whose assistant thinks."""
    from tests.helpers import thoughts, write_jsonl

    rows = ({"conversations": chat} for chat in thoughts(150))
    return write_jsonl(tmp_path_factory.mktemp("data") / "thoughts.jsonl", rows)


@pytest.fixture(scope="session")
def pair_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 preferences."""
    from tests.helpers import pairs, write_jsonl

    return write_jsonl(tmp_path_factory.mktemp("data") / "pairs.jsonl", pairs(120))


@pytest.fixture(scope="session")
def tokenizer_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer with at most 400 ids, trained on the corpus."""
    from tests.helpers import texts

    from minimind.tokenizer.train import train

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so few words are enough for a little less than 400
        tokenizer = train(texts(200), 400)
    directory = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(directory)
    return directory


@pytest.fixture(scope="session")
def base_model(tmp_path_factory: pytest.TempPathFactory, tokenizer_directory: Path) -> Path:
    """A model directory to fine-tune from: tiny, with random weights in every matrix."""
    import torch
    from tests.helpers import SETTINGS

    from minimind.model import ModelConfig, Transformer, save_model
    from minimind.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(tokenizer_directory)
    shape = {name.removeprefix("model."): v for name, v in SETTINGS.items() if name.startswith("model.")}
    directory = tmp_path_factory.mktemp("base") / "model"
    model = Transformer(ModelConfig(vocab_size=tokenizer.vocab_size, **shape))
    torch.manual_seed(0)
    for parameter in model.parameters():  # a fresh model's blocks add nothing yet
        parameter.data += 0.05 * torch.randn_like(parameter)
    save_model(model, directory, tokenizer)
    return directory


@pytest.fixture(scope="session")
def talker(tmp_path_factory: pytest.TempPathFactory, tokenizer_directory: Path) -> Path:
    """A run directory whose model says random things; it lies alone in its runs/ directory."""
    from tests.random_models import random_model

    from minimind.model import save_model
    from minimind.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(tokenizer_directory)
    run = tmp_path_factory.mktemp("home") / "runs" / "talker"
    save_model(random_model(vocab_size=tokenizer.vocab_size), run / "model", tokenizer)
    return run


@pytest.fixture(scope="session")
def adapters(tmp_path_factory: pytest.TempPathFactory, talker: Path) -> dict[str, Path]:
    """Runs of random adapters of the talker, of different ranks and matrices, by name."""
    import torch

    from minimind.model import load_model, save_model
    from minimind.model.hf.weights import add_adapter
    from minimind.model.lora import LoraOptions, lora_layers
    from minimind.tokenizer import Tokenizer

    base, home = talker / "model", tmp_path_factory.mktemp("adapters")
    options = {"law": LoraOptions(rank=3), "med": LoraOptions(rank=2, alpha=6, targets=["q_proj", "down_proj"])}
    for seed, (name, chosen) in enumerate(options.items()):
        model = load_model(base)
        add_adapter(model, chosen, seed, base)
        generator = torch.Generator().manual_seed(seed)
        for layer in lora_layers(model).values():
            layer.lora_B.weight.data = torch.randn(layer.lora_B.weight.shape, generator=generator)
        save_model(model, home / name / "model", Tokenizer.load(base))
    return {name: home / name for name in options}


@pytest.fixture
def pretrain(corpus: Path, tokenizer_directory: Path) -> Callable[..., list[str]]:
    """`pretrain(out, **changes)`: the arguments of a tiny pretraining."""
    from tests.helpers import flags

    def arguments(out: Path, **changes: Any) -> list[str]:
        paths = ["--data", str(corpus), "--tokenizer", str(tokenizer_directory), "--out", str(out)]
        return ["train", "pretrain", *paths, *flags(**changes)]

    return arguments


@pytest.fixture
def sft(chat_file: Path, base_model: Path) -> Callable[..., list[str]]:
    """`sft(out, **changes)`: the arguments of a tiny fine-tuning."""
    from tests.helpers import SETTINGS, flags

    model = {name: None for name in SETTINGS if name.startswith("model.")}

    def arguments(out: Path, **changes: Any) -> list[str]:
        paths = ["--data", str(chat_file), "--from", str(base_model), "--out", str(out)]
        return ["train", "sft", *paths, *flags(**model, **changes)]

    return arguments


@pytest.fixture
def dpo(pair_file: Path, base_model: Path) -> Callable[..., list[str]]:
    """`dpo(out, **changes)`: the arguments of a tiny preference optimization."""
    from tests.helpers import SETTINGS, flags

    model = {name: None for name in SETTINGS if name.startswith("model.")}
    batch = {"batch__seq_len": 128, "batch__tokens_per_step": 1024, "batch__micro_batch_tokens": 512}

    def arguments(out: Path, **changes: Any) -> list[str]:
        paths = ["--data", str(pair_file), "--from", str(base_model), "--out", str(out)]
        return ["train", "dpo", *paths, *flags(**model, **batch | {"optimizer__learning_rate": 0.005} | changes)]

    return arguments


@pytest.fixture
def reward(dpo: Callable[..., list[str]]) -> Callable[..., list[str]]:
    """`reward(out, **changes)`: the arguments of a tiny training of a reward model."""

    def arguments(out: Path, **changes: Any) -> list[str]:
        argv = dpo(out, **changes)
        return [argv[0], "reward", *argv[2:]]

    return arguments


@pytest.fixture
def grpo(base_model: Path) -> Callable[..., list[str]]:
    """`grpo(out, **changes)`: the arguments of a tiny reinforcement learning, in which a few answers come to an
    end, so that some groups have something to compare."""
    from tests.helpers import SETTINGS, flags

    model = {name: None for name in SETTINGS if name.startswith("model.")}
    batch = {"batch__seq_len": 128, "batch__tokens_per_step": 1024, "batch__micro_batch_tokens": 512}
    small = {"rl__prompts": 4, "rl__group_size": 6, "rl__max_tokens": 12, "rl__questions": 4}
    small |= {"optimizer__learning_rate": 0.005, "budget__steps": 6}

    def arguments(out: Path, **changes: Any) -> list[str]:
        paths = ["--from", str(base_model), "--out", str(out)]
        return ["train", "grpo", *paths, *flags(**model, **batch | small | changes)]

    return arguments


@pytest.fixture
def agent(grpo: Callable[..., list[str]], tmp_path: Path) -> Callable[..., list[str]]:
    """`agent(out, **changes)`: the arguments of a tiny reinforcement learning of several turns, in an environment
    that a model of random words can get something out of."""
    file = tmp_path / "talk.py"
    file.write_text(TALK, encoding="utf-8")

    def arguments(out: Path, **changes: Any) -> list[str]:
        small = {"rl__env": f"{file}:Talk", "rl__max_tokens": 8}
        words = grpo(out, **small | changes)
        return ["train", "agent", *words[2:]]

    return arguments


TALK = '''
from minimind.rl.types import Prompt, StepResult


class Talk:
    """Two to four turns; each short answer earns a little."""

    def __init__(self, rng):
        self.left = rng.randint(2, 4)
        self.words = [rng.choice(["the cat", "a dog", "山 水"]) for _ in range(self.left)]
        self.prompt = Prompt([self.ask()], ["a"], lambda text: float("a" in text))

    def ask(self):
        self.left -= 1
        return {"role": "user", "content": self.words[self.left]}

    def step(self, answer, text, stop_reason):
        parts = {"short": float(len(text) < 20)}
        return StepResult([self.ask()], False, parts) if self.left else StepResult(parts=parts)
'''


@pytest.fixture
def reason(thought_file: Path, base_model: Path) -> Callable[..., list[str]]:
    """`reason(out, **changes)`: the arguments of a tiny training on thinking."""
    from tests.helpers import SETTINGS, flags

    model = {name: None for name in SETTINGS if name.startswith("model.")}

    def arguments(out: Path, **changes: Any) -> list[str]:
        paths = ["--data", str(thought_file), "--from", str(base_model), "--out", str(out)]
        return ["train", "reason", *paths, *flags(**model, **changes)]

    return arguments


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory, base_model: Path) -> Path:
    """A model directory to learn from: wider than `base_model`, with the same tokenizer, random."""
    from tests.random_models import random_model

    from minimind.model import save_model
    from minimind.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(base_model)
    directory = tmp_path_factory.mktemp("teacher") / "model"
    save_model(random_model(vocab_size=tokenizer.vocab_size, hidden_size=48), directory, tokenizer)
    return directory


@pytest.fixture
def distill(chat_file: Path, base_model: Path, teacher: Path) -> Callable[..., list[str]]:
    """`distill(out, **changes)`: the arguments of a tiny distillation."""
    from tests.helpers import SETTINGS, flags

    model = {name: None for name in SETTINGS if name.startswith("model.")}

    def arguments(out: Path, **changes: Any) -> list[str]:
        paths = ["--data", str(chat_file), "--from", str(base_model), "--out", str(out)]
        return ["train", "distill", *paths, *flags(**model, **{"distill__teacher": teacher} | changes)]

    return arguments
