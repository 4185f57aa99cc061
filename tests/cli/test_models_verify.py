"""`minimind models verify`."""

import json
import shutil

import pytest

from minimind import Model
from minimind.cli import main
from minimind.model.hf.weights import load_model


@pytest.fixture
def home(talker, tmp_path):
    return shutil.copytree(talker, tmp_path / "talker")


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_model_as_it_was_written(home, capsys):
    for path in (home, home / "model", home.parent):
        assert main(["models", "verify", str(path)]) == 0
        assert capsys.readouterr().out == f"{home}/model  as it was written\n"


def test_a_flipped_bit(home, capsys, caplog):
    flip(home / "model/model.safetensors")
    assert main(["models", "verify", str(home)]) == 1
    assert "model.safetensors is not what was written (SHA256SUMS)" in capsys.readouterr().out
    assert main(["models", "verify", str(home), "--json"]) == 1
    assert json.loads(capsys.readouterr().out).keys() == {f"{home}/model"}
    for load in (load_model, Model):
        caplog.clear()
        load(home / "model")
        assert f"{home}/model/model.safetensors is damaged, or was replaced" in caplog.text


def test_a_tokenizer_that_was_edited_is_told_only_by_verify(home, capsys, caplog):
    flip(home / "model/tokenizer_config.json")
    (home / "model/tokenizer_config.json").write_text(json.dumps({"model_max_length": 9}))
    load_model(home / "model")
    assert not caplog.text
    assert main(["models", "verify", str(home)]) == 1
    assert "tokenizer_config.json is not what was written" in capsys.readouterr().out


def test_nothing_to_compare_with(home, tmp_path, capsys):
    (home / "model/SHA256SUMS").unlink()
    assert main(["models", "verify", str(home)]) == 2
    assert capsys.readouterr().err == (
        f"error: there is no SHA256SUMS in {home}: models of other programs and of earlier versions have none\n"
    )
    assert main(["models", "verify", str(tmp_path / "none")]) == 2
    assert "it is no directory" in capsys.readouterr().err


def test_transformers_does_not_mind(home):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _, report = AutoModelForCausalLM.from_pretrained(home / "model", output_loading_info=True)
    assert not any(report.values())
    assert AutoTokenizer.from_pretrained(home / "model").encode("the cat")
