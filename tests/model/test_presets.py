"""The named shapes have the sizes that they are known for."""

import json

import pytest

from minimind.commands import models
from minimind.errors import UserError
from minimind.model import ModelConfig, Transformer
from minimind.model.hf_config import read_config
from minimind.presets import PRESETS, count_parameters, get, preset_fields


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("minimind2-small", 25_829_888), ("minimind2", 104_030_976), ("minimind-3", 63_912_192)],
)
def test_published_shapes_are_exact(name: str, parameters: int) -> None:
    assert count_parameters(get(name))["total"] == parameters


@pytest.mark.parametrize(("name", "millions"), [("tiny", 2.26), ("nano", 5.8), ("micro", 11.9)])
def test_own_shapes_are_as_large_as_said(name: str, millions: float) -> None:
    assert count_parameters(get(name))["total"] / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize("tied", [True, False])
def test_counted_parameters_are_those_allocated(tied: bool) -> None:
    config = ModelConfig(vocab_size=97, hidden_size=32, num_attention_heads=2, tie_word_embeddings=tied)
    counts = count_parameters(config)
    assert (
        counts["total"] == sum(p.numel() for p in Transformer(config).parameters()) == sum(counts["parts"].values())
    )
    assert counts["parts"]["embedding"] == 97 * 32 * (1 if tied else 2)
    assert counts["parts"]["attention"] == 8 * 4 * 32 * 32
    assert counts["active"] == counts["total"]


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no preset is called 'minimind2_smal'; did you mean minimind2-small\?"):
        get("minimind2_smal")


def test_fields_of_a_preset_leave_the_vocabulary_to_the_tokenizer() -> None:
    assert ModelConfig(vocab_size=300, **preset_fields("tiny")) == get("tiny", vocab_size=300)


def test_models_list(capsys: pytest.CaptureFixture[str]) -> None:
    models.run(["list", "--json"])
    assert json.loads(capsys.readouterr().out).keys() == PRESETS.keys()
    models.run(["list"])
    assert "25,829,888" in capsys.readouterr().out


def test_models_show(capsys: pytest.CaptureFixture[str], talker) -> None:
    models.run(["show", "minimind-3", "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert shown["parameters"]["total"] == 63_912_192
    assert shown["config"]["intermediate_size"] == 2432
    for path in (talker, talker / "model"):
        models.run(["show", str(path), "--json"])
        config = ModelConfig(**json.loads(capsys.readouterr().out)["config"])
        assert config == read_config(talker / "model")
    models.run(["show", "tiny"])
    assert "feed-forward" in capsys.readouterr().out
    with pytest.raises(UserError, match="did you mean tiny"):
        models.run(["show", "tinny"])
