"""The public MiniMind's LoRA files become adapters."""

import json
import re
from pathlib import Path

import pytest
import torch
from tests.random_models import random_ids, random_model

from minimind.cli import main
from minimind.interop.rotary_pairs import halves, neighbors
from minimind.interop.upstream import early_name
from minimind.model import Transformer, load_model, save_model
from minimind.model.hf.weights import model_directory

RANK = 3


def square_matrices(model: Transformer) -> list[str]:
    linears = [(name, m) for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
    return [name for name, m in linears if m.in_features == m.out_features]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    save_model(random_model(hidden_size=64), tmp_path / "base")
    return tmp_path / "base"


def random_lora(names: list[str], size: int = 64) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"A": (RANK, size), "B": (size, RANK)}
    draw = lambda side: torch.randn(shapes[side], generator=generator) * 0.2  # noqa: E731
    return {f"{name}.lora.{side}.weight": draw(side) for name in names for side in shapes}


@pytest.mark.parametrize("version", ["minimind-3", "minimind2-legacy"])
def test_a_lora_file_becomes_an_adapter(
    tmp_path: Path, base: Path, version: str, capsys: pytest.CaptureFixture
) -> None:
    """W + B · A in the file's own layout, turned into ours: to the last bits what the adapter computes."""
    early, wanted = version == "minimind2-legacy", load_model(base)
    squares = square_matrices(wanted)
    assert {name.rpartition(".")[2] for name in squares} == {"q_proj", "o_proj"}
    lora = random_lora([early_name(name) if early else name for name in squares])
    torch.save({f"module.{name}": tensor.half() for name, tensor in lora.items()}, tmp_path / "lora.pth")
    for name in squares:
        theirs = early_name(name) if early else name
        a, b = (lora[f"{theirs}.lora.{side}.weight"].half().float() for side in "AB")
        weight = wanted.get_submodule(name).weight.data
        paired = early and name.endswith("q_proj")
        in_their_layout = (neighbors(weight, 16) if paired else weight) + b @ a
        weight.copy_(halves(in_their_layout, 16) if paired else in_their_layout)
    command = ["import", str(tmp_path / "lora.pth"), "--to", str(tmp_path / "adapter"), "--base", str(base)]
    assert main(command) == 0
    assert f"an adapter of {base}" in capsys.readouterr().out
    tokens = random_ids(2, 20)
    adapted = load_model(model_directory(tmp_path / "adapter"))
    found, expected = (model.logits(model(tokens)).detach() for model in (adapted, wanted))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    settings = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"], settings["target_modules"]) == (RANK, RANK, ["o_proj", "q_proj"])


Q = "model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        (
            random_lora([Q.replace("0", "7")]),
            "layers.7.self_attn.q_proj is no matrix of .*base to adapt",
        ),
        (random_lora([Q], size=32), r"A \(3, 32\) and B \(32, 3\) of .*q_proj do not fit its matrix \(64, 64\)"),
        ({f"{Q}.lora.A.weight": torch.ones(3, 64)}, "q_proj has no B; copy the file again"),
        (
            {f"{Q}.weight": torch.ones(64, 64)},
            r"is no LoRA file of the public MiniMind: it has .*q_proj",
        ),
        ({**random_lora([Q]), f"{Q}.lora.A.weight": torch.full((3, 64), torch.nan)}, "the weights are not finite"),
        ({}, "lora.pth"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, base: Path, tensors: dict[str, torch.Tensor], sentence: str, capsys: pytest.CaptureFixture
) -> None:
    torch.save(tensors, tmp_path / "lora.pth")
    command = ["import", str(tmp_path / "lora.pth"), "--to", str(tmp_path / "adapter"), "--base", str(base)]
    assert main(command) == 2
    assert re.search(f"^error: .*{sentence}", capsys.readouterr().err)
    assert not (tmp_path / "adapter").exists()
