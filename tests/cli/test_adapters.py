"""Adapters as a person uses them: in Python, in the chat, shown, and exported."""

import io
import json
import sys
from pathlib import Path

import pytest
import torch
from tests.random_models import random_ids, random_model
from transformers import AutoModelForCausalLM

from minimind import Model
from minimind.cli import main
from minimind.errors import UserError
from minimind.model import load_model, save_model
from minimind.tokenizer import Tokenizer

MESSAGES = [{"role": "user", "content": "the cat"}]
GREEDY = {"temperature": 0, "max_tokens": 12}


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


def test_a_model_answers_with_the_adapter_that_is_named(talker: Path, adapters: dict[str, Path]) -> None:
    model = Model.load(talker, device="cpu", adapters=adapters)
    for name, path in {None: talker, **adapters}.items():
        alone = Model.load(path, device="cpu")
        assert model.chat(MESSAGES, adapter=name, **GREEDY) == alone.chat(MESSAGES, **GREEDY)
        assert model.predict("the cat", adapter=name, **GREEDY) == alone.predict("the cat", **GREEDY)
        assert "".join(model.stream("the cat", adapter=name, **GREEDY)) == alone.predict("the cat", **GREEDY)
        assert relative(model.logits([3, 4, 5], adapter=name), alone.logits([3, 4, 5])) < 1e-5
        assert model.score("the cat", adapter=name)["nats"] == pytest.approx(
            alone.score("the cat")["nats"], rel=1e-5
        )
    with pytest.raises(UserError, match="there is no adapter tax here, but law, med"):
        model.chat(MESSAGES, adapter="tax")
    with pytest.raises(UserError, match="there is no adapter tax here, but law, med"):
        model.logits([3], adapter="tax")


def test_adapters_share_the_weights_of_their_base(talker: Path, adapters: dict[str, Path]) -> None:
    model = Model.load(talker, device="cpu", dtype=torch.bfloat16, adapters=adapters)
    own = {parameter.data_ptr() for parameter in model.model.parameters()}
    for adapted in model.engine.adapters.values():
        assert all(p.dtype == torch.bfloat16 for p in adapted.parameters())
        assert all((p.data_ptr() in own) != (".lora_" in name) for name, p in adapted.named_parameters())


def test_without_a_model_the_base_of_the_adapter_is_taken(talker: Path, adapters: dict[str, Path]) -> None:
    model = Model(device="cpu", adapters={"med": adapters["med"]})
    assert model.directory == talker / "model"


def test_an_adapter_of_another_base_is_refused(tmp_path: Path, talker: Path, adapters: dict[str, Path]) -> None:
    tokenizer = Tokenizer.load(talker / "model")
    save_model(random_model(vocab_size=tokenizer.vocab_size, hidden_size=64), tmp_path / "other", tokenizer)
    with pytest.raises(UserError, match=r"lora_A.weight has shape \(3, 32\), .* says \(3, 64\)"):
        Model(tmp_path / "other", device="cpu", adapters=adapters)
    retrained = random_model(seed=2, vocab_size=tokenizer.vocab_size)
    save_model(retrained, tmp_path / "retrained", tokenizer)
    with pytest.raises(UserError, match="is an adapter of other weights than those in"):
        Model(tmp_path / "retrained", device="cpu", adapters=adapters)
    with pytest.raises(UserError, match="is a whole model, not an adapter"):
        Model(talker, device="cpu", adapters={"other": tmp_path / "other"})


def test_chat_switches_between_adapters(
    talker: Path,
    adapters: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = ["the cat", "/reset", "/adapter tax", "the cat", "/reset", "/adapter", "the cat", "/adapter law"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(line + "\n" for line in lines)))
    options = ["--device", "cpu", "--temperature", "0", "--max-tokens", "12"]
    options += ["--adapter", str(adapters["med"]), "--adapter", f"tax={adapters['law']}"]
    assert main(["chat", str(talker), *options]) == 0
    said = {
        name: Model(path, device="cpu").chat(MESSAGES, **GREEDY)["content"]
        for name, path in {"base": talker, **adapters}.items()
    }
    printed = capsys.readouterr()
    assert printed.out.replace("a new conversation\n", "") == (
        f"{said['med']}\ntax answers\n{said['law']}\nthe base alone answers\n{said['base']}\n"
    )
    assert printed.err == "error: there is no adapter law here, but med, tax\n"


def test_a_server_chooses_by_the_name_of_the_model(
    adapters: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["chat", "--url", "http://127.0.0.1:1", "--adapter", str(adapters["law"])]) == 2
    assert "--url asks a server, which holds its adapters itself; name one of them with --model" in (
        capsys.readouterr().err
    )


def test_models_show_says_what_an_adapter_is(
    talker: Path, adapters: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "show", str(adapters["med"]), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    D, F, H = 32, 48, 4 * 16  # widths of the model, the MLP, all heads
    parameters = 2 * 2 * ((D + H) + (F + D))  # of two layers, at rank 2
    assert shown["adapter"] == {
        "base": str(talker / "model"),
        "rank": 2,
        "alpha": 6,
        "rank_stabilized": False,
        "targets": ["down_proj", "q_proj"],
        "parameters": parameters,
    }
    assert main(["models", "show", str(adapters["med"])]) == 0
    printed = capsys.readouterr().out
    assert f"  base            {talker / 'model'}\n  rank            2 (alpha 6)\n" in printed
    assert (
        f"  parameters      {parameters:,}, {parameters / shown['parameters']['total']:.2%} of the base's"
        in printed
    )


@pytest.mark.parametrize("kind", ["hf", "gguf", "ollama"])
def test_an_export_merges_the_adapter_and_says_so(
    tmp_path: Path, talker: Path, adapters: dict[str, Path], capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """What is written gives the logits of the adapted model."""
    out, type_ = tmp_path / "out.gguf", [] if kind == "hf" else ["--type", "f32"]
    assert main(["export", kind, str(adapters["law"]), "--out", str(out), *type_]) == 0
    said = capsys.readouterr().out
    assert said.count(f"note: the LoRA adapter of rank 3 was merged into its base, {talker / 'model'}\n") == 1
    adapted = load_model(adapters["law"] / "model", merge=False)
    tokens = random_ids(2, 30)
    with torch.no_grad():
        wanted, base = adapted.logits(adapted(tokens)), Model(talker, device="cpu").logits(tokens)
    exported = Model(out / "model.gguf" if kind == "ollama" else out, device="cpu")
    assert relative(exported.logits(tokens), wanted) < 1e-5 < relative(base, wanted)
    if kind == "hf":
        with torch.no_grad():
            assert relative(AutoModelForCausalLM.from_pretrained(out)(tokens).logits, wanted) < 1e-5
