"""`minimind import` and `Model.load` of published weights: the nine miniatures, folders, settings, tokenizers.

tests/fixtures/weights holds one tiny random model of each published version, as that version's own code
stores it, with the logits that it computes.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.helpers import flags
from tests.interop.published import (
    DENSE,
    FIXTURES,
    TRAINED,
    WRITTEN,
    WRITTEN_EARLY,
    published_model,
    save,
    state_dict,
)
from tests.parity.test_model import relative
from tests.random_models import random_ids
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer

from minimind import Model
from minimind.cli import main
from minimind.interop.upstream import read_weights
from minimind.interop.versions import VERSIONS
from minimind.model import Transformer, load_model, save_model
from minimind.model.config import EXPERT_COUNTS
from minimind.model.hf.config import read_config
from minimind.model.rope import scale_rope
from minimind.presets import PRESETS
from minimind.tokenizer import Tokenizer
from minimind.tokenizer.tokenizer import DECODER

NAMES = sorted(path.name for path in FIXTURES.iterdir())
fixtures = pytest.mark.parametrize("name", NAMES)
kinds = pytest.mark.parametrize("moe", [False, True], ids=["dense", "moe"])
versions = pytest.mark.parametrize("version", DENSE)

IDS = random_ids(2, 30)


def run_import(weights: Path, to: Path, *options: object) -> Path:
    assert main(["import", str(weights), "--to", str(to), *map(str, options)]) == 0
    return to


def logits(model: Transformer) -> torch.Tensor:
    with torch.inference_mode():
        return model.logits(model(IDS))


def assert_same(found: Model, wanted: Transformer) -> None:
    """The tensors are the same ones in another order, so nothing is rounded."""
    assert found.model.config == wanted.config
    assert torch.equal(found.logits(IDS), logits(wanted))


# --------------------------------------------------------------------------------------------- the miniatures


def test_all_versions_are_there() -> None:
    described = [json.loads((FIXTURES / name / "config.json").read_text()) for name in NAMES]
    assert len(NAMES) == 9
    assert {config["generation"] for config in described} == set(DENSE)


@fixtures
def test_published_weights_give_the_published_logits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    expected = load_file(FIXTURES / name / "expected.safetensors")
    ids, wanted = expected["input_ids"], expected["logits"]
    folder = run_import(FIXTURES / name / "weights.pth", tmp_path / "model")
    assert str(folder) in capsys.readouterr().out
    assert sorted(path.name for path in folder.iterdir()) == [
        "SHA256SUMS",
        "config.json",
        "generation_config.json",
        "model.safetensors",
    ]
    assert relative(Model.load(folder, device="cpu").logits(ids), wanted) < 1e-5
    for place in (FIXTURES / name, FIXTURES / name / "weights.pth"):  # in place, without a model directory
        assert relative(Model.load(place, device="cpu").logits(ids), wanted) < 1e-5

    theirs, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    with torch.inference_mode():
        assert relative(theirs(ids).logits, wanted) < 1e-5


@fixtures
def test_the_trained_length_is_recorded_so_that_it_can_be_stretched(tmp_path: Path, name: str) -> None:
    folder = run_import(FIXTURES / name / "weights.pth", tmp_path / "model")
    trained = 512 if name.startswith("minimind-v1") else 2048
    assert json.loads((folder / "config.json").read_text())["original_max_position_embeddings"] == trained
    assert scale_rope(read_config(folder), 8).max_position_embeddings == 8 * trained


def test_the_published_yarn(tmp_path: Path) -> None:
    config = read_config(run_import(FIXTURES / "minimind3-yarn", tmp_path / "model"))
    assert config.rope_scaling is not None
    assert vars(config.rope_scaling) == {
        "rope_type": "yarn",
        "factor": 16.0,
        "original_max_position_embeddings": 2048,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "attention_factor": 1.0,
    }


# ------------------------------------------------------------------------------------------------ recognition


@kinds
@versions
def test_a_version_is_recognised_by_its_tensors(tmp_path: Path, version: str, moe: bool) -> None:
    """Nothing lies beside the weights; heads and theta are the published ones."""
    model = published_model(version, moe)
    path = save(state_dict(model, version), tmp_path / "full_sft_64.pth")
    assert read_weights(path).version == version
    assert_same(Model.load(path, device="cpu"), model)
    assert_same(Model.load(run_import(path, tmp_path / "model"), device="cpu"), model)


@kinds
@versions
def test_a_version_that_is_named(tmp_path: Path, version: str, moe: bool) -> None:
    """Other widths of keys than the published ones tell nothing, so it is said."""
    fields = {"num_attention_heads": 4, "num_key_value_heads": 4}
    model = published_model(version, moe, **fields)
    path = save(state_dict(model, version), tmp_path / "weights.pth")
    (tmp_path / "heads.json").write_text(json.dumps(fields))
    options = ("--version", version, "--config", tmp_path / "heads.json")
    assert_same(Model.load(run_import(path, tmp_path / "model", *options), device="cpu"), model)
    assert_same(Model.load(path, device="cpu", version=version, config=tmp_path / "heads.json"), model)


def test_the_defaults_are_the_published_shapes() -> None:
    """The two tables of them, one by version and one by size, agree."""
    for preset, config in PRESETS.items():
        version = next((name for name in VERSIONS if preset.startswith(name)), None)
        if version is None:
            continue
        for name, value in VERSIONS[version].defaults.items():
            of_experts = name in EXPERT_COUNTS or name == "norm_topk_prob"
            if name != "original_max_position_embeddings" and (config.family.experts or not of_experts):
                assert getattr(config, name) == value, (preset, name)


def test_what_can_be_computed_is_left_out(tmp_path: Path) -> None:
    """Masks and rotary tables that lie among the tensors, and the prefix of a compiled model."""
    model = published_model("minimind-v1")
    tensors = state_dict(model, "minimind-v1")
    tensors["layers.0.attention.mask"] = torch.full((1, 1, 4, 4), float("-inf")).triu(1)
    tensors["pos_cis"] = torch.polar(torch.ones(4, 2), torch.ones(4, 2))
    assert_same(Model.load(save(tensors, tmp_path / "weights.pth"), device="cpu"), model)

    model = published_model("minimind2")
    tensors = {f"_orig_mod.{name}": tensor for name, tensor in state_dict(model, "minimind2").items()}
    tensors |= {f"_orig_mod.model.freqs_{part}": torch.ones(4, 8) for part in ("cos", "sin")}
    assert_same(Model.load(save(tensors, tmp_path / "weights.pth"), device="cpu"), model)


@pytest.mark.parametrize("version", ["minimind-v1", "minimind-3"])
def test_an_output_of_its_own(tmp_path: Path, version: str) -> None:
    model = published_model(version, tie_word_embeddings=False)
    path = save(state_dict(model, version), tmp_path / "weights.pth")
    assert_same(Model.load(path, device="cpu"), model)


@pytest.mark.parametrize("shared", [1, 3])
def test_several_shared_experts(tmp_path: Path, shared: int) -> None:
    model = published_model("minimind2", moe=True, n_shared_experts=shared)
    path = save(state_dict(model, "minimind2"), tmp_path / "weights.pth")
    folder = run_import(path, tmp_path / "model")
    assert relative(Model.load(folder, device="cpu").logits(IDS), logits(model)) < 1e-6


def test_a_single_weight_is_normalised_as_each_version_does(tmp_path: Path) -> None:
    """minimind2 leaves it as the softmax gave it, minimind-3 makes it 1."""
    for version, normalized in (("minimind2", False), ("minimind-3", True)):
        model = published_model(version, moe=True, num_experts_per_tok=1, norm_topk_prob=normalized)
        path = save(state_dict(model, version), tmp_path / version / "weights.pth")
        (path.parent / "config.json").write_text(json.dumps({"num_experts_per_tok": 1}))
        assert_same(Model.load(path, device="cpu"), model)


# -------------------------------------------------------------------------------------- Hugging Face's folders


def halves(tensors: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    names = sorted(tensors)
    return [{name: tensors[name] for name in part} for part in (names[::2], names[1::2])]


@pytest.mark.parametrize(
    "files", ["model.safetensors", "pytorch_model.bin", "model-{}.safetensors", "pytorch_model-{}.bin"]
)
@pytest.mark.parametrize(("version", "config"), [("minimind2", WRITTEN), ("minimind2-legacy", WRITTEN_EARLY)])
def test_a_folder_as_the_project_publishes_it(
    tmp_path: Path, version: str, config: dict[str, Any], files: str
) -> None:
    model = published_model(version, moe=True)
    tensors = state_dict(model, version)
    folder = tmp_path / "MiniMind2-MoE"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    for number, part in enumerate(halves(tensors) if "{}" in files else [tensors], start=1):
        path = folder / files.format(f"0000{number}-of-00002")
        save_file(part, path) if path.suffix == ".safetensors" else torch.save(part, path)
    assert_same(Model.load(folder, device="cpu"), model)
    assert relative(Model.load(run_import(folder, tmp_path / "to"), device="cpu").logits(IDS), logits(model)) < 1e-6


@kinds
@pytest.mark.parametrize("version", ["minimind2", "minimind-3"])
def test_a_folder_in_hugging_faces_own_layout(tmp_path: Path, version: str, moe: bool) -> None:
    """Which version it is does not show there; where it is said, the trained length is recorded."""
    model = published_model(version, moe, original_max_position_embeddings=None)
    save_model(model, tmp_path / "ours")
    AutoModelForCausalLM.from_pretrained(tmp_path / "ours").half().save_pretrained(tmp_path / "theirs")
    folder = run_import(tmp_path / "theirs", tmp_path / "plain")
    assert relative(Model.load(folder, device="cpu").logits(IDS), logits(model)) < 1e-6
    assert read_config(folder) == model.config
    folder = run_import(tmp_path / "theirs", tmp_path / "named", "--version", version)
    assert read_config(folder).original_max_position_embeddings == TRAINED[version]
    assert relative(Model.load(folder, device="cpu").logits(IDS), logits(model)) < 1e-6


# --------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    "settings",
    [
        {"dim": 64, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "vocab_size": 160, "max_seq_len": 256},
        {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256},
        {"n_heads": 4, "num_attention_heads": 4, "n_kv_heads": 2, "dropout": 0.1, "max_seq_len": 256},
    ],
    ids=["earlier naming", "later naming", "both"],
)
@pytest.mark.parametrize("name", ["minimind2-moe", "minimind2-moe-legacy", "minimind3"])
def test_both_namings_say_the_same(tmp_path: Path, name: str, settings: dict[str, Any]) -> None:
    described = json.loads((FIXTURES / name / "config.json").read_text())
    (tmp_path / "given.json").write_text(json.dumps({"generation": described["generation"], **settings}))
    wanted = run_import(FIXTURES / name, tmp_path / "wanted")
    path = shutil.copy(FIXTURES / name / "weights.pth", tmp_path)
    found = run_import(path, tmp_path / "found", "--config", tmp_path / "given.json")
    assert (found / "config.json").read_bytes() == (wanted / "config.json").read_bytes()
    assert (found / "model.safetensors").read_bytes() == (wanted / "model.safetensors").read_bytes()


YARN = {"type": "yarn", "factor": 4, "attention_factor": 1.0, "original_max_position_embeddings": 1024}


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"inference_rope_scaling": True}, (16.0, 2048)),
        ({"inference_rope_scaling": True, "rope_scaling": YARN}, (4.0, 1024)),
        (
            {"rope_parameters": {"rope_theta": 1e5, "rope_type": "yarn", "factor": 2, "attention_factor": 1}},
            (2.0, 2048),
        ),
        ({"inference_rope_scaling": False, "rope_scaling": YARN}, None),
        ({"inference_rope_scaling": True, "max_position_embeddings": 2048}, None),
        ({"rope_scaling": None, "rope_parameters": {"rope_type": "default", "rope_theta": 1e5}}, None),
    ],
)
def test_stretched_positions(tmp_path: Path, settings: dict[str, Any], wanted: tuple[float, int] | None) -> None:
    path = save(state_dict(published_model("minimind-3"), "minimind-3"), tmp_path / "weights.pth")
    (tmp_path / "config.json").write_text(json.dumps(settings))
    config = read_weights(path).config
    assert config.rope_theta == settings.get("rope_parameters", {}).get("rope_theta", 1e6)
    if wanted is None:
        assert config.rope_scaling is None
        assert config.original_max_position_embeddings == 2048
    else:
        assert config.rope_scaling is not None
        assert (config.rope_scaling.factor, config.rope_scaling.original_max_position_embeddings) == wanted
        assert config.original_max_position_embeddings == wanted[1]


# ------------------------------------------------------------------------------------------------- tokenizers


@pytest.fixture(scope="module")
def early_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the versions of 2024 and early 2025 have it: three special tokens, and no thinking in its template."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=80, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    backend.train_from_iterator(["the cat sees a small dog", "user\nassistant\nsystem\nbe brief"] * 3, trainer)
    directory = tmp_path_factory.mktemp("early")
    backend.save(str(directory / "tokenizer.json"))
    template = (
        "{% for message in messages %}<s>{{ message['role'] + '\n' + message['content'] }}</s>\n"
        "{% if message['role'] == 'user' %}<s>assistant\n{% endif %}{% endfor %}"
    )
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<unk>", "unk_token": "<unk>"}
    config = {**special, "tokenizer_class": "PreTrainedTokenizerFast", "chat_template": template}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return directory


def test_an_imported_model_talks(tmp_path: Path, tokenizer_directory: Path) -> None:
    """Greedy text equals that of transformers, from its files."""
    vocab_size = Tokenizer.load(tokenizer_directory).vocab_size
    for version in DENSE:
        path = save(state_dict(published_model(version, vocab_size=vocab_size), version), tmp_path / "w.pth")
        folder = run_import(path, tmp_path / version, "--tokenizer", tokenizer_directory)
        model = Model.load(folder, device="cpu")
        message = {"role": "user", "content": "the cat"}
        said = model.chat([message], temperature=0, max_tokens=8)
        assert said["content"]

        tokenizer, theirs = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
        prompt = tokenizer.apply_chat_template(
            [message], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        answer = theirs.generate(**prompt, do_sample=False, max_new_tokens=8)[0, prompt["input_ids"].shape[1] :]
        assert said["content"] == tokenizer.decode(answer, skip_special_tokens=True)


def test_a_tokenizer_is_unchanged(tmp_path: Path, early_tokenizer: Path) -> None:
    folder = run_import(FIXTURES / "minimind-v1", tmp_path / "model", "--tokenizer", early_tokenizer)
    for file, added in (("tokenizer.json", {}), ("tokenizer_config.json", DECODER)):
        assert json.loads((folder / file).read_text()) == json.loads((early_tokenizer / file).read_text()) | added
    model, messages = Model.load(folder, device="cpu"), [{"role": "user", "content": "the cat"}]
    ids, _ = model.tokenizer.encode_chat(messages, add_generation_prompt=True)
    assert ids == AutoTokenizer.from_pretrained(folder).apply_chat_template(messages, return_dict=True)["input_ids"]
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    answer = theirs.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=9)[0, len(ids) :]
    said = model.chat(messages, temperature=0, max_tokens=9)
    assert said == {"role": "assistant", "content": model.tokenizer.decode(answer.tolist())}


def test_a_tokenizer_beside_the_weights_is_taken_along(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], early_tokenizer: Path
) -> None:
    shutil.copytree(FIXTURES / "minimind-v1", tmp_path / "published")
    folder = run_import(tmp_path / "published", tmp_path / "plain")
    assert "tokenizer: none" in capsys.readouterr().out
    shutil.copytree(early_tokenizer, tmp_path / "published", dirs_exist_ok=True)
    folder = run_import(tmp_path / "published", tmp_path / "talking")
    found = Tokenizer.load(folder).fingerprint
    assert found == Tokenizer.load(early_tokenizer).fingerprint
    assert Model.load(tmp_path / "published", device="cpu").tokenizer.fingerprint == found


# ------------------------------------------------------------------------------------------ what comes after


def test_an_imported_model_is_trained_further(
    tmp_path: Path, tokenizer_directory: Path, chat_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vocab_size = Tokenizer.load(tokenizer_directory).vocab_size
    model = published_model("minimind2-legacy", moe=True, vocab_size=vocab_size)
    path = save(state_dict(model, "minimind2-legacy"), tmp_path / "weights.pth")
    folder = run_import(path, tmp_path / "model", "--tokenizer", tokenizer_directory)
    own = {f"model__{name}": None for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
    settings = flags(budget__steps=2, model__intermediate_size=None, **own)
    paths = ["--data", str(chat_file), "--from", str(folder), "--out", str(tmp_path / "run")]
    assert main(["train", "sft", *paths, *settings]) == 0, capsys.readouterr().err
    trained = load_model(tmp_path / "run" / "model")
    assert trained.config == model.config
    assert not torch.equal(logits(trained), logits(model))
