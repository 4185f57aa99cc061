"""`minimind merge`: model directories in, a model directory out, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tests.helpers import weights
from tests.parity.test_moe import EXPERTS
from tests.random_models import random_ids, random_model
from transformers import AutoModelForCausalLM

from minimind import Model
from minimind.cli import main
from minimind.model import load_model, save_model
from minimind.model.hf.adapter import TENSORS
from minimind.model.hf.weights import add_adapter
from minimind.model.lora import LoraOptions
from minimind.tokenizer import Tokenizer
from minimind.tokenizer.train import train

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "tie_word_embeddings": False},
    "qwen2_moe": {"model_type": "qwen2_moe", **EXPERTS, "head_dim": None},
    "glm4_moe": {"model_type": "glm4_moe", **EXPERTS},
}


def merge(*words: Any) -> int:
    return main(["merge", *map(str, words)])


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, tokenizer_directory: Path) -> tuple[Path, Path, Path]:
    """Three models of one shape, the last as a run directory whose model has no tokenizer."""
    home = tmp_path_factory.mktemp("three")
    tokenizer = Tokenizer.load(tokenizer_directory)
    for number, directory in enumerate(("a", "b", "base/model")):
        model = random_model(seed=number, vocab_size=tokenizer.vocab_size)
        save_model(model, home / directory, tokenizer if number < 2 else None)
    return home / "a", home / "b", home / "base"


def doubles(directory: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.double() for name, tensor in weights(directory).items()}


def assert_weights(out: Path, wanted: dict[str, torch.Tensor]) -> None:
    found = doubles(out)
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=2e-6, atol=2e-6, msg=name)


def test_linear(three: tuple[Path, Path, Path], tmp_path: Path, capsys: Any) -> None:
    a, b, base = three
    assert merge(a, b, base, "--weights", 1, 2, 5, "--out", tmp_path / "out") == 0
    count = f"{sum(tensor.numel() for tensor in weights(a).values()):,}"
    assert capsys.readouterr().out == f"{tmp_path}/out: linear of 3 models, {count} parameters\n"
    A, B, C = doubles(a), doubles(b), doubles(base / "model")
    assert_weights(tmp_path / "out", {name: (A[name] + 2 * B[name] + 5 * C[name]) / 8 for name in A})
    assert main(["models", "verify", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out/tokenizer.json").read_bytes() == (a / "tokenizer.json").read_bytes()
    record = json.loads((tmp_path / "out/merge.json").read_text())
    assert (record["method"], record["weights"]) == ("linear", [1, 2, 5])
    assert [one["path"] for one in record["models"]] == [str(a), str(b), str(base / "model")]
    assert record["models"][0]["sha256"]["model.safetensors"] in (a / "SHA256SUMS").read_text()


def test_slerp_over_flattened_tensors(three: tuple[Path, Path, Path], tmp_path: Path) -> None:
    a, b, _ = three
    assert merge(a, b, "--method", "slerp", "--t", 0.3, "--out", tmp_path / "out") == 0
    A, B, wanted = doubles(a), doubles(b), {}
    for name, x in A.items():
        cosine = torch.dot(x.flatten() / x.norm(), B[name].flatten() / B[name].norm())
        angle = torch.acos(cosine)
        assert cosine < 0.9995, "these are as far apart as the formula needs"
        wanted[name] = (torch.sin(0.7 * angle) * x + torch.sin(0.3 * angle) * B[name]) / torch.sin(angle)
    assert_weights(tmp_path / "out", wanted)


@pytest.mark.parametrize("method", ["task", "ties", "dare"])
def test_what_one_model_learned_leads_to_it(three: tuple[Path, Path, Path], tmp_path: Path, method: str) -> None:
    """With a factor of 1 and nothing left out, base + (A − base) is A; `task` takes one model alone."""
    a, _, base = three
    more = ["--density", 1] if method != "task" else []
    models = [a] if method == "task" else [a, base]
    assert merge(*models, "--base", base, "--method", method, *more, "--out", tmp_path / "out") == 0
    assert_weights(tmp_path / "out", doubles(a))


def test_task_vectors(three: tuple[Path, Path, Path], tmp_path: Path) -> None:
    a, b, base = three
    words = (a, b, "--method", "task", "--base", base, "--weights", 0.7, -0.2)
    assert merge(*words, "--out", tmp_path / "out") == 0
    A, B, C = doubles(a), doubles(b), doubles(base / "model")
    assert_weights(tmp_path / "out", {n: C[n] + 0.7 * (A[n] - C[n]) - 0.2 * (B[n] - C[n]) for n in A})
    record = json.loads((tmp_path / "out/merge.json").read_text())
    assert record["base"]["path"] == str(base / "model")


def test_dare_is_drawn_by_its_seed(three: tuple[Path, Path, Path], tmp_path: Path) -> None:
    a, b, base = three
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        assert merge(a, b, "--base", base, "--method", "dare", "--seed", seed, "--out", tmp_path / name) == 0
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "same", "other")]
    assert files[0] == files[1] != files[2]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_merged_with_itself_is_itself(family: str, tmp_path: Path) -> None:
    model = random_model(**FAMILIES[family])
    save_model(model, tmp_path / "a")
    for method, more in (("linear", []), ("slerp", []), ("ties", ["--base", tmp_path / "a"])):
        out = tmp_path / method
        assert merge(tmp_path / "a", tmp_path / "a", "--method", method, *more, "--out", out) == 0
        assert_weights(out, doubles(tmp_path / "a"))
    ids = random_ids(2, 9)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "linear")
    torch.testing.assert_close(theirs(ids).logits, model.logits(model(ids)), rtol=1e-4, atol=1e-4)


def test_parts_half_precision_and_a_tied_copy_are_read(three: tuple[Path, Path, Path], tmp_path: Path) -> None:
    a, b, _ = three
    halves = ["--dtype", "bf16", "--shard-size", "30KB"]
    assert main(["export", "hf", str(b), "--out", str(tmp_path / "b"), *halves]) == 0
    shutil.copytree(a, tmp_path / "a")
    tensors = load_file(a / "model.safetensors")
    save_file(
        {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()},
        tmp_path / "a/model.safetensors",
    )
    assert merge(tmp_path / "a", tmp_path / "b", "--out", tmp_path / "out") == 0
    A, B = doubles(a), doubles(b)
    assert_weights(tmp_path / "out", {n: (A[n] + B[n].bfloat16().double()) / 2 for n in A})


def save_adapter(base: Path, directory: Path, seed: int, **options: Any) -> Path:
    model = load_model(base)
    add_adapter(model, LoraOptions(**options), seed=seed, base=base)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data += 0.1 * parameter.requires_grad * torch.randn(parameter.shape, generator=generator)
    save_model(model, directory, Tokenizer.load(base))
    return directory


def test_adapters_of_one_base_become_one(three: tuple[Path, Path, Path], tmp_path: Path, capsys: Any) -> None:
    """Of different ranks, scales and targets: the merged adapter is the mean of the models that they make."""
    a = three[0]
    one = save_adapter(a, tmp_path / "one", 1, rank=2)
    two = save_adapter(
        a, tmp_path / "two", 2, rank=4, alpha=1.0, rank_stabilized=True, targets=["q_proj", "o_proj"]
    )
    assert merge(one, two, "--weights", 1, 3, "--out", tmp_path / "out") == 0
    assert capsys.readouterr().out == f"{tmp_path}/out: linear of 2 adapters, one adapter of their base\n"
    assert (tmp_path / "out" / TENSORS).is_file()
    assert main(["models", "verify", str(tmp_path / "out")]) == 0
    states = [load_model(path).state_dict() for path in (one, two, tmp_path / "out")]
    for name, merged in states[2].items():
        torch.testing.assert_close(
            merged, (states[0][name] + 3 * states[1][name]) / 4, rtol=1e-5, atol=1e-6, msg=name
        )
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(a), tmp_path / "out")
    ids, model = random_ids(2, 9), load_model(tmp_path / "out")
    torch.testing.assert_close(theirs(ids).logits, model.logits(model(ids)), rtol=1e-4, atol=1e-4)


def test_an_adapter_is_merged_first(three: tuple[Path, Path, Path], tmp_path: Path, capsys: Any) -> None:
    a, b, _ = three
    save_adapter(a, tmp_path / "adapter", 0, rank=2)
    assert (tmp_path / "adapter" / TENSORS).is_file()
    assert merge(tmp_path / "adapter", b, "--out", tmp_path / "out") == 0
    note = f"note: {tmp_path}/adapter is an adapter, and was merged into its base first\n"
    assert capsys.readouterr().out.startswith(note)
    save_model(load_model(tmp_path / "adapter"), tmp_path / "whole")
    A, B = doubles(tmp_path / "whole"), doubles(b)
    assert_weights(tmp_path / "out", {n: (A[n] + B[n]) / 2 for n in A})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "out", "whole"]


def test_the_card_says_so(three: tuple[Path, Path, Path], tmp_path: Path) -> None:
    a, b, base = three
    assert merge(a, b, "--base", base, "--method", "ties", "--out", tmp_path / "out") == 0
    assert main(["export", "hf", str(tmp_path / "out"), "--out", str(tmp_path / "hub")]) == 0
    said = "Its weights are a merge (ties) of `a`, `b` and the base `base`."
    assert said in (tmp_path / "hub/README.md").read_text()


# ------------------------------------------------------------------------------------------------ refused


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("A", "there is nothing to merge with one model; name at least two"),
        ("A B BASE --method slerp", "slerp is between two models, not 3; merge two, then the result with the next"),
        ("A B --method task", "task adds up what models learned since their base; name that with --base"),
        ("A B --base BASE", "linear has no base; leave --base out, or give the model as one of those to merge"),
        ("A B --t 0.2", "linear does not use --t; leave it out, or choose another --method"),
        (
            "A B --method slerp --weights 1 2",
            "slerp does not use --weights; leave it out, or choose another --method",
        ),
        ("A B --weights 1", "--weights has 1 numbers for 2 models; give one for each"),
        ("A B --weights 1 -1", "the --weights add up to 0, and linear divides by their sum; give others"),
        ("A B --method ties --base BASE --density 0", "density must be a number above 0, at most 1, not 0.0"),
        ("A nowhere", "nowhere is no directory; give a model directory or a run directory"),
    ],
)
def test_refused(three: tuple[Path, Path, Path], tmp_path: Path, capsys: Any, words: str, sentence: str) -> None:
    places = dict(zip(("A", "B", "BASE"), three))
    assert merge(*(places.get(word, word) for word in words.split()), "--out", tmp_path / "out") == 2
    assert capsys.readouterr().err == f"error: {sentence}\n"
    assert not any(tmp_path.iterdir())


def test_other_shapes_and_tokenizers_are_refused(
    three: tuple[Path, Path, Path], tmp_path: Path, capsys: Any, tokenizer_directory: Path
) -> None:
    a = three[0]
    tokenizer = Tokenizer.load(tokenizer_directory)
    wider = random_model(vocab_size=tokenizer.vocab_size, intermediate_size=64)
    save_model(wider, tmp_path / "wider", tokenizer)
    assert merge(a, tmp_path / "wider", "--out", tmp_path / "out") == 2
    assert capsys.readouterr().err == (
        "error: only models of one shape can be merged: "
        f"intermediate_size is 48 in {a} and 64 in {tmp_path}/wider\n"
    )
    other = train(["zzz yyy xxx www zzz yyy " * 20] * 50, 300)
    save_model(load_model(a), tmp_path / "other", other)
    assert merge(a, tmp_path / "other", "--out", tmp_path / "out") == 2
    assert "only models with one tokenizer can be merged: token " in capsys.readouterr().err


def test_nothing_is_written_over(three: tuple[Path, Path, Path], tmp_path: Path, capsys: Any) -> None:
    a, b, _ = three
    (tmp_path / "notes.txt").touch()
    assert merge(a, b, "--out", tmp_path) == 2
    assert "already exists; choose another --out, or remove it first" in capsys.readouterr().err


def test_a_merge_is_a_model(three: tuple[Path, Path, Path], tmp_path: Path) -> None:
    a, b, _ = three
    assert merge(a, b, "--out", tmp_path / "out") == 0
    model = Model.load(tmp_path / "out", device="cpu")
    assert isinstance(model.chat([{"role": "user", "content": "the cat"}], max_tokens=4, seed=0)["content"], str)
