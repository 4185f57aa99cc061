"""What `minimind import` refuses: one sentence, exit code 2, and nothing written."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.interop.published import FIXTURES, WRITTEN, published_model, save, state_dict

from minimind import Model
from minimind.cli import main
from minimind.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Published weights with a config.json beside them, to be spoiled."""
    return Path(shutil.copytree(FIXTURES / "minimind2", tmp_path / "published"))


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    return state_dict(published_model("minimind2"), "minimind2")


def refused(capsys: pytest.CaptureFixture[str], weights: Path, *options: object) -> str:
    """The one sentence; without options Model.load says the same."""
    to = weights.parent / "to"
    assert main(["import", str(weights), "--to", str(to), *map(str, options)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert [path.name for path in weights.parent.iterdir() if path.name.startswith("to")] == []
    sentence = printed.err.removeprefix("error: ").rstrip("\n")
    if not options:
        with pytest.raises(UserError) as error:
            Model.load(weights, device="cpu")
        assert str(error.value) == sentence
    return sentence


# -------------------------------------------------------------------------------------------- damaged files


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_truncated_pth(folder: Path, capsys: pytest.CaptureFixture[str], kept: float) -> None:
    path = folder / "weights.pth"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    assert "weights.pth is damaged" in refused(capsys, path)


def test_a_pth_of_before_the_archives(tmp_path: Path, capsys: pytest.CaptureFixture[str], tensors: Any) -> None:
    path = tmp_path / "weights.pth"
    torch.save(tensors, path, _use_new_zipfile_serialization=False)
    assert main(["import", str(path), "--to", str(tmp_path / "to")]) == 0
    shutil.rmtree(tmp_path / "to")
    capsys.readouterr()
    path.write_bytes(path.read_bytes()[:-1000])
    assert "is damaged" in refused(capsys, path)


@pytest.mark.parametrize("change", ["header", "end", "empty"])
def test_a_corrupt_safetensors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tensors: Any, change: str
) -> None:
    path = tmp_path / "published" / "model.safetensors"
    path.parent.mkdir()
    (path.parent / "config.json").write_text(json.dumps({**WRITTEN, "use_moe": False}))
    save_file(tensors, path)
    content = path.read_bytes()
    path.write_bytes({"header": b"\xff" * 64 + content[64:], "end": content[:-100], "empty": b""}[change])
    assert "model.safetensors is damaged" in refused(capsys, path.parent)


class Harmful:
    """Unpickled, it leaves a directory behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("form", ["archive", "before the archives", "plain pickle"])
def test_code_in_a_pickle_is_refused_and_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tensors: Any, form: str
) -> None:
    trace, path = tmp_path / "it-was-run", tmp_path / "weights.pth"
    content = {**tensors, "more": Harmful(trace)}
    if form == "plain pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "archive")
    found = "something else than tensors" if form == "plain pickle" else "code (posix.mkdir) and not only tensors"
    sentence = refused(capsys, path)
    assert f"weights.pth holds {found}" in sentence
    assert sentence.endswith("it is refused, and nothing in it was run")
    assert not trace.exists()
    torch.load(path, weights_only=False) if form != "plain pickle" else pickle.loads(path.read_bytes())
    assert trace.exists(), "the test's own code does nothing"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([1, 2], "it holds a list, not tensors by name"),
        ({"optimizer": {}, "step": 3}, "its entry 'optimizer' is a dict"),
        ({"model": {"optimizer": {}}}, "its entry 'optimizer' is a dict"),
        ({3: torch.ones(2)}, "its entry 3 is a Tensor"),
        ({}, "holds no known architecture (its tensors: none at all"),
    ],
)
def test_a_pth_of_something_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: Any, sentence: str
) -> None:
    torch.save(content, tmp_path / "weights.pth")
    assert sentence in refused(capsys, tmp_path / "weights.pth")


def test_a_text_is_no_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "weights.pth").write_text("404 not found")
    assert "holds something else than tensors, or is damaged" in refused(capsys, tmp_path / "weights.pth")


@pytest.mark.parametrize("name", ["weights.pth", "model.safetensors", "pytorch_model.bin"])
def test_a_pointer_of_git_lfs(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (folder / "weights.pth").unlink()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 217830400\n"
    (folder / name).write_text(pointer)
    assert f"{name} is only a pointer of Git LFS; fetch the file itself with `git lfs pull`" in refused(
        capsys, folder
    )


# ------------------------------------------------------------------------------------------ tensors that do not fit


@pytest.mark.parametrize("name", ["minimind2-moe", "minimind3-moe", "minimind-v1-moe", "minimind2-legacy"])
def test_every_tensor_must_be_there(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    folder = Path(shutil.copytree(FIXTURES / name, tmp_path / "published"))
    tensors = torch.load(folder / "weights.pth", weights_only=True)
    heads = ("lm_head.weight", "output.weight")  # a copy of the embedding, which may be left out
    chosen = [tensor for tensor in list(tensors) if tensor not in heads][::7]
    for missing in chosen:
        torch.save({n: t for n, t in tensors.items() if n != missing}, folder / "weights.pth")
        assert f"tensor {missing} of a " in refused(capsys, folder)
    for odd in chosen:
        torch.save(tensors | {odd: tensors[odd][:-1]}, folder / "weights.pth")
        assert f"tensor {odd} has shape " in refused(capsys, folder)
    for surplus in ("model.layers.0.self_attn.q_proj.bias", "layers.7.ffn_norm.weight", "extra"):
        torch.save(tensors | {surplus: torch.ones(64)}, folder / "weights.pth")
        assert surplus in refused(capsys, folder) or "layers.2." in refused(capsys, folder)


def test_a_head_that_should_repeat_the_embedding(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "config.json").write_text(json.dumps({"num_attention_heads": 4, "tie_word_embeddings": True}))
    tensors = torch.load(folder / "weights.pth", weights_only=True)
    torch.save(tensors | {"lm_head.weight": tensors["lm_head.weight"] + 1}, folder / "weights.pth")
    sentence = "says tie_word_embeddings, but lm_head.weight and model.embed_tokens.weight are not the same"
    assert sentence in refused(capsys, folder)


def test_quantized_tensors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = torch.load(folder / "weights.pth", weights_only=True)
    torch.save(tensors | {"lm_head.weight": torch.ones(160, 64, dtype=torch.int8)}, folder / "weights.pth")
    assert "tensor lm_head.weight is torch.int8: quantized weights are not supported" in refused(capsys, folder)


def test_unknown_tensors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = {"transformer.h.0.attn.c_attn.weight": torch.ones(4, 4), "transformer.wte.weight": torch.ones(4, 4)}
    sentence = refused(capsys, save(tensors, tmp_path / "weights.pth"))
    assert "no known architecture (its tensors: transformer.h.0.attn.c_attn.weight" in sentence
    assert "minimind-v1, minimind2-legacy, minimind2, minimind-3" in sentence
    assert "qwen3, llama" in sentence


def test_a_version_that_does_not_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = published_model("minimind-v1", num_key_value_heads=16)
    path = save(state_dict(model, "minimind-v1"), tmp_path / "weights.pth")
    assert "give --version minimind-v1 or minimind2-legacy" in refused(capsys, path)


@pytest.mark.parametrize("version", ["minimind-v1", "minimind-3"])
def test_another_version_than_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tensors: Any, version: str
) -> None:
    path = save(tensors, tmp_path / "weights.pth")
    sentence = refused(capsys, path, "--version", version)
    assert f"of a {version} model with these settings is missing" in sentence


# ------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ("{", "config.json is not valid JSON"),
        ([], "config.json is no JSON object"),
        ({"n_headz": 4}, "unknown setting 'n_headz'; did you mean n_heads?"),
        ({"generation": "minimind2", "n_headz": 4}, "unknown setting 'n_headz'"),
        ({"arguments": {"n_heads": 4}, "n_headz": 4}, "unknown setting 'n_headz'"),
        ({"arguments": 4}, "arguments must be a JSON object, not 4"),
        ({"generation": "minimind-9"}, "version 'minimind-9' is unknown; there are minimind-v1"),
        (
            {"n_heads": 4, "num_attention_heads": 8},
            "n_heads = 4 and num_attention_heads = 8 contradict each other",
        ),
        (
            {"num_attention_heads": "many"},
            "num_attention_heads must be a whole number from 1 to 1,048,576, not 'many'",
        ),
        ({"num_attention_heads": 5}, "model.hidden_size 64 is not a multiple of model.num_attention_heads 5"),
        ({"num_attention_heads": 0}, "num_attention_heads must be a whole number from 1 to 1,048,576, not 0"),
        ({"num_attention_heads": 8}, "tensor model.layers.0.self_attn.k_proj.weight has shape (32, 64)"),
        ({"hidden_size": 128}, "tensor model.embed_tokens.weight has shape (160, 64)"),
        ({"num_hidden_layers": 3}, "tensor model.layers.2.input_layernorm.weight of a minimind2 model"),
        (
            {"num_hidden_layers": 1},
            "tensor model.layers.1.self_attn.q_proj.weight is not part of a minimind2 model",
        ),
        ({"vocab_size": 99}, "tensor model.embed_tokens.weight has shape (160, 64)"),
        ({"use_moe": True}, "tensor model.layers.0.mlp.gate.weight of a minimind2 model"),
        ({"use_moe": "yes"}, "use_moe must be true or false, not 'yes'"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu' is not supported, only 'silu'"),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, "rope_scaling of type 'linear' is not supported"),
        ({"rope_scaling": 4}, "rope_scaling must be a JSON object, not 4"),
        ({"rope_scaling": {"type": "yarn", "factor": 4}}, "rope_scaling without attention_factor"),
        ({"rope_scaling": {"type": "yarn", "mscale": 4}}, "rope_scaling.mscale is not supported"),
        ({"model_type": "gpt2"}, "model_type 'gpt2' is not supported; known: minimind, qwen3, llama"),
        ({"model_type": "llama"}, "config.json: vocab_size"),
    ],
)
def test_a_config_that_does_not_fit(
    folder: Path, capsys: pytest.CaptureFixture[str], settings: Any, sentence: str
) -> None:
    content = settings if isinstance(settings, str) else json.dumps(settings)
    (folder / "config.json").write_text(content)
    assert sentence in refused(capsys, folder)
    assert sentence in refused(capsys, folder / "weights.pth", "--config", folder / "config.json")


def test_experts_that_this_version_does_not_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = state_dict(published_model("minimind2", moe=True), "minimind2")
    tensors = {name: tensor for name, tensor in tensors.items() if "shared" not in name}
    sentence = refused(capsys, save(tensors, tmp_path / "weights.pth"))
    assert "minimind2 with experts, none of them shared, is not supported" in sentence


# ------------------------------------------------------------------------------------------ paths and options


def test_paths_that_do_not_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nothing.pth does not exist" in refused(capsys, tmp_path / "nothing.pth")
    (tmp_path / "empty").mkdir()
    assert "empty holds no" in refused(capsys, tmp_path / "empty")
    weights = FIXTURES / "minimind2" / "weights.pth"
    path = Path(shutil.copy(weights, tmp_path))
    assert "nothing.json does not exist" in refused(capsys, path, "--config", tmp_path / "nothing.json")
    assert "tokenizer.json does not exist" in refused(
        capsys, path, "--tokenizer", tmp_path, "--config", FIXTURES / "minimind2" / "config.json"
    )
    (tmp_path / "empty" / "config.json").write_text("{}")
    assert "empty holds no weights: no model.safetensors" in refused(capsys, tmp_path / "empty")


def test_an_unknown_version(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "version 'minimind9' is unknown; there are" in refused(capsys, folder, "--version", "minimind9")
    sentence = refused(capsys, folder, "--version", "minimind-3")
    assert "config.json is of version minimind2, not minimind-3; leave --version out" in sentence


def test_several_pth_in_a_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(folder / "weights.pth", folder / "rlhf.pth")
    assert f"{folder} holds 2 .pth files; name one of them, for example {folder}/rlhf.pth" in refused(
        capsys, folder
    )


def test_a_tensor_in_two_files(tmp_path: Path, capsys: pytest.CaptureFixture[str], tensors: Any) -> None:
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**WRITTEN, "use_moe": False}))
    for number in (1, 2):
        save_file(tensors, folder / f"model-{number:05}-of-00002.safetensors")
    assert "model-00002-of-00002.safetensors: tensor lm_head.weight is also in another" in refused(capsys, folder)


def test_safetensors_without_a_config(tmp_path: Path, capsys: pytest.CaptureFixture[str], tensors: Any) -> None:
    folder = tmp_path / "published"
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    assert "has no config.json; give one as --config, or a --version" in refused(capsys, folder)
    assert main(["import", str(folder), "--to", str(tmp_path / "to"), "--version", "minimind2"]) == 0


def test_a_target_that_is_not_empty(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = tmp_path / "there"
    there.mkdir()
    assert main(["import", str(folder), "--to", str(there)]) == 0
    before = {path.name: path.read_bytes() for path in there.iterdir()}
    capsys.readouterr()
    for target in (there, there / "config.json"):
        assert main(["import", str(folder), "--to", str(target)]) == 2
        printed = capsys.readouterr().err
        assert printed == f"error: {target} already exists; choose another --to, or remove it first\n"
    assert {path.name: path.read_bytes() for path in there.iterdir()} == before


def test_a_tokenizer_larger_than_the_model(
    folder: Path, capsys: pytest.CaptureFixture[str], tokenizer_directory: Path
) -> None:
    sentence = refused(capsys, folder, "--tokenizer", tokenizer_directory)
    assert "ids and the model only 160; give the one that it was trained with" in sentence
    shutil.copytree(tokenizer_directory, folder, dirs_exist_ok=True)
    assert "ids and the model only 160" in refused(capsys, folder)


def test_a_model_without_a_tokenizer_says_so() -> None:
    with pytest.raises(UserError, match=r"has no tokenizer.json; copy the model's tokenizer there"):
        Model.load(FIXTURES / "minimind2", device="cpu").predict("the")
