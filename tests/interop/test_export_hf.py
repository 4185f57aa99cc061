"""`minimind export hf`: what transformers opens, what the card says, and what is left when it fails."""

import contextlib
import errno
import hashlib
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tests.helpers import SETTINGS, flags, metrics
from tests.parity.test_model import relative
from tests.parity.test_moe import EXPERTS, moe
from tests.random_models import random_ids, random_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from minimind import Model, quickstart
from minimind.cli import main
from minimind.errors import UserError
from minimind.hardware import DTYPES
from minimind.infer.engine import Engine
from minimind.infer.sampler import SamplingParams
from minimind.interop import hf
from minimind.model import load_model, save_model
from minimind.model.count import count_parameters
from minimind.model.hf import weights as model_io
from minimind.model.hf.names import to_disk
from minimind.tokenizer import Tokenizer
from minimind.util import files

FAMILIES: dict[str, dict[str, Any]] = {
    "qwen3": {},
    "llama": {"model_type": "llama", "tie_word_embeddings": False},
    "qwen3_moe": {"model_type": "qwen3_moe", **EXPERTS},
    "qwen2_moe": {"model_type": "qwen2_moe", **EXPERTS, "head_dim": None},
    "glm4_moe": {"model_type": "glm4_moe", **EXPERTS, "n_shared_experts": 1, "routed_scaling_factor": 1.7},
    "glm4_moe-none-shared": {"model_type": "glm4_moe", **EXPERTS},
}
FILES = ["README.md", "SHA256SUMS", "config.json", "generation_config.json", "model.safetensors"]
TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json"]


def export(source: Path, out: Path, *options: str) -> int:
    return main(["export", "hf", str(source), "--out", str(out), *options])


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, tokenizer_directory: Path) -> Path:
    """A model directory that lies in no run."""
    tokenizer = Tokenizer.load(tokenizer_directory)
    directory = tmp_path_factory.mktemp("source") / "some-model"
    save_model(random_model(vocab_size=tokenizer.vocab_size), directory, tokenizer)
    return directory


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory, corpus: Path, chat_file: Path, tokenizer_directory: Path
) -> Path:
    """A pretraining `base` and a fine-tuning `chat` of it, both examined like the quickstart's."""
    home = tmp_path_factory.mktemp("runs")
    given = ["--data", str(corpus), "--tokenizer", str(tokenizer_directory), "--out", str(home / "base")]
    assert main(["train", "pretrain", *given, *flags(evaluation__every=4), "--quiet"]) == 0
    given = ["--data", str(chat_file), "--from", str(home / "base"), "--out", str(home / "chat")]
    shape = {name.replace(".", "__"): None for name in SETTINGS if name.startswith("model.")}
    assert main(["train", "sft", *given, *flags(**shape, budget__steps=6), "--quiet"]) == 0
    quickstart._result(home / "chat", "sft", 0, 1)
    return home


def card_of(directory: Path) -> str:
    return (directory / "README.md").read_text(encoding="utf-8")


def front_matter(text: str) -> dict[str, Any]:
    return yaml.safe_load(text.split("---\n")[1])


def tables(text: str) -> dict[str, list[str]]:
    """First cell of every row of every table -> its other cells."""
    rows = [
        [cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines() if line[:1] == "|"
    ]
    return {row[0]: row[1:] for row in rows}


# ------------------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fields", FAMILIES.values(), ids=FAMILIES)
def test_transformers_computes_the_same(tmp_path: Path, fields: dict[str, Any], dtype: str) -> None:
    original = moe(fields)
    save_model(original, tmp_path / "model")
    assert export(tmp_path / "model", tmp_path / "out", "--dtype", dtype) == 0
    ours = load_model(tmp_path / "model").cast(DTYPES[dtype])
    found, wanted = load_file(tmp_path / "out" / "model.safetensors"), to_disk(ours.state_dict(), ours.config)
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name

    theirs, report = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto", output_loading_info=True)
    assert not any(report.values()), report
    assert theirs.dtype == theirs.config.dtype == DTYPES[dtype]
    assert type(theirs).__name__ == ours.config.family.architecture
    ours, theirs, tokens = ours.cast(torch.float32), theirs.float(), random_ids(3, 40)
    with torch.inference_mode():
        assert relative(ours.logits(ours(tokens)), theirs(tokens).logits) < 1e-5
    for name, tensor in load_model(tmp_path / "out").state_dict().items():  # and back
        assert torch.equal(tensor, ours.state_dict()[name]), name

    prompt = random_ids(17).tolist()
    completion = Engine(ours).generate([prompt], SamplingParams(temperature=0, max_tokens=12, stop_ids=()))[0]
    limits = {"max_new_tokens": 12, "min_new_tokens": 12, "eos_token_id": []}
    assert theirs.generate(torch.tensor([prompt]), do_sample=False, **limits)[0, 17:].tolist() == completion.ids


def test_a_directory_that_lies_in_no_run(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert export(source, tmp_path / "deep" / "out") == 0
    assert names(tmp_path / "deep") == ["out"]
    assert names(tmp_path / "deep" / "out") == FILES + TOKENIZER_FILES
    size = (tmp_path / "deep" / "out" / "model.safetensors").stat().st_size
    said = f"{tmp_path / 'deep' / 'out'}: fp32, {size / 1e6:.1f} MB in 1 file, Qwen3ForCausalLM, README.md\n"
    assert capsys.readouterr().out == said
    for name in [*TOKENIZER_FILES, *FILES[2:]]:
        assert (tmp_path / "deep" / "out" / name).read_bytes() == (source / name).read_bytes(), name


def test_others_may_read_the_weights_where_they_may_read_the_rest(parts: Path) -> None:
    assert len({path.stat().st_mode for path in parts.iterdir()}) == 1


def test_without_a_tokenizer(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    save_model(random_model(), tmp_path / "model")
    assert export(tmp_path / "model", tmp_path / "out") == 0
    assert "has no tokenizer, so only the weights can be used" in capsys.readouterr().out
    assert names(tmp_path / "out") == FILES
    assert "AutoTokenizer" not in card_of(tmp_path / "out")


def test_a_changed_generation_config_is_taken_over(source: Path, tmp_path: Path) -> None:
    shutil.copytree(source, tmp_path / "model")
    changed = {**json.loads((source / "generation_config.json").read_text()), "temperature": 0.11}
    (tmp_path / "model" / "generation_config.json").write_text(json.dumps(changed))
    assert export(tmp_path / "model", tmp_path / "out") == 0
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text()) == changed
    (tmp_path / "model" / "generation_config.json").write_text("{")
    with pytest.raises(UserError, match=r"generation_config.json is not valid JSON"):
        hf.export_hf(tmp_path / "model", tmp_path / "out")


def test_special_tokens_are_those_of_the_tokenizer(source: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(source)
    tokenizer.config = {**tokenizer.config, "eos_token": "<tool_call>", "pad_token": "<tool_call>"}
    other = Tokenizer(tokenizer.backend, tokenizer.config, tokenizer.chat_template)
    save_model(random_model(vocab_size=other.vocab_size), tmp_path / "model", other)
    (tmp_path / "model" / "generation_config.json").unlink()
    assert export(tmp_path / "model", tmp_path / "out") == 0
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    end = AutoTokenizer.from_pretrained(tmp_path / "out").eos_token_id
    assert end == other.eos_id > 2
    assert theirs.config.eos_token_id == theirs.config.pad_token_id == theirs.generation_config.pad_token_id == end
    assert theirs.generation_config.eos_token_id == [end]


def test_fp16_refuses_what_it_cannot_hold(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    model = random_model()
    model.model.norm.weight.data[3] = 65_519.9  # rounds to the largest value
    save_model(model, tmp_path / "model")
    assert export(tmp_path / "model", tmp_path / "fits", "--dtype", "fp16") == 0
    assert load_model(tmp_path / "fits").model.norm.weight[3] == 65_504
    model.model.norm.weight.data[3] = -65_520.0
    save_model(model, tmp_path / "model")
    capsys.readouterr()
    assert export(tmp_path / "model", tmp_path / "out", "--dtype", "fp16") == 2
    said = "error: tensor model.norm.weight has values beyond 65504, where float16 ends; take bf16 or fp32\n"
    assert capsys.readouterr().err == said
    assert names(tmp_path) == ["fits", "model"]
    assert export(tmp_path / "model", tmp_path / "out", "--dtype", "bf16") == 0


def test_fp16_of_a_matrix_that_is_stored_doubled(tmp_path: Path) -> None:
    model = moe(FAMILIES["qwen2_moe"])
    model.model.layers[1].mlp.shared_expert.down_proj.weight.data[0, 0] = 40_000
    save_model(model, tmp_path / "model")
    with pytest.raises(UserError, match=r"layers.1.mlp.shared_expert.down_proj.weight has values beyond 65504"):
        hf.export_hf(tmp_path / "model", tmp_path / "out", "fp16")


# --------------------------------------------------------------------------------------------------- parts


@pytest.fixture(scope="module")
def parts(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export in several files."""
    directory = tmp_path_factory.mktemp("parts") / "out"
    assert export(source, directory, "--shard-size", "0.06MB") == 0
    return directory


def test_parts_are_as_transformers_writes_them(source: Path, parts: Path, tmp_path: Path) -> None:
    theirs = AutoModelForCausalLM.from_pretrained(source)
    theirs.save_pretrained(tmp_path, max_shard_size="60KB")
    files = [path.name for path in sorted(tmp_path.glob("*.safetensors"))]
    assert len(files) > 2
    assert [path.name for path in sorted(parts.glob("*.safetensors"))] == files
    ours, wanted = (json.loads((place / model_io.INDEX).read_text()) for place in (parts, tmp_path))
    assert ours["metadata"]["total_size"] == wanted["metadata"]["total_size"]
    assert ours["weight_map"].keys() == wanted["weight_map"].keys()
    for file in files:
        tensors = load_file(parts / file)
        assert 0 < sum(tensor.nbytes for tensor in tensors.values()) <= 60_000
        assert {name for name, place in ours["weight_map"].items() if place == file} == tensors.keys()


def test_parts_open_in_transformers_and_here(source: Path, parts: Path) -> None:
    wanted = load_file(source / "model.safetensors")
    theirs, report = AutoModelForCausalLM.from_pretrained(parts, dtype="auto", output_loading_info=True)
    assert not any(report.values()), report
    for found in (theirs.state_dict(), load_model(parts).state_dict(), Model.load(parts).model.state_dict()):
        assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
    assert str(len(list(parts.glob("*.safetensors")))) + " files" in tables(card_of(parts))["weights"][0]


def test_a_missing_part_is_named(parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    broken = Path(shutil.copytree(parts, tmp_path / "broken"))
    part = sorted(broken.glob("*.safetensors"))[1]
    part.unlink()
    sentence = f"{broken} lacks {part.name}, named in model.safetensors.index.json"
    for load in (load_model, Model.load):
        with pytest.raises(UserError, match=re.escape(sentence)):
            load(broken)
    assert export(broken, tmp_path / "out") == 2
    assert sentence in capsys.readouterr().err
    for bad in ("{", "[]", "{}", '{"weight_map": {"a": 1}}', '{"weight_map": 1}'):
        (broken / model_io.INDEX).write_text(bad)
        with pytest.raises(UserError, match=r"index.json is (no index of the parts|no JSON object|not valid JSON)"):
            load_model(broken)


def test_an_export_takes_the_place_of_an_earlier_one(source: Path, parts: Path, tmp_path: Path) -> None:
    assert export(source, tmp_path / "out", "--shard-size", "60KB", "--license", "mit") == 0
    assert contents(tmp_path / "out").keys() == contents(parts).keys()
    assert export(source, tmp_path / "out", "--dtype", "bf16") == 0
    assert names(tmp_path / "out") == FILES + TOKENIZER_FILES
    assert names(tmp_path) == ["out"]
    assert "license" not in front_matter(card_of(tmp_path / "out"))


# ----------------------------------------------------------------------------------------------- the card


def test_the_card_of_a_model_in_no_run(source: Path, tmp_path: Path) -> None:
    assert export(source, tmp_path / "out") == 0
    text = card_of(tmp_path / "out")
    tags = ["minimind", "conversational"]
    assert front_matter(text) == {
        "library_name": "transformers", "pipeline_tag": "text-generation", "tags": tags
    }  # fmt: skip
    assert "Nothing is recorded of how this model was trained." in text
    assert "## Scores" not in text
    rows, config = tables(text), load_model(source).config
    size = (tmp_path / "out" / "model.safetensors").stat().st_size
    assert rows["weights"] == [f"fp32, {size:,} bytes in 1 file"]
    assert rows["parameters"] == [f"{count_parameters(config)['total']:,}"]
    assert rows["vocabulary"] == [f"{config.vocab_size:,}"]
    assert rows["layers × width"] == ["2 × 32"]


def test_the_card_of_experts(tmp_path: Path) -> None:
    model = moe(FAMILIES["glm4_moe"])
    save_model(model, tmp_path / "model")
    assert export(tmp_path / "model", tmp_path / "out") == 0
    rows, counts = tables(card_of(tmp_path / "out")), count_parameters(model.config)
    assert rows["active for a token"] == [f"{counts['active']:,}"]
    assert rows["experts"] == ["4, 2 of them for a token, 1 shared"]
    assert f"{counts['total']:,} parameters, {counts['active']:,} of them" in card_of(tmp_path / "out")


def test_license_and_languages_are_as_given(source: Path, tmp_path: Path) -> None:
    assert export(source, tmp_path / "out", "--license", "a: b", "--language", "zh", "no") == 0
    found = front_matter(card_of(tmp_path / "out"))
    assert (found["license"], found["language"]) == ("a: b", ["zh", "no"])
    assert list(found)[:2] == ["language", "license"]


def test_the_card_of_a_pretraining(runs: Path, corpus: Path, tmp_path: Path) -> None:
    assert export(runs / "base", tmp_path / "out") == 0
    text, state = card_of(tmp_path / "out"), json.loads((runs / "base" / "state.json").read_text())
    rows, data = tables(text), json.loads((runs / "base" / "data.json").read_text())
    assert front_matter(text)["tags"] == ["minimind", "pretrain"]
    assert rows["steps"] == ["12"]
    assert rows["tokens read"] == [f"{state['tokens']:,}"]
    assert rows["documents in the data"] == ["200"]
    assert rows["tokens in the data"] == [f"{data['tokens']:,}"]
    assert rows["held out of the data"] == ["10.0%"]
    assert rows["`optimizer.learning_rate`"] == ["0.02"]
    assert rows["`batch.tokens_per_step`"] == ["256"]
    assert rows["`seed`"] == ["0"]
    assert rows["PyTorch"] == [torch.__version__]
    lines = text.splitlines()
    assert f"| pretrain | `{corpus.name}` | `{hashlib.sha256(corpus.read_bytes()).hexdigest()}` |" in lines
    assert f"| pretrain | tokens as prepared | `{data['fingerprint']}` |" in lines
    scores = [line["eval"] for line in metrics(runs / "base") if "eval" in line][-1]
    assert rows["bits per byte"] == [f"{scores['bits_per_byte']:.4f}"]
    assert rows["measured on so many tokens"] == [f"{scores['held_out_tokens']:,}"]
    assert str(corpus.parent) not in text  # no paths of this machine
    assert "skill" not in rows


def test_the_card_of_a_fine_tuning(runs: Path, corpus: Path, chat_file: Path, tmp_path: Path) -> None:
    assert export(runs / "chat" / "model", tmp_path / "out") == 0
    text, result = card_of(tmp_path / "out"), json.loads((runs / "chat" / "result.json").read_text())
    rows = tables(text)
    assert front_matter(text)["tags"] == ["minimind", "sft", "conversational"]
    assert "It was trained in this order: pretrain, sft." in text
    assert rows["steps"] == ["12", "6"]
    assert rows["started from"] == ["", "base"]
    for stage, file in (("pretrain", corpus), ("sft", chat_file)):
        sha = hashlib.sha256(file.read_bytes()).hexdigest()
        assert f"| {stage} | `{file.name}` | `{sha}` |" in text.splitlines()
    assert rows["bits per byte"] == [f"{result['bits_per_byte']:.4f}"]
    for skill, score in [*result["skills"]["skills"].items(), ("mean", result["skills"]["macro"])]:
        assert rows[skill][0] == f"{score['accuracy']:.1%}"
        assert rows[skill][1] == f"{score['low']:.1%} to {score['high']:.1%}"


def test_the_card_of_other_weights_of_a_run(runs: Path, tmp_path: Path) -> None:
    """The best and a checkpoint have steps and scores of their own; what was measured of model/ is not theirs."""
    lines = {line["step"]: line for line in metrics(runs / "base") if "bits_per_byte" in line.get("eval", {})}
    best = min(lines, key=lambda step: lines[step]["eval"]["bits_per_byte"])
    assert export(runs / "base" / "best", tmp_path / "best") == 0
    rows = tables(card_of(tmp_path / "best"))
    assert rows["steps"] == [f"{best}"]
    assert rows["tokens read"] == [f"{lines[best]['tokens']:,}"]
    assert rows["bits per byte"] == [f"{lines[best]['eval']['bits_per_byte']:.4f}"]

    checkpoint = runs / "chat" / "checkpoints" / "step-0000004"
    assert export(checkpoint, tmp_path / "checkpoint") == 0
    rows = tables(card_of(tmp_path / "checkpoint"))
    assert rows["steps"] == ["12", "4"]
    assert rows["tokens read"][1] == f"{json.loads((checkpoint / 'progress.json').read_text())['tokens']:,}"
    assert "## Scores" not in card_of(tmp_path / "checkpoint")


def change_state(run: Path, **values: Any) -> None:
    state = json.loads((run / "state.json").read_text())
    (run / "state.json").write_text(json.dumps({**state, **values}))


def test_what_is_no_longer_true_is_left_out(runs: Path, tmp_path: Path) -> None:
    base, chat = (Path(shutil.copytree(runs / name, tmp_path / name)) for name in ("base", "chat"))
    recipe = (chat / "recipe.yaml").read_text().replace(f"init_from: {runs / 'base'}", f"init_from: {base}")
    (chat / "recipe.yaml").write_text(recipe)
    change_state(base, ended=4e9)  # trained again after the fine-tuning began
    assert export(chat, tmp_path / "one") == 0
    rows = tables(card_of(tmp_path / "one"))
    assert (rows["steps"], rows["started from"]) == (["6"], ["base"])

    change_state(chat, status="stopped", step=9)  # continued after model/ was written
    assert export(chat, tmp_path / "two") == 0
    text = card_of(tmp_path / "two")
    assert "steps" not in tables(text)
    assert "How far the training was when these weights were written is not recorded." in text
    assert "## Scores" not in text

    for file in ("data.json", "environment.json", "metrics.jsonl", "result.json"):
        (chat / file).write_text("{")  # damaged
    assert export(chat, tmp_path / "three") == 0


@pytest.mark.parametrize("name", ["base", "chat"])
def test_the_code_on_the_card_runs(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert export(runs / name, tmp_path / "mine") == 0
    path = tmp_path / "mine" / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "do_sample": False}))
    monkeypatch.chdir(tmp_path)
    theirs, ours = re.findall(r"```python\n(.*?)```", card_of(tmp_path / "mine"), re.DOTALL)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(theirs, {})
        exec(ours, {})
    model = Model.load(tmp_path / "mine", device="cpu")
    if name == "base":
        wanted = "Once upon a time" + model.predict("Once upon a time", temperature=0, max_tokens=64)
    else:
        prompt = model.tokenizer.encode_chat([{"role": "user", "content": "Hello!"}], add_generation_prompt=True)[0]
        params = model.sampling_params(temperature=0, max_tokens=256)
        wanted = model.tokenizer.decode(model.engine.generate([prompt], params)[0].ids)
    assert wanted
    assert said.getvalue().startswith(wanted + "\n")


# ------------------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--dtype", "fp8"], "--dtype fp8 is unknown; there are fp32, bf16, fp16"),
        (["--shard-size", "big"], "--shard-size big is no size; give for example 2GB, 500MB or a number of bytes"),
        (["--shard-size", "0"], "--shard-size 0 is no size"),
        (["--shard-size", "2XB"], "--shard-size 2XB is no size"),
        (["--shard-size", "1KB"], "tensor model.embed_tokens.weight alone takes "),
    ],
)
def test_options_that_cannot_be(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture, options: list[str], sentence: str
) -> None:
    assert export(source, tmp_path / "out", *options) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {sentence}")
    assert said.count("\n") == 1
    assert names(tmp_path) == []


@pytest.mark.parametrize(("text", "size"), [("2GB", 2 * 10**9), ("1.5 mb", 1_500_000), ("7KB", 7000), ("12", 12)])
def test_sizes(text: str, size: int) -> None:
    assert hf.parse_size(text) == size


def test_no_such_model(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert export(tmp_path / "nowhere", tmp_path / "out") == 2
    assert "nowhere is no directory; give a model directory or a run directory" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert export(tmp_path / "empty", tmp_path / "out") == 2
    assert "holds no model" in capsys.readouterr().err


def test_a_directory_with_something_else_in_it_is_left_alone(
    source: Path, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "ideas.txt").write_text("mine")
    save_model(random_model(), tmp_path / "model")
    shutil.copytree(runs / "base", tmp_path / "run")
    for name in ("model", "read", "edited"):
        (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / "read" / "README.md").write_text("mine")
    assert export(source, tmp_path / "edited") == 0  # an empty directory is fine
    with (tmp_path / "edited" / "README.md").open("a") as file:
        file.write("My dog helped.\n")
    capsys.readouterr()
    for name, sentence in {
        "file": "is a file; give a directory as --out",
        "notes": "holds ideas.txt, which is no part of an export; choose another --out",
        "model": "is not empty and no earlier export; choose another --out",
        "run": "holds best, which is no part of an export; choose another --out",
        "read": "was not written by an export, or edited since; choose another --out",
        "edited": "was not written by an export, or edited since; choose another --out",
    }.items():
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        assert export(source, tmp_path / name) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: {tmp_path / name}")
        assert said.endswith(f"{sentence}\n")
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_an_export_into_itself(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert export(source, tmp_path / "out") == 0
    (tmp_path / "link").symlink_to(tmp_path / "out")
    for out in ("out", "link", "out/../out"):
        assert export(tmp_path / "out", tmp_path / out, "--dtype", "bf16") == 2
        assert "is the model itself; choose another --out" in capsys.readouterr().err
    assert export(source, tmp_path / "link", "--dtype", "bf16") == 0
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path) == ["link", "out"]


def kill(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def fill_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(("fault", "code"), [(kill, 130), (fill_disk, 2)])
@pytest.mark.parametrize("place", [(model_io, "save_file"), (hf, "card"), (files, "replace_directory")])
def test_an_export_that_fails_leaves_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Any, fault: Any, code: int
) -> None:
    (tmp_path / "out.old").mkdir()  # a person's own
    with monkeypatch.context() as patch:
        patch.setattr(*place, fault)
        assert export(source, tmp_path / "out") == code
        assert names(tmp_path) == ["out.old"]
    assert export(source, tmp_path / "out") == 0
    before = contents(tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(*place, fault)
        assert export(source, tmp_path / "out", "--dtype", "bf16") == code
    assert contents(tmp_path / "out") == before
    assert names(tmp_path) == ["out", "out.old"]
