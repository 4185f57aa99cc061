"""Adapters against peft: logits, gradients, and files in both directions."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import torch.nn.functional as F
from tests.parity.test_model import relative
from tests.random_models import random_ids, random_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from minimind.errors import UserError
from minimind.model import Transformer, load_model, save_model
from minimind.model.hf.adapter import places
from minimind.model.hf.weights import base_of, load_tensors
from minimind.model.lora import LoraOptions, add_lora, has_lora, lora_layers

ATTENTION = ["q_proj", "v_proj"]
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
SHARED = ["shared_expert.gate_proj", "shared_expert.up_proj", "shared_expert.down_proj"]
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "qwen3-all-matrices": ({}, {}),
    "qwen3-untied-one-matrix": ({"tie_word_embeddings": False}, {"targets": ["down_proj"], "alpha": 5.0}),
    "llama-rank-stabilized": (
        {"model_type": "llama", "head_dim": None},
        {"rank_stabilized": True, "targets": ATTENTION},
    ),
    "qwen3-one-block": ({}, {"targets": ["layers.1.self_attn.q_proj", "layers.0.mlp.up_proj", "v_proj"]}),
    "dropout": ({}, {"dropout": 0.3}),
    "dora": ({}, {"dora": True}),
    "dora-with-dropout": ({}, {"dora": True, "dropout": 0.3, "rank_stabilized": True}),
    "attention-beside-experts": (
        {"model_type": "qwen3_moe", **EXPERTS},
        {"targets": ["q_proj", "o_proj"], "dora": True},
    ),
    "experts": ({"model_type": "qwen3_moe", **EXPERTS}, {}),
    "experts-rank-stabilized": (
        {"model_type": "qwen3_moe", **EXPERTS},
        {"targets": ["gate_proj", "up_proj", "down_proj"], "rank_stabilized": True},
    ),
    "experts-and-shared": (
        {"model_type": "glm4_moe", "n_shared_experts": 2, **EXPERTS},
        {"targets": ["v_proj", "down_proj", *SHARED]},
    ),
    "shared": ({"model_type": "qwen2_moe", "n_shared_experts": 1, **EXPERTS}, {"targets": ["q_proj", *SHARED]}),
}
variants = pytest.mark.parametrize(("fields", "options"), VARIANTS.values(), ids=VARIANTS)


def adapted_model(base: Path, fields: dict[str, Any], options: dict[str, Any]) -> Transformer:
    """A random model, saved in `base`, with an adapter that is random in all of its parts."""
    model = random_model(**fields)
    save_model(model, base)
    add_lora(model, LoraOptions(rank=3, **options), base=base_of(model, base))
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        if ".lora_B" in name or ".lora_magnitude" in name:
            parameter.data += torch.randn(parameter.shape, generator=generator) * 0.3
    return model


def open_with_peft(base: Path, adapter: Path, trainable: bool = False) -> torch.nn.Module:
    theirs = AutoModelForCausalLM.from_pretrained(base)
    model: torch.nn.Module = peft.PeftModel.from_pretrained(theirs, adapter, is_trainable=trainable)
    return model


@variants
def test_our_adapters_open_in_peft(tmp_path: Path, fields: dict[str, Any], options: dict[str, Any]) -> None:
    """Same logits, and same gradients of the same matrices, to 1e-5 of the largest value, in fp32; in training the
    same inputs are dropped."""
    ours = adapted_model(tmp_path / "base", fields, options)
    save_model(ours, tmp_path / "adapter")
    theirs = open_with_peft(tmp_path / "base", tmp_path / "adapter", trainable=True)
    tokens, targets = random_ids(3, 40).clamp(min=1), random_ids(3, 40, seed=1)
    for training in (False, True):
        torch.manual_seed(0)
        logits = ours.train(training).logits(ours(tokens))
        torch.manual_seed(0)
        wanted = theirs.train(training)(tokens).logits
        assert relative(logits.detach(), wanted.detach()) < 1e-5
    F.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
    F.cross_entropy(wanted.flatten(0, 1), targets.flatten()).backward()
    gradients = {
        name.replace(".default.", ".").replace("magnitude_vector.weight", "magnitude_vector"): parameter.grad
        for name, parameter in theirs.named_parameters()
        if parameter.grad is not None
    }
    gradients = by_expert(gradients)
    for name, parameter in ours.named_parameters():
        assert (parameter.grad is None) == (".lora_" not in name), name
        if parameter.grad is not None:
            parameter.data = parameter.grad
    for name, place in places(ours).items():  # what is doubled on disk has half the gradient there
        assert relative(place.tensor / place.factor, gradients.pop(name)) < 1e-5, name
    assert not gradients


def by_expert(fused: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Gradients of an adapter that we wrote and peft has fused: in A gate is above up, in B each is a block."""
    found = {name: gradient for name, gradient in fused.items() if ".experts." not in name}
    for name, a in fused.items():
        if match := re.fullmatch(r"(.*\.experts)(\.base_layer)?\.lora_A\.weight", name):
            b = fused[name.replace("lora_A", "lora_B")]
            kinds = ["gate_proj", "up_proj"] if len(b) == 2 * EXPERTS["moe_intermediate_size"] else ["down_proj"]
            a_KErI = a.view(4, len(kinds), 3, -1).transpose(0, 1)
            b_EOR = b.view(len(b), -1, 4).permute(2, 0, 1)
            for number, kind in enumerate(kinds):
                block = b_EOR.chunk(len(kinds), 1)[number].chunk(len(kinds), 2)[number]
                for e in range(4):
                    found[f"{match[1]}.{e}.{kind}.lora_A.weight"] = a_KErI[number, e]
                    found[f"{match[1]}.{e}.{kind}.lora_B.weight"] = block[e]
    return found


@variants
def test_adapters_of_peft_open_here(tmp_path: Path, fields: dict[str, Any], options: dict[str, Any]) -> None:
    save_model(random_model(**fields), tmp_path / "base")
    torch.manual_seed(0)
    targets = options.get("targets", "all-linear")
    if experts := fields.get("num_experts"):  # in peft they are parameters, of which gate and up are one
        names = options.get("targets", LoraOptions().targets)
        kinds = {"up_proj": "gate_up_proj", "down_proj": "down_proj"}
        shared = "shared_experts" if fields["model_type"] == "glm4_moe" else "shared_expert"
        parameters = [f"mlp.experts.{kinds[name]}" for name in names if name in kinds]
        parameters += [f"{name}.weight".replace("shared_expert", shared) for name in names if name in SHARED]
        targets = [name for name in names if name[0] in "qkvo"]
    config = peft.LoraConfig(
        r=3,
        lora_alpha=options.get("alpha", 6),
        use_rslora=options.get("rank_stabilized", False),
        use_dora=options.get("dora", False),
        target_modules=targets,
        target_parameters=parameters if experts else None,
        lora_dropout=0 if experts else 0.1,
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    theirs = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), config).eval()
    theirs.save_pretrained(tmp_path / "adapter")
    tokens = random_ids(2, 30)
    wanted = theirs(tokens).logits.detach()
    for merge in (True, False):
        ours = load_model(tmp_path / "adapter", merge=merge)
        assert has_lora(ours) != merge
        assert relative(ours.logits(ours(tokens)).detach(), wanted) < 1e-5
    save_model(ours, tmp_path / "again")
    again = open_with_peft(tmp_path / "base", tmp_path / "again").eval()
    assert relative(again(tokens).logits, wanted) < 1e-6


def test_transformers_opens_an_adapter_directory_by_itself(tmp_path: Path) -> None:
    ours = adapted_model(tmp_path / "base", {}, {})
    save_model(ours, tmp_path / "adapter")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "adapter")
    tokens = random_ids(2, 30)
    assert relative(theirs(tokens).logits.detach(), ours.logits(ours(tokens)).detach()) < 1e-5


@pytest.mark.parametrize("changes", [{"bias": "all"}, {"modules_to_save": ["lm_head"]}])
def test_other_adapters_of_peft_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    save_model(random_model(tie_word_embeddings=False), tmp_path / "base")
    config = peft.LoraConfig(r=2, target_modules=ATTENTION, task_type="CAUSAL_LM", **changes)
    theirs = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), config)
    theirs.save_pretrained(tmp_path / "adapter")
    with pytest.raises(UserError, match=f"{next(iter(changes))} = .* is not supported"):
        load_model(tmp_path / "adapter")


def test_every_default_of_peft_is_understood(tmp_path: Path) -> None:
    """A setting that a newer peft writes is either empty or one that we know."""
    save_model(random_model(), tmp_path / "base")
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=r".*\.(0|1)\.self_attn\.[qv]_proj")
    theirs = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), config)
    theirs.save_pretrained(tmp_path / "adapter")
    assert isinstance(json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["target_modules"], str)
    names = lora_layers(load_model(tmp_path / "adapter", merge=False))
    assert sorted({name.rpartition(".")[2] for name in names}) == ATTENTION


def reward_adapter(directory: Path) -> Transformer:
    """A language model, saved as `base`, with an adapter that makes a reward model of it, saved and random."""
    language_model = random_model()
    save_model(language_model, directory / "base")
    model = load_model(directory / "base")
    model = Transformer(replace(model.config, num_labels=1), seed=None)
    load_tensors(model, directory / "base")
    add_lora(model, LoraOptions(rank=3), base=base_of(model, directory / "base"))
    torch.manual_seed(5)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn_like(parameter)
    save_model(model, directory / "adapter")
    return model.eval()


def test_an_adapter_of_a_reward_model_opens_in_peft_and_comes_back(tmp_path: Path) -> None:
    """With its head, which is trained as a whole; same scores, same gradients."""
    ours = reward_adapter(tmp_path)
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=1)
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter", is_trainable=True)
    assert isinstance(theirs, peft.PeftModelForSequenceClassification)
    tokens = random_ids(1, 20).clamp(min=1)
    wanted = theirs.eval()(tokens, attention_mask=torch.ones_like(tokens)).logits[0, 0]
    found = ours.score(ours(tokens)[0, -1])[0]
    assert relative(found.detach(), wanted.detach()) < 1e-5
    found.backward()
    wanted.backward()
    gradients = {
        name.replace(".default", "").replace(".modules_to_save", ""): parameter.grad
        for name, parameter in theirs.named_parameters()
        if parameter.grad is not None
    }
    trained = {name: p for name, p in ours.named_parameters() if p.grad is not None}
    assert gradients.keys() == places(ours).keys()
    assert len(trained) == len(gradients)
    for name, parameter in trained.items():
        assert relative(parameter.grad, gradients[f"base_model.model.{name}"]) < 1e-4, name
    theirs.save_pretrained(tmp_path / "back")
    back, merged = load_model(tmp_path / "back", merge=False), load_model(tmp_path / "adapter")
    for name, parameter in ours.named_parameters():
        assert torch.equal(back.get_parameter(name), parameter), name
    assert merged.config.num_labels == 1
    assert not has_lora(merged)
    with torch.no_grad():
        assert relative(merged.score(merged(tokens)[0, -1])[0], wanted.detach()) < 1e-5


def test_an_adapter_of_a_reward_model_that_peft_made_is_used_here(tmp_path: Path) -> None:
    save_model(random_model(), tmp_path / "base")
    theirs = peft.get_peft_model(
        AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=1),
        peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"], task_type="SEQ_CLS"),
    )
    for parameter in theirs.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn_like(parameter)
    theirs.save_pretrained(tmp_path / "adapter")
    ours, tokens = load_model(tmp_path / "adapter"), random_ids(1, 20).clamp(min=1)
    with torch.no_grad():
        wanted = theirs.eval()(tokens, attention_mask=torch.ones_like(tokens)).logits[0, 0]
        assert relative(ours.score(ours(tokens)[0, -1])[0], wanted) < 1e-5
