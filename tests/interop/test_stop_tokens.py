"""An answer ends at every token that a model's files name, here and in every form that it is written in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from minimind import Model
from minimind.cli import main
from minimind.errors import UserError
from minimind.model import save_model
from minimind.tokenizer import Tokenizer
from minimind.tokenizer.template import without_generation_blocks
from minimind.tokenizer.tokenizer import DECODER

MESSAGES = [{"role": "user", "content": "Hello!"}]


@pytest.fixture
def model(talker: Path, tmp_path: Path) -> Path:
    """A copy whose files can be changed."""
    return Path(shutil.copytree(talker / "model", tmp_path / "model"))


def say(model: Path, file: str, value: Any) -> None:
    path = model / file
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": value}))


@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("listed", [False, True])
def test_further_stop_tokens(model: Path, file: str, listed: bool) -> None:
    plain = Model.load(model, device="cpu")
    prompt = plain.tokenizer.encode_chat(MESSAGES, add_generation_prompt=True)[0]
    params = plain.sampling_params(temperature=0, max_tokens=40)
    ids = plain.engine.generate([prompt], params)[0].ids
    stop = ids[5]
    say(model, file, [stop, plain.tokenizer.eos_id] if listed else stop)
    found = Model.load(model, device="cpu")
    assert set(found.tokenizer.stop_ids) == {plain.tokenizer.eos_id, plain.tokenizer.pad_id, stop}
    answer = found.engine.generate([prompt], found.sampling_params(temperature=0, max_tokens=40))[0]
    assert answer.ids == ids[: ids.index(stop)]
    assert answer.stop_reason == "stop"


def test_they_are_kept_in_what_is_written(model: Path, tmp_path: Path) -> None:
    (model / "generation_config.json").unlink()
    say(model, "config.json", [2, 9, 11])
    assert main(["import", str(model), "--to", str(tmp_path / "imported")]) == 0
    assert main(["export", "hf", str(model), "--out", str(tmp_path / "exported")]) == 0
    trained = Model.load(model, device="cpu")
    save_model(trained.model, tmp_path / "saved", trained.tokenizer)
    for name in ("imported", "exported", "saved"):
        content = json.loads((tmp_path / name / "generation_config.json").read_text())
        assert set(content["eos_token_id"]) == {0, 2, 9, 11}


def test_stops_of_the_weights_folder_beside_another_tokenizer(
    model: Path, tmp_path: Path, tokenizer_directory: Path
) -> None:
    say(model, "generation_config.json", 9)
    command = ["import", str(model), "--to", str(tmp_path / "to"), "--tokenizer", str(tokenizer_directory)]
    assert main(command) == 0
    assert 9 in Tokenizer.load(tmp_path / "to").stop_ids


def test_gguf_and_ollama(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gguf")
    from minimind.interop.gguf_file import read

    say(model, "generation_config.json", [2, 9])
    assert main(["export", "ollama", str(model), "--out", str(tmp_path / "ollama")]) == 0
    fields, _ = read(tmp_path / "ollama" / "model.gguf")
    assert fields["tokenizer.ggml.eos_token_id"] == 2
    assert fields["tokenizer.ggml.eot_token_id"] == 9
    assert "generation %}" not in fields["tokenizer.chat_template"]
    tokenizer = Tokenizer.load(model)
    names = [tokenizer.backend.id_to_token(index) for index in tokenizer.stop_ids]
    lines = (tmp_path / "ollama" / "Modelfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("PARAMETER stop")] == [f'PARAMETER stop "{n}"' for n in names]
    back = Model.load(tmp_path / "ollama" / "model.gguf", device="cpu").tokenizer
    assert set(back.stop_ids) == {0, 2, 9}
    assert back.chat_template == tokenizer.chat_template != without_generation_blocks(tokenizer.chat_template)

    say(model, "generation_config.json", [2, 9, 10, 11])
    capsys.readouterr()
    assert main(["export", "gguf", str(model), "--out", str(tmp_path / "more.gguf")]) == 0
    assert "a GGUF file names three tokens at which answers end" in capsys.readouterr().out


@pytest.mark.parametrize("value", ["2", 1.5, -1, [2, None], {"a": 2}, True, 2**40])
def test_what_is_no_token(model: Path, value: Any) -> None:
    say(model, "generation_config.json", value)
    with pytest.raises(UserError, match=r"generation_config.json: eos_token_id must be a token's id or a list"):
        Model.load(model)


def test_transformers_is_told_of_a_decoder(model: Path) -> None:
    content = json.loads((model / "tokenizer_config.json").read_text())
    assert content.items() >= DECODER.items()
