"""LoRA: what is trained, merging, files, and what is said of an adapter that does not fit."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tests.random_models import SHAPE, random_ids, random_model
from transformers import AutoModelForCausalLM

from minimind import Model
from minimind.errors import UserError
from minimind.infer.engine import Engine
from minimind.infer.sampler import SamplingParams
from minimind.interop.hf import export_hf
from minimind.model import Transformer, load_model, save_model
from minimind.model.hf.weights import add_adapter, base_of, load_tensors, model_directory, write_model
from minimind.model.lora import (
    LoraExperts,
    LoraOptions,
    add_lora,
    has_lora,
    merge_lora,
    unmerge_lora,
    without_lora,
)
from minimind.model.moe import dispatch_loop
from minimind.model.rope import scale_rope
from minimind.optim.groups import build_optimizers
from minimind.optim.options import OptimizerOptions
from minimind.tokenizer import Tokenizer

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
EXPERTS = {"model_type": "qwen2_moe", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}


KINDS: dict[str, dict[str, Any]] = {
    "dense": {},
    "dora": {"lora": {"dora": True, "dropout": 0.5}},
    "attention-beside-experts": {"targets": ["q_proj", "o_proj"], **EXPERTS, "n_shared_experts": 2},
    "experts": {"targets": [*ATTENTION, "gate_proj", "shared_expert.down_proj"], **EXPERTS, "n_shared_experts": 1},
}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def fields_of(kind: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kind.items() if name not in ("targets", "lora")}


def adapted_model(
    targets: list[str] | None = None, base: Path | None = None, lora: dict[str, Any] | None = None, **fields: Any
) -> Transformer:
    """A random model with an adapter that is random in all of its parts; `lora`: further options."""
    model = random_model(**fields)
    named = {} if targets is None else {"targets": targets}
    add_lora(model, LoraOptions(rank=3, **named, **(lora or {})), seed=7, base=base and base_of(model, base))
    return with_random_adapter(model)


def with_random_adapter(model: Transformer) -> Transformer:
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        if ".lora_B" in name or ".lora_magnitude" in name:
            parameter.data += torch.randn(parameter.shape, generator=generator) * 0.3
    return model


def logits(model: Transformer, tokens: torch.Tensor | None = None) -> torch.Tensor:
    return model.logits(model(random_ids(3, 40) if tokens is None else tokens))


def loss(model: Transformer) -> torch.Tensor:
    return F.cross_entropy(logits(model).flatten(0, 1), random_ids(3, 40, seed=1).flatten())


def bits(model: Transformer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


# ------------------------------------------------------------------------------------------- what is trained


def test_a_new_adapter_changes_nothing_yet_and_covers_what_it_says() -> None:
    model = random_model()
    before, wanted, state = bits(model), logits(model), torch.get_rng_state()
    coverage = add_lora(model, LoraOptions(rank=3), seed=7)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(logits(model), wanted)
    after = bits(model)
    assert_same({name: after[name] for name in before}, before)
    assert len(coverage.modules) == 2 * 7
    D, F_, H, K = 32, 48, 4 * 16, 2 * 16  # widths of the model, the MLP, all heads, all key heads
    assert coverage.parameters == 2 * 3 * ((D + H) * 2 + (D + K) * 2 + (D + F_) * 3)
    assert coverage.parameters == sum(after[name].numel() for name in after.keys() - before.keys())


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_only_the_adapter_is_trained(name: Any) -> None:
    model = adapted_model()
    before = bits(model)
    options = OptimizerOptions(name=name, learning_rate=0.01, embedding_learning_rate=0.01)
    (optimizer,) = build_optimizers(model, options, torch.float32)
    first = loss(model)
    for _ in range(5):
        loss(model).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss(model) < first
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) != (".lora_" in name), name


def test_the_seed_decides_how_an_adapter_begins() -> None:
    first, second, third = (random_model() for _ in range(3))
    for model, seed in ((first, 1), (second, 1), (third, 2)):
        add_lora(model, LoraOptions(rank=3), seed=seed)
    assert_same(bits(first), bits(second))
    name = "model.layers.0.self_attn.q_proj.lora_A.weight"
    assert not torch.equal(bits(first)[name], bits(third)[name])
    assert bits(first)[name].abs().max() <= 32**-0.5


def test_scale_of_what_is_added() -> None:
    assert LoraOptions(rank=8).scale() == 2
    assert LoraOptions(rank=8, alpha=4).scale() == 0.5
    assert LoraOptions(rank=16, alpha=4, rank_stabilized=True).scale() == 1


@each_kind
def test_the_base_can_be_asked_while_the_adapter_is_there(kind: dict[str, Any]) -> None:
    model, base = adapted_model(**kind), random_model(**fields_of(kind))
    adapted = logits(model)
    with without_lora(model):
        assert torch.equal(logits(model), logits(base))
    assert torch.equal(logits(model), adapted)
    assert not torch.equal(logits(base), adapted)


def test_each_expert_has_a_correction_of_its_own() -> None:
    """The grouped products with A and B, against each expert's merged matrix in the reference's loop."""
    model = adapted_model(["up_proj", "down_proj"], **EXPERTS).double()
    experts = model.get_submodule("model.layers.0.mlp.experts")
    assert isinstance(experts, LoraExperts)
    generator = torch.Generator().manual_seed(0)
    x_ND = torch.randn(11, 32, generator=generator, dtype=torch.float64)
    weights_NK, chosen_NK = torch.rand(11, 4, generator=generator, dtype=torch.float64).topk(2)
    parts = [experts.get_parameter(part) for part in ("lora_A.up_proj", "lora_B.up_proj", "lora_B.down_proj")]

    def merged(kind: str) -> torch.Tensor:
        low_rank = [b @ a for a, b in zip(experts.lora_A[kind], experts.lora_B[kind])]
        return experts.get_parameter(kind) + 2 * torch.stack(low_rank)

    matrices = experts.gate_proj, merged("up_proj"), merged("down_proj")
    outs = experts(x_ND, chosen_NK, weights_NK), dispatch_loop(x_ND, chosen_NK, weights_NK, *matrices)
    found, wanted = ([out, *torch.autograd.grad(out.square().sum(), parts)] for out in outs)
    for one, other in zip(found, wanted):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_a_training_drops_inputs_and_an_evaluation_none() -> None:
    model = adapted_model(lora={"dropout": 0.5})
    plain = logits(adapted_model())
    assert torch.equal(logits(model.eval()), plain)
    seen = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        seen.append(logits(model.train()))
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], plain)


def test_activation_checkpointing_gives_the_same_gradients() -> None:
    """Also where inputs are dropped: the same ones when a block is computed again."""
    gradients = []
    for checkpointing in (False, True):
        model = adapted_model(lora={"dropout": 0.5}).train()
        model.activation_checkpointing = checkpointing
        torch.manual_seed(0)
        loss(model).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert len(gradients[0]) == 2 * 7 * 2
    assert_same(*gradients)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [KINDS["dora"], KINDS["experts"]], ids=["dora", "experts"])
def test_compiled_equals_eager(kind: dict[str, Any]) -> None:
    model = adapted_model(**kind)
    wanted = logits(model)
    loss(model).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    assert model.compile_blocks(print)
    torch.testing.assert_close(logits(model), wanted, rtol=1e-5, atol=1e-5 * float(wanted.detach().abs().max()))
    loss(model).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (name not in gradients)
        if parameter.grad is not None:
            limit = 1e-5 * float(gradients[name].abs().max())
            torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-5, atol=limit)


# --------------------------------------------------------------------------------------------------- merging


@each_kind
def test_merged_equals_unmerged(kind: dict[str, Any]) -> None:
    model, fields = adapted_model(**kind).cast(torch.float64), fields_of(kind)
    before, wanted = bits(model), logits(model)
    layers = merge_lora(model)
    assert not has_lora(model)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert bits(model).keys() == random_model(**fields).state_dict().keys()
    assert float((logits(model) - wanted).detach().abs().max() / wanted.detach().abs().max()) < 1e-12
    unmerge_lora(model, layers)
    assert_same(bits(model), before)
    assert torch.equal(logits(model), wanted)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {n for n in before if ".lora_" in n}


@each_kind
def test_an_engine_reads_an_adapted_model_as_it_is(kind: dict[str, Any]) -> None:
    model, fields = adapted_model(**kind), fields_of(kind)
    prompts = [random_ids(length, seed=length).tolist() for length in (3, 17, 40)]
    params = SamplingParams(temperature=0, max_tokens=20, stop_ids=())
    unmerged = [completion.ids for completion in Engine(model).generate(prompts, params)]
    assert has_lora(model)
    base = [completion.ids for completion in Engine(random_model(**fields)).generate(prompts, params)]
    merge_lora(model)
    assert unmerged == [completion.ids for completion in Engine(model).generate(prompts, params)] != base


# ----------------------------------------------------------------------------------------------------- files


@pytest.fixture
def base(tmp_path: Path) -> Path:
    save_model(random_model(), tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def adapter(tmp_path: Path, base: Path) -> Path:
    save_model(adapted_model(base=base), tmp_path / "run" / "model")
    return tmp_path / "run" / "model"


def test_an_adapter_is_saved_alone_and_loaded_to_the_last_bit(base: Path, adapter: Path) -> None:
    wanted = adapted_model()
    assert {path.name for path in adapter.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "generation_config.json",
        "SHA256SUMS",
    }
    assert_same(bits(load_model(adapter, merge=False)), bits(wanted))
    merge_lora(wanted)
    assert_same(bits(load_model(adapter)), bits(wanted))
    assert_same(bits(load_model(base)), bits(random_model()))


def test_an_adapter_goes_back_into_a_model_in_training(base: Path, adapter: Path) -> None:
    model = random_model()
    add_adapter(model, LoraOptions(rank=3), 0, base)
    load_tensors(model, adapter)
    assert_same(bits(model), bits(adapted_model()))


def test_an_adapter_merged_into_its_base_is_trained_as_a_whole(adapter: Path) -> None:
    model = Transformer(load_model(adapter).config, seed=0)
    load_tensors(model, adapter)
    assert_same(bits(model), bits(load_model(adapter)))
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_base_and_adapter_move_together(tmp_path: Path, base: Path, adapter: Path) -> None:
    wanted = bits(load_model(adapter))
    change_settings(adapter, base_model_name_or_path="../../base")
    shutil.move(tmp_path / "run", tmp_path / "moved" / "run")
    shutil.move(base, tmp_path / "moved" / "base")
    assert_same(bits(load_model(tmp_path / "moved" / "run" / "model")), wanted)


def test_a_run_that_trained_an_adapter_is_used_as_any_other(tmp_path: Path, tokenizer_directory: Path) -> None:
    tokenizer = Tokenizer.load(tokenizer_directory)
    model = random_model(vocab_size=tokenizer.vocab_size)
    save_model(model, tmp_path / "base", tokenizer)
    add_adapter(model, LoraOptions(rank=3), 0, tmp_path / "base")
    with_random_adapter(model)
    save_model(model, tmp_path / "run" / "model", tokenizer)
    assert model_directory(tmp_path / "run") == tmp_path / "run" / "model"
    tokens = random_ids(2, 30)
    wanted = logits(model, tokens).detach()
    loaded = Model.load(tmp_path / "run", device="cpu")
    torch.testing.assert_close(loaded.logits(tokens), wanted, rtol=1e-5, atol=1e-4)
    assert loaded.predict("the cat", max_tokens=4, temperature=0)
    export_hf(tmp_path / "run", tmp_path / "out")
    assert (
        "A LoRA adapter of rank 3 was trained on `base` and is merged" in (tmp_path / "out/README.md").read_text()
    )
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(theirs(tokens).logits, wanted, rtol=1e-5, atol=1e-4)


def test_the_type_of_the_weights(adapter: Path) -> None:
    assert all(
        tensor.dtype == torch.float32 for tensor in load_file(adapter / "adapter_model.safetensors").values()
    )
    model = load_model(adapter, dtype=torch.bfloat16, merge=False)
    assert all(parameter.dtype == torch.bfloat16 for parameter in model.parameters())


# ------------------------------------------------------------------------------------------------- bad input


def change_settings(adapter: Path, **changes: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("fields", "targets", "sentence"),
    [
        ({}, ["q_proj", "query"], "lora.targets: this model has no query to adapt; there are q_proj, k_proj"),
        ({}, ["lm_head"], "this model has no lm_head to adapt"),
        (EXPERTS, ["q_proj", "gate"], "no gate to adapt; there are q_proj, k_proj, v_proj, o_proj, gate_proj"),
        ({**EXPERTS, "model_type": "qwen3_moe"}, ["shared_expert.up_proj"], "no shared_expert.up_proj to adapt"),
    ],
)
def test_targets_that_are_not_there(fields: dict[str, Any], targets: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        adapted_model(targets, **fields)


@pytest.mark.parametrize(
    "options", [{"rank": -1}, {"rank": 8, "alpha": -1.0}, {"rank": 8, "targets": []}, {"rank": 8, "dropout": 1.0}]
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"lora\.\w+ .*(number from 0|is empty)"):
        LoraOptions(**options)


@pytest.mark.parametrize("options", [{"dora": True}, {"dropout": 0.1}])
def test_what_experts_cannot_have(options: dict[str, Any]) -> None:
    with pytest.raises(
        UserError, match=f"lora.{next(iter(options))} cannot be had for experts; give --lora.targets"
    ):
        adapted_model(lora=options, **EXPERTS)
    assert has_lora(adapted_model(ATTENTION, lora=options, **EXPERTS))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"base_model_name_or_path": "some/where"}, "is an adapter of some/where, and there is no such directory"),
        ({"base_model_name_or_path": None}, "adapter_config.json names no base; set base_model_name_or_path"),
        ({"peft_type": "IA3"}, "peft_type = 'IA3' is not supported"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights = 'pissa' is not supported"),
        ({"something_new": 3}, "something_new = 3 is not supported"),
        ({"r": "many"}, "r must be a whole number from 1 to 65,536, not 'many'"),
        ({"r": 0}, "r must be a whole number from 1 to 65,536, not 0"),
        ({"r": 4}, r"has shape \(3, 32\), adapter_config.json with its base says \(4, 32\)"),
    ],
)
def test_settings_that_do_not_fit(adapter: Path, changes: dict[str, Any], sentence: str) -> None:
    change_settings(adapter, **changes)
    with pytest.raises(UserError, match=sentence):
        load_model(adapter)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"hidden_size": 16}, r"lora_\w.weight has shape .* with its base says"),
        ({"num_hidden_layers": 1}, r"tensor base_model.model.model.layers.1\..* is not part of the model"),
    ],
)
def test_an_adapter_of_another_base(base: Path, adapter: Path, fields: dict[str, Any], sentence: str) -> None:
    save_model(random_model(**{**SHAPE, **fields}), base)
    with pytest.raises(UserError, match=sentence):
        load_model(adapter)


def test_an_adapter_of_other_weights(base: Path, adapter: Path) -> None:
    """Of the same shape: only the checksum of the base can tell."""
    save_model(random_model(seed=2), base)
    with pytest.raises(UserError, match=r"is an adapter of other weights than those in .*base now"):
        load_model(adapter)
    model = random_model(seed=2)
    add_adapter(model, LoraOptions(rank=3), 0, base)
    with pytest.raises(UserError, match=r"is an adapter of other weights than those in .*base now"):
        load_tensors(model, adapter)


def test_a_base_in_other_files_is_the_same(base: Path, adapter: Path) -> None:
    shutil.rmtree(base)
    base.mkdir()
    write_model(random_model(), base, part_bytes=20_000)
    assert len(list(base.glob("*.safetensors"))) > 1
    assert has_lora(load_model(adapter, merge=False))


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_damaged_file(adapter: Path, file: str) -> None:
    (adapter / file).write_bytes((adapter / file).read_bytes()[:-100])
    with pytest.raises(UserError, match=f"{file} is (damaged|not valid JSON)"):
        load_model(adapter)


def test_no_tensors(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match=r"has no adapter_model\.safetensors"):
        load_model(adapter)


def test_what_an_adapter_cannot_be_trained_on(base: Path, adapter: Path) -> None:
    with pytest.raises(UserError, match="is an adapter; merge it first: minimind export hf"):
        add_adapter(load_model(adapter), LoraOptions(rank=2), 0, adapter)
    stretched = Transformer(scale_rope(load_model(base).config, 2.0, "yarn", 64), seed=0)
    with pytest.raises(UserError, match="an adapter does not keep other positions than its base's"):
        add_adapter(stretched, LoraOptions(rank=2), 0, base)
