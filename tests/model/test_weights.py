"""Model directories: whole or not at all, and what is said of a bad one."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.random_models import random_model

from minimind.errors import UserError
from minimind.model import load_model, save_model
from minimind.model.hf import weights as io
from minimind.model.hf.weights import model_directory
from minimind.util import files


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("saved") / "model"
    save_model(random_model(tie_word_embeddings=False), directory)
    return directory


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


@pytest.mark.parametrize("tied", [True, False])
def test_what_is_saved_is_loaded(tmp_path: Path, tied: bool) -> None:
    wanted = random_model(tie_word_embeddings=tied)
    save_model(wanted, tmp_path / "deep" / "model")
    found = load_model(tmp_path / "deep" / "model")
    assert found.config == wanted.config
    assert found.state_dict().keys() == wanted.state_dict().keys()
    assert all(torch.equal(tensor, wanted.state_dict()[name]) for name, tensor in found.state_dict().items())
    assert not found.training


def test_a_tied_head_is_not_on_disk_but_may_be(tmp_path: Path) -> None:
    model = random_model()
    save_model(model, tmp_path / "model")
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    assert "lm_head.weight" not in tensors
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, tmp_path / "model" / "model.safetensors")
    load_model(tmp_path / "model")


def test_loading_in_half_precision(saved: Path) -> None:
    model = load_model(saved, dtype=torch.bfloat16)
    assert model.model.norm.weight.dtype == model.compute_dtype == torch.bfloat16
    assert model.frequencies.dtype == torch.float32


def change_tensors(directory: Path, **tensors: torch.Tensor | None) -> None:
    path = directory / "model.safetensors"
    changed = {**load_file(path), **{name.replace("__", "."): t for name, t in tensors.items()}}
    save_file({name: tensor for name, tensor in changed.items() if tensor is not None}, path)


@pytest.mark.parametrize(
    ("tensor", "sentence"),
    [
        (None, "tensor model.norm.weight is missing"),
        (torch.ones(33), r"tensor model.norm.weight has shape \(33,\), config.json says \(32,\)"),
    ],
)
def test_a_tensor_that_does_not_fit(model: Path, tensor: torch.Tensor | None, sentence: str) -> None:
    change_tensors(model, model__norm__weight=tensor)
    with pytest.raises(UserError, match=sentence):
        load_model(model)


def test_a_tensor_too_many(model: Path) -> None:
    change_tensors(model, model__norm__bias=torch.zeros(32))
    with pytest.raises(UserError, match=r"tensor model.norm.bias is not part of the model"):
        load_model(model)


def test_a_truncated_file(model: Path) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"model.safetensors is damaged .* copy it again"):
        load_model(model)


def test_no_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"has no model.safetensors"):
        load_model(model)


def test_no_directory_and_no_config(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere is no directory; give a model directory"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no model directory: it has no config.json"):
        load_model(tmp_path)


@pytest.mark.parametrize(("text", "sentence"), [("{", "is not valid JSON"), ("[]", "is no JSON object")])
def test_a_config_that_is_no_json_object(model: Path, text: str, sentence: str) -> None:
    (model / "config.json").write_text(text)
    with pytest.raises(UserError, match=sentence):
        load_model(model)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("model_type", "gpt2", "model_type 'gpt2' is not supported; known: qwen3, llama"),
        ("model_type", None, "model_type None is not supported"),
        ("hidden_act", "gelu", "hidden_act = 'gelu' is not supported"),
        ("attention_bias", True, "attention_bias = True is not supported"),
        ("mlp_bias", True, "mlp_bias = True is not supported"),
        ("use_sliding_window", True, "use_sliding_window = True is not supported"),
        ("rope_scaling", {"type": "longrope", "factor": 2}, "rope_scaling = .* is not supported"),
        ("rope_parameters", {"rope_type": "llama3", "rope_theta": 1e6}, "rope_scaling = .* is not supported"),
        ("hidden_size", "wide", "hidden_size must be a whole number from 1 to .*, not 'wide'"),
        ("num_key_value_heads", 3, "not a multiple"),
        ("num_key_value_heads", 0, "num_key_value_heads must be a whole number from 1"),
        ("head_dim", 15, "must be even"),
    ],
)
def test_a_config_that_is_not_supported(model: Path, key: str, value: Any, sentence: str) -> None:
    config = json.loads((model / "config.json").read_text())
    config.pop("rope_scaling" if key == "rope_parameters" else "", None)
    (model / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(UserError, match=sentence):
        load_model(model)


@pytest.mark.parametrize("killed_in", ["save_file", "write_json", "replace_directory"])
def test_a_save_that_is_killed_leaves_the_old_model(
    model: Path, monkeypatch: pytest.MonkeyPatch, killed_in: str
) -> None:
    before = {path.name: path.read_bytes() for path in model.iterdir()}

    def kill(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files if killed_in == "replace_directory" else io, killed_in, kill)
    with pytest.raises(KeyboardInterrupt):
        save_model(random_model(seed=2, tie_word_embeddings=False), model)
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before
    monkeypatch.undo()
    save_model(random_model(seed=2, tie_word_embeddings=False), model)
    assert (model / "model.safetensors").read_bytes() != before["model.safetensors"]
    assert [path.name for path in model.parent.iterdir()] == ["model"]


def test_a_run_directory_stands_for_its_model(tmp_path: Path, saved: Path) -> None:
    assert model_directory(saved) == saved
    with pytest.raises(UserError, match="holds no model"):
        model_directory(tmp_path)
    for place in ("checkpoints/step-0000010", "checkpoints/step-0000200", "best", "model"):
        shutil.copytree(saved, tmp_path / place)
        assert model_directory(tmp_path) == tmp_path / place
    with pytest.raises(UserError, match="is no directory"):
        model_directory(tmp_path / "nowhere")
