"""What a `config.json` says is true of the weights, or refused in a sentence before anything is allocated."""

from __future__ import annotations

import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from tests.interop.published import FIXTURES
from tests.random_models import random_model

from minimind import Model
from minimind.errors import UserError
from minimind.model import load_model, save_model
from minimind.model.hf.config import read_config

SIZES = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"]
SIZES += ["num_key_value_heads", "head_dim"]
EXPERTS = ["num_experts", "num_experts_per_tok", "moe_intermediate_size"]
HUGE = [10**6, 10**9, 2**31, 2**63, 10**300, 1e300]
ODD = [-1, 0, 1.5, "8", "wide", [], {}, [1], True, {"a": {"b": 1}}]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("saved")
    save_model(random_model(), place / "dense")
    save_model(random_model(model_type="qwen3_moe"), place / "experts")
    return {path.name: path for path in place.iterdir()}


def spoiled(source: Path, directory: Path, text: str) -> Path:
    """A directory of the same weights and another config."""
    directory.mkdir()
    for path in source.iterdir():
        (directory / path.name).hardlink_to(path)
    (directory / "config.json").unlink()
    (directory / "config.json").write_text(text)
    return directory


def refused(directory: Path) -> str:
    """What every way to the model says, within a second and a few megabytes."""
    sentences = set()
    for read in (read_config, load_model, Model.load):
        start = time.process_time()
        tracemalloc.start()
        with pytest.raises(UserError) as error:
            read(directory)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert time.process_time() - start < 2
        assert peak < 20e6
        sentences.add(str(error.value))
    assert len({sentence.replace("minimind, ", "") for sentence in sentences}) == 1, sentences
    return sentences.pop()


def change(source: Path, directory: Path, **values: Any) -> Path:
    return spoiled(source, directory, json.dumps(json.loads((source / "config.json").read_text()) | values))


@pytest.mark.parametrize("value", [*HUGE, *ODD], ids=str)
@pytest.mark.parametrize("key", [*SIZES, *EXPERTS])
def test_a_size(saved: dict[str, Path], tmp_path: Path, key: str, value: Any) -> None:
    source = saved["experts" if key in EXPERTS else "dense"]
    sentence = refused(change(source, tmp_path / "model", **{key: value}))
    assert "config.json" in sentence
    assert key in sentence
    assert len(sentence) < 600 + 2 * len(str(value))


OTHERS = {
    "rms_norm_eps": ["small", [], -1, {}],
    "rope_theta": ["wide", [], -1, 0, {}],
    "tie_word_embeddings": [1, "true", []],
    "max_position_embeddings": ["many", [1], 0, -5, 1.5],
    "rope_scaling": [1.5, [1], "yarn", True, {"rope_type": [1], "factor": 2}, {"rope_type": "yarn", "factor": "2"}],
    "rope_parameters": [[1], 1.5, "default", {"full_attention": {"rope_theta": 1e4}}, {"rope_type": {}}],
    "layer_types": [["sliding_attention", "full_attention"], 5, "x"],
    "quantization_config": [{"quant_method": "fp8"}, 8],
    "partial_rotary_factor": [0.5, None],
    "model_type": [[], {}, 5, None, "x" * 10**6],
    "hidden_act": [None, [], 10**300],
}


@pytest.mark.parametrize(
    ("key", "value"),
    [(key, value) for key, values in OTHERS.items() for value in values],
    ids=lambda v: str(v)[:40],
)
def test_another_setting(saved: dict[str, Path], tmp_path: Path, key: str, value: Any) -> None:
    values = {"rope_scaling": None, key: value}
    sentence = refused(change(saved["dense"], tmp_path / "model", **values))
    assert "config.json" in sentence
    assert key in sentence or (key == "rope_parameters" and "rope_scaling" in sentence)
    assert len(sentence) < 600


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[" * 20_000, "nested deeper than"),
        ('{"a": ' * 20_000, "nested deeper than"),
        ('{"hidden_size": 32, "hidden_size": 64}', "the key 'hidden_size' stands twice"),
        ('{"hidden_size": NaN}', "NaN is no JSON"),
        ("null", "is no JSON object"),
        ("", "is not valid JSON"),
        ('{"hidden_size": ' + "9" * 5000 + "}", "is not valid JSON"),
        ("\0" * 100, "is not valid JSON"),
        ('{"model_type": ' + "[" * 300 + "]" * 300 + "}", "model_type"),
    ],
    ids=str.split,
)
def test_a_text(saved: dict[str, Path], tmp_path: Path, text: str, sentence: str) -> None:
    found = refused(spoiled(saved["dense"], tmp_path / "model", text))
    assert "config.json" in found
    assert sentence in found


@pytest.mark.parametrize("value", [*HUGE, *ODD], ids=str)
@pytest.mark.parametrize("key", [*SIZES, "n_layers"])
def test_a_config_beside_published_weights(tmp_path: Path, key: str, value: Any) -> None:
    (tmp_path / "published").mkdir()
    folder = tmp_path / "published"
    (folder / "weights.pth").hardlink_to(FIXTURES / "minimind2" / "weights.pth")
    (folder / "config.json").write_text(json.dumps({"n_heads": 4, "num_key_value_heads": 2} | {key: value}))
    start = time.process_time()
    with pytest.raises(UserError) as error:
        Model.load(folder, device="cpu")
    assert time.process_time() - start < 2
    sentence = str(error.value)
    assert "config.json" in sentence
    assert key in sentence or (key == "n_layers" and "num_hidden_layers" in sentence)
