"""Files as other tools write them, and broken ones: read rightly, or refused in a sentence."""

from __future__ import annotations

import json
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.interop.published import FIXTURES
from tests.random_models import random_ids, random_model

from minimind import Model
from minimind.errors import UserError
from minimind.model import load_model, save_model
from minimind.model.hf.config import read_config

IDS = random_ids(2, 9)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("saved") / "model"
    save_model(random_model(tie_word_embeddings=False), directory)
    return directory


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def rewrite(directory: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    path = directory / "model.safetensors"
    tensors = load_file(path)
    save_file(change(tensors) or tensors, path)


def refused(directory: Path) -> str:
    """What both ways to load it say."""
    sentences = []
    for load in (load_model, Model.load):
        with pytest.raises(UserError) as error:
            load(directory)
        sentences.append(str(error.value))
    assert sentences[0] == sentences[1]
    return sentences[0]


# ------------------------------------------------------------------------------------------- names of wrappers


WRAPPED = {
    "DDP": "module.{}",
    "compiled": "_orig_mod.{}",
    "compiled DDP": "module._orig_mod.{}",
    "DDP compiled": "_orig_mod.module.{}",
    "FSDP": "_fsdp_wrapped_module.{}",
}


def inside(name: str) -> str:
    """As FSDP, activation checkpointing and torch.compile of every block name a parameter."""
    return name.replace("layers.0.", "layers.0._fsdp_wrapped_module._checkpoint_wrapped_module._orig_mod.")


@pytest.mark.parametrize("form", [*WRAPPED, "blocks"])
def test_the_names_of_wrapped_models(tmp_path: Path, form: str) -> None:
    for name in ("minimind2", "minimind-v1-moe"):
        folder = Path(shutil.copytree(FIXTURES / name, tmp_path / name))
        wanted = Model.load(folder, device="cpu").logits(IDS)
        tensors = torch.load(folder / "weights.pth", weights_only=True)
        wrapped = {WRAPPED[form].format(n) if form in WRAPPED else inside(n): t for n, t in tensors.items()}
        torch.save(wrapped, folder / "weights.pth")
        assert torch.equal(Model.load(folder, device="cpu").logits(IDS), wanted)


@pytest.mark.parametrize("form", [*WRAPPED, "blocks"])
def test_wrapped_names_in_a_model_directory(model: Path, form: str) -> None:
    wanted = Model.load(model, device="cpu").logits(IDS)
    rewrite(model, lambda ts: {WRAPPED[form].format(n) if form in WRAPPED else inside(n): t for n, t in ts.items()})
    assert torch.equal(Model.load(model, device="cpu").logits(IDS), wanted)
    assert torch.equal(
        load_model(model).state_dict()["lm_head.weight"],
        load_file(model / "model.safetensors")[
            WRAPPED[form].format("lm_head.weight") if form in WRAPPED else "lm_head.weight"
        ],
    )


def test_a_name_with_and_without_its_wrapper(model: Path) -> None:
    rewrite(model, lambda ts: ts | {"module.model.norm.weight": ts["model.norm.weight"].clone()})
    assert "norm.weight is also in another file or under another name" in refused(model)


@pytest.mark.parametrize("within", ["model", "state_dict", "model_state_dict", "module"])
def test_the_checkpoint_of_a_training(tmp_path: Path, within: str) -> None:
    folder = Path(shutil.copytree(FIXTURES / "minimind2", tmp_path / "published"))
    wanted = Model.load(folder, device="cpu").logits(IDS)
    tensors = torch.load(folder / "weights.pth", weights_only=True)
    optimizer = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []}
    torch.save({within: tensors, "optimizer": optimizer, "epoch": 1, "wandb_id": None}, folder / "weights.pth")
    assert torch.equal(Model.load(folder, device="cpu").logits(IDS), wanted)


# ---------------------------------------------------------------------------------------------------- adapters


@pytest.mark.parametrize("name", ["model.layers.{}.self_attn.q_proj.lora.{}.weight", "layers.{}.lora_{}"])
def test_a_lora_alone(tmp_path: Path, name: str) -> None:
    tensors = {name.format(layer, part): torch.ones(4, 4) for layer in range(2) for part in "AB"}
    torch.save(tensors, tmp_path / "lora.pth")
    with pytest.raises(UserError, match=r"lora.pth is a LoRA adapter alone .* not a model; name the directory"):
        Model.load(tmp_path / "lora.pth")


# ------------------------------------------------------------------------------------------ numbers and types


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_weights_that_are_not_finite(model: Path, value: float, dtype: torch.dtype) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = value
        return {name: tensor.to(dtype) for name, tensor in tensors.items()}

    rewrite(model, spoil)
    sentence = "the weights are not finite: tensor model.layers.1.mlp.up_proj.weight holds NaN or infinity"
    assert sentence in refused(model)


def test_numbers_beyond_fp32(model: Path) -> None:
    rewrite(
        model,
        lambda ts: (
            {name: t.double() for name, t in ts.items()}
            | {"model.norm.weight": torch.full((32,), 1e300, dtype=torch.float64)}
        ),
    )
    assert "not finite: tensor model.norm.weight" in refused(model)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "bool", "float8_e4m3fn", "float8_e5m2", "complex64"])
def test_a_type_that_is_not_supported(model: Path, dtype: str) -> None:
    rewrite(model, lambda ts: ts | {"model.norm.weight": torch.ones(32).to(getattr(torch, dtype))})
    assert f"tensor model.norm.weight is torch.{dtype}: quantized weights are not supported" in refused(model)


def test_a_head_that_is_said_to_be_tied_and_is_not(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    assert "config.json says tie_word_embeddings, and lm_head.weight is not the embedding" in refused(model)


# ------------------------------------------------------------------------------------------------------- parts


def cut(directory: Path) -> dict[str, Any]:
    """The model in two parts; what their index says."""
    tensors = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"one.safetensors": names[:9], "two.safetensors": names[9:]}
    for file, held in parts.items():
        save_file({name: tensors[name] for name in held}, directory / file)
    index = {"metadata": {}, "weight_map": {name: file for file, held in parts.items() for name in held}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return index


def test_parts_of_any_name_and_links(model: Path, tmp_path: Path) -> None:
    """As in the cache of the hub, where each file is a link."""
    wanted = Model.load(model, device="cpu").logits(IDS)
    cut(model)
    (tmp_path / "snapshot").mkdir()
    for path in model.iterdir():
        (tmp_path / "snapshot" / path.name).symlink_to(path)
    for directory in (model, tmp_path / "snapshot"):
        assert torch.equal(Model.load(directory, device="cpu").logits(IDS), wanted)


@pytest.mark.parametrize(
    "name", ["../two.safetensors", "/etc/passwd", "a/two.safetensors", "..", ".", "", "a\0b", "x" * 300]
)
def test_an_index_that_leads_elsewhere(model: Path, name: str) -> None:
    index = cut(model)
    shutil.copy(model / "two.safetensors", model.parent)
    index["weight_map"] = {
        key: name if file == "two.safetensors" else file for key, file in index["weight_map"].items()
    }
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    sentence = refused(model)
    assert "which is no file beside it" in sentence or "lacks" in sentence


@pytest.mark.parametrize(
    "content",
    [{}, {"weight_map": {}}, {"weight_map": []}, {"weight_map": {"a": 5}}, {"weight_map": {"a": None, "b": "x"}}],
)
def test_an_index_of_nothing(model: Path, content: Any) -> None:
    cut(model)
    (model / "model.safetensors.index.json").write_text(json.dumps(content))
    assert "index.json is no index of the parts of a model" in refused(model)


def test_a_tensor_in_two_parts(model: Path) -> None:
    cut(model)
    two = load_file(model / "two.safetensors")
    save_file(two | {"lm_head.weight": torch.zeros(97, 32)}, model / "two.safetensors")
    assert "two.safetensors: tensor lm_head.weight is also in another file" in refused(model)


# -------------------------------------------------------------------------------------------- headers that lie


def header(content: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def one(**changes: Any) -> dict[str, Any]:
    return {"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16], **changes}}


@pytest.mark.parametrize("content", [
    b"", b"\0" * 8, header(one(), length=2**63), header(one(), length=2**40), header(one()),
    header(one(shape=[2**62, 2**62]), b"\0" * 16), header(one(shape=[-1, 2]), b"\0" * 16),
    header(one(shape=[10**9, 10**9], data_offsets=[0, 4 * 10**18]), b"\0" * 16),
    header(one(data_offsets=[16, 0]), b"\0" * 16), header(one(data_offsets=[0, 2**63]), b"\0" * 16),
    header(one() | {"b": one()["a"]}, b"\0" * 16), header(one(dtype="F7"), b"\0" * 16),
    header(b'{"a": ' * 20_000, b"\0" * 16), header(b"[]"), header(b"{}"), header(one(), b"\0" * 99),
    header(one(dtype=None), b"\0" * 16), header({"a": 5}), header({"__metadata__": {"a": 5}} | one(), b"\0" * 16),
    header({"a": {"dtype": "F32", "shape": [0, 2**62], "data_offsets": [0, 0]}}),
    header({"a": {"dtype": "F4", "shape": [2, 16], "data_offsets": [0, 16]}}, b"\0" * 16),
    header({"a": {"dtype": "F8_E8M0", "shape": [4, 4], "data_offsets": [0, 16]}}, b"\0" * 16),
])  # fmt: skip
def test_a_header_that_lies(model: Path, content: bytes) -> None:
    (model / "model.safetensors").write_bytes(content)
    for load in (read_config, load_model, Model.load):
        with pytest.raises(UserError):
            load(model)


# --------------------------------------------------------------------------------------------------- pth files


def deflated(path: Path) -> None:
    content = path.read_bytes()
    with zipfile.ZipFile(path.with_suffix(".old"), "w", zipfile.ZIP_DEFLATED) as new, zipfile.ZipFile(path) as old:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert content != path.with_suffix(".old").read_bytes()
    path.with_suffix(".old").rename(path)


def test_a_compressed_archive(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2000, 2000)}, tmp_path / "weights.pth")
    deflated(tmp_path / "weights.pth")
    assert (tmp_path / "weights.pth").stat().st_size < 100_000
    with pytest.raises(UserError, match=r"weights.pth is compressed, which torch.save never does: it is refused"):
        Model.load(tmp_path / "weights.pth")


@pytest.mark.parametrize("tensor", [
    torch.ones(1, 1).expand(10**6, 10**6), torch.ones(2, 2, device="meta"), torch.ones(2, 2).to_sparse(),
    torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 0, torch.qint8), torch.ones(2, 2, dtype=torch.complex64),
    torch.full((2, 2), float("nan")), torch.ones(2, 2).long(),
], ids=["expanded", "meta", "sparse", "quantized", "complex", "nan", "long"])  # fmt: skip
def test_a_tensor_without_its_numbers(tmp_path: Path, tensor: torch.Tensor) -> None:
    folder = Path(shutil.copytree(FIXTURES / "minimind2", tmp_path / "published"))
    tensors = torch.load(folder / "weights.pth", weights_only=True)
    torch.save(tensors | {"model.embed_tokens.weight": tensor}, folder / "weights.pth")
    with pytest.raises(
        UserError, match=r"published.*(tensor model.embed_tokens.weight|holds (code|something else))"
    ):
        Model.load(folder)


def test_parameters_and_transposed_tensors_are_read(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FIXTURES / "minimind2", tmp_path / "published"))
    wanted = Model.load(folder, device="cpu").logits(IDS)
    tensors = torch.load(folder / "weights.pth", weights_only=True)
    odd = {
        name: torch.nn.Parameter(t.float().t().contiguous().t() if t.dim() == 2 else t)
        for name, t in tensors.items()
    }
    torch.save(odd, folder / "weights.pth")
    assert torch.equal(Model.load(folder, device="cpu").logits(IDS), wanted)
