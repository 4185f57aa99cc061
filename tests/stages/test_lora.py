"""`--lora.rank`: any stage trains an adapter in place of the weights."""

import copy
import math
import re
import shutil

import pytest
import torch
from peft import PeftModel
from tests.distributed.test_two_processes import (
    CHANGES,
    train_alone_and_as_two,
)
from tests.helpers import (
    evaluations,
    last_checkpoint,
    losses,
    make_trainer,
    metrics,
    weights,
    weights_file,
)
from tests.invariant.test_accumulation import assert_close, in_float64
from tests.random_models import random_model
from transformers import AutoModelForCausalLM

from minimind import Model
from minimind.cli import main
from minimind.model import load_model, save_model
from minimind.model.hf.weights import load_tensors
from minimind.model.lora import has_lora, lora_layers, without_lora
from minimind.stages import STAGES
from minimind.tokenizer import Tokenizer

ADAPTER = {"adapter_config.json", "adapter_model.safetensors"}


@pytest.fixture
def adapted(sft):
    """`adapted(out, **changes)`: the arguments of a tiny fine-tuning of an adapter."""
    return lambda out, **changes: sft(out, **{"lora__rank": 4, **changes})


@pytest.fixture(scope="module")
def expert_base(tmp_path_factory, tokenizer_directory):
    """A model with experts, random in every matrix."""
    tokenizer = Tokenizer.load(tokenizer_directory)
    experts = {"model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
    model = random_model(vocab_size=tokenizer.vocab_size, std=0.1, **experts)
    directory = tmp_path_factory.mktemp("experts") / "model"
    save_model(model, directory, tokenizer)
    return directory


def adapter(model):
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


# ---------------------------------------------------------------------------------------- what comes out of a run


def test_a_run_ends_in_an_adapter(adapted, base_model, tmp_path, capsys):
    assert main(adapted(tmp_path / "run", budget__steps=4)) == 0
    assert losses(tmp_path / "run")[-1] < losses(tmp_path / "run")[0]
    D, F, heads, layers = 32, 64, 32, 2
    parameters = layers * 4 * (4 * (D + heads) + 3 * (D + F))
    said = capsys.readouterr().err
    kinds = "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"
    of_all = parameters / (parameters + sum(tensor.numel() for tensor in weights(base_model).values()))
    assert f"LoRA: {parameters:,} parameters ({of_all:.2%} of all) in 14 adapters ({kinds}); the rest is" in said
    for directory in (tmp_path / "run/model", last_checkpoint(tmp_path / "run"), tmp_path / "run/best"):
        names = {path.name for path in directory.iterdir()}
        assert names > ADAPTER
        assert not names & {"config.json", "model.safetensors"}


def test_only_the_adapter_moves_and_the_run_is_the_adapted_model(adapted, base_model, tmp_path):
    trainer = make_trainer(adapted(tmp_path / "run"))
    trainer.fit()
    model = trainer.model.eval()
    base = load_model(base_model)
    for name, tensor in base.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert all(parameter.abs().max() > 0 for parameter in adapter(model).values())
    tokens = torch.arange(3, 43)[None]
    with torch.no_grad():
        wanted = model.logits(model(tokens))
        assert (base.logits(base(tokens)) - wanted).abs().max() > 1e-3
    loaded = Model.load(tmp_path / "run", device="cpu")
    assert not has_lora(loaded.model)
    torch.testing.assert_close(loaded.logits(tokens), wanted, rtol=1e-5, atol=1e-5)

    assert main(["export", "hf", str(tmp_path / "run"), "--out", str(tmp_path / "merged")]) == 0
    assert (tmp_path / "merged/model.safetensors").exists()
    merged = Model.load(tmp_path / "merged", device="cpu")
    torch.testing.assert_close(merged.logits(tokens), wanted, rtol=1e-5, atol=1e-5)


def test_a_checkpoint_holds_the_adapter_as_it_is(adapted, tmp_path):
    trained = make_trainer(adapted(tmp_path / "run"))
    trained.fit()
    fresh = make_trainer(adapted(tmp_path / "other")).model
    load_tensors(fresh, last_checkpoint(tmp_path / "run"))
    assert adapter(fresh).keys() == adapter(trained.model).keys()
    for name, parameter in adapter(trained.model).items():
        assert torch.equal(adapter(fresh)[name], parameter)


def test_options_shape_the_adapter(adapted, tmp_path):
    changes = {"lora__alpha": 2, "lora__rank_stabilized": "true", "budget__steps": 1}
    targets = ["--lora.targets", "q_proj", "layers.1.mlp.down_proj"]
    assert main([*adapted(tmp_path / "run", **changes), *targets]) == 0
    layers = lora_layers(load_model(tmp_path / "run/model", merge=False))
    kinds = ["layers.0.self_attn.q_proj", "layers.1.self_attn.q_proj", "layers.1.mlp.down_proj"]
    assert [name.removeprefix("model.") for name in layers] == kinds
    assert all(layer.scale == 2 / math.sqrt(4) for layer in layers.values())


def test_train_lora_is_sft_of_an_adapter(sft, tmp_path, capsys):
    """`train lora` says by itself what `train sft --lora.rank` says; both by the same steps."""
    as_sft, as_lora = tmp_path / "sft", tmp_path / "lora"
    changes = {"budget__steps": 3}
    assert main(sft(as_sft, lora__rank=STAGES["lora"].defaults["lora"]["rank"], **changes)) == 0
    argv = sft(as_lora, **changes)
    argv[1] = "lora"
    assert main(argv) == 0
    assert losses(as_lora) == losses(as_sft)
    assert {path.name for path in (as_lora / "model").iterdir()} > ADAPTER
    capsys.readouterr()
    assert main([*argv, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"(?m)^adapter +[\d,]+ parameters \(\d+\.\d+% of all\) in 14 adapters \(q_proj, ", shown)


@pytest.mark.parametrize("stage", ["dpo", "grpo"])
def test_an_adapter_learns_at_every_stage(request, base_model, tmp_path, stage):
    """The first step starts at the base model: there the pairs are undecided, and sampled answers as likely as
    when they were sampled."""
    command = request.getfixturevalue(stage)
    assert main(command(tmp_path / "run", lora__rank=4, budget__steps=2)) == 0
    first = next(line for line in metrics(tmp_path / "run") if "eval" not in line)
    assert first["grad_norm"] > 0
    if stage == "dpo":
        assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)
    else:
        assert first["approx_kl"] < 1e-6
    assert weights_file(tmp_path / "run/model").name == "adapter_model.safetensors"
    trained, base = Model.load(tmp_path / "run", device="cpu"), Model.load(base_model, device="cpu")
    assert (trained.logits(torch.arange(9)[None]) - base.logits(torch.arange(9)[None])).abs().max() > 0


def test_an_adapter_is_trained_on_as_a_model(adapted, sft, tmp_path):
    """--from a run that trained an adapter: it is merged, and all weights learn."""
    assert main(adapted(tmp_path / "adapter", budget__steps=2)) == 0
    argv = sft(tmp_path / "run", budget__steps=1)
    argv[argv.index("--from") + 1] = str(tmp_path / "adapter")
    assert main(argv) == 0
    assert weights_file(tmp_path / "run/model").name == "model.safetensors"


# ---------------------------------------------------------------------------------------------------- invariants


@pytest.mark.parametrize(("optimizer", "rate", "bits"), [("muon", 0.02, 32), ("muon", 0.02, 4), ("sgd", 0.05, 32)])
def test_micro_batches_do_not_change_a_training(adapted, tmp_path, optimizer, rate, bits):
    """Six steps in fp64; the losses in metrics.jsonl were summed in fp32."""
    trained = []
    for sequences in (1, 8):
        changes = {
            "optimizer__name": optimizer,
            "optimizer__learning_rate": rate,
            "budget__steps": 6,
            "lora__base_bits": bits,
        }
        changes |= {"optimizer__grad_clip": 0, "batch__micro_batch_tokens": 32 * sequences}
        trainer = in_float64(make_trainer(adapted(tmp_path / f"{sequences}", **changes)))
        trainer.fit()
        assert trainer.step.micro_batch_size == sequences
        trained.append((losses(tmp_path / f"{sequences}"), adapter(trainer.model)))
    assert_close(*trained, weight_tolerance=1e-9, loss_tolerance=1e-6)


def test_micro_batches_do_not_change_adapters_of_experts(adapted, expert_base, tmp_path):
    trained = []
    for sequences in (1, 8):
        changes = {"budget__steps": 4, "optimizer__grad_clip": 0, "batch__micro_batch_tokens": 32 * sequences}
        argv = adapted(tmp_path / f"{sequences}", **changes)
        argv[argv.index("--from") + 1] = str(expert_base)
        trainer = in_float64(make_trainer(argv))
        trainer.fit()
        trained.append((losses(tmp_path / f"{sequences}"), adapter(trainer.model)))
    assert {name.rpartition("lora_")[2] for name in trained[0][1]} > {"A.gate_proj", "B.up_proj", "B.down_proj"}
    assert all(parameter.abs().max() > 0 for parameter in trained[0][1].values())
    assert_close(*trained, weight_tolerance=1e-9, loss_tolerance=1e-6)


@pytest.mark.parametrize("bits", [32, 4])
def test_two_processes_are_as_one(adapted, tmp_path, bits):
    changes = {**CHANGES, "lora__base_bits": bits}
    train_alone_and_as_two(adapted, tmp_path, **changes)


@pytest.mark.parametrize("bits", [32, 4])
def test_stopped_and_resumed_as_if_nothing_had_happened(adapted, stopped_and_whole, bits):
    """With dropout: what is dropped after the stop is what would have been. A rounded base is rounded anew."""
    changes = {"lora__dropout": 0.3, "lora__dora": "true", "optimizer__lora_rate_ratio": 4}
    changes |= {"lora__base_bits": bits}
    stopped_and_whole(adapted, 5, evaluation__every=3, evaluation__samples=1, **changes)


@pytest.mark.parametrize("bits", [8, 4])
def test_an_adapter_of_a_rounded_base_is_for_the_base_itself(adapted, base_model, tmp_path, bits):
    """Its files name the fp32 weights, and are merged into them. How far the model as used is from the model as
    trained is how far rounding alone moves the base."""
    trainer = make_trainer(adapted(tmp_path / "run", lora__base_bits=bits, budget__steps=12))
    trainer.fit()
    tokens = torch.arange(3, 43)[None]
    with torch.no_grad():
        trained = trainer.model.eval().logits(trainer.model(tokens))
        with without_lora(trainer.model):
            rounded = trainer.model.logits(trainer.model(tokens))
    base, used = Model.load(base_model, device="cpu"), Model.load(tmp_path / "run", device="cpu")
    by_rounding, wanted = (rounded - base.logits(tokens)).norm(), used.logits(tokens)
    assert by_rounding < (0.05 if bits == 8 else 0.5) * wanted.norm()
    assert 0 < (trained - wanted).norm() < 1.5 * by_rounding
    assert main(["export", "hf", str(tmp_path / "run"), "--out", str(tmp_path / "merged")]) == 0
    assert torch.equal(Model.load(tmp_path / "merged", device="cpu").logits(tokens), used.logits(tokens))
    opened = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base_model), str(tmp_path / "run/model")
    ).eval()
    with torch.no_grad():
        torch.testing.assert_close(opened(tokens).logits, used.logits(tokens), rtol=1e-4, atol=1e-4)


def test_evaluations_do_not_change_what_is_dropped(adapted, tmp_path):
    changes = {"lora__dropout": 0.3, "budget__steps": 4}
    for name, every in (("often", 1), ("seldom", 100)):
        assert main(adapted(tmp_path / name, evaluation__every=every, **changes)) == 0
    assert losses(tmp_path / "often") == losses(tmp_path / "seldom")
    last = evaluations(tmp_path / "often")[-1]["eval"]
    assert last == evaluations(tmp_path / "seldom")[-1]["eval"]
    model = Model.load(tmp_path / "often", device="cpu").model
    trainer = make_trainer(adapted(tmp_path / "other", **changes))
    load_tensors(trainer.model, tmp_path / "often/model")
    assert trainer.evaluation(4) == last  # before the training: nothing is dropped there either
    assert not has_lora(model)


def test_the_reference_of_a_policy_is_the_model_without_its_adapter(grpo, tmp_path):
    """rl.kl_weight with an adapter: as with a second model, and none is made."""
    changes = {"lora__rank": 4, "rl__kl_weight": 0.5, "budget__steps": 3}
    one, two = make_trainer(grpo(tmp_path / "one", **changes)), make_trainer(grpo(tmp_path / "two", **changes))
    assert one.source.reference is None
    two.source.reference = copy.deepcopy(two.model)  # at the beginning the adapter adds nothing
    one.fit()
    two.fit()
    assert losses(tmp_path / "one") == losses(tmp_path / "two")
    assert losses(tmp_path / "one", "kl")[2] > 0


# ----------------------------------------------------------------------------------------------------- bad input


def test_a_base_that_was_trained_again_is_noticed_at_resume(adapted, base_model, tmp_path, capsys):
    base = tmp_path / "base"
    shutil.copytree(base_model, base)
    argv = adapted(tmp_path / "run", budget__steps=2)
    argv[argv.index("--from") + 1] = str(base)
    assert main(argv) == 0
    model = load_model(base)
    model.model.norm.weight.data += 0.01
    save_model(model, base, Tokenizer.load(base))
    argv[argv.index("--budget.steps") + 1] = "4"
    capsys.readouterr()
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert f"error: {last_checkpoint(tmp_path / 'run')} is an adapter of other weights than those in {base}" in said


def test_an_adapter_from_scratch_is_refused(pretrain, sft, tmp_path, refusal):
    argv = sft(tmp_path / "run", lora__rank=4)
    del argv[argv.index("--from") : argv.index("--from") + 2]
    assert refusal(argv) == "error: sft starts from a model: name its directory with --from"
    said = refusal(pretrain(tmp_path / "run", lora__rank=4))
    assert said == "error: lora.rank: an adapter needs a model to adapt; name one with --from"


def test_unknown_targets_are_refused(adapted, tmp_path, refusal):
    said = refusal([*adapted(tmp_path / "run"), "--lora.targets", "q_proj", "query"])
    assert said.startswith("error: lora.targets: this model has no query to adapt; there are q_proj, k_proj, ")
    assert not (tmp_path / "run/checkpoints").exists()


def test_an_adapter_on_an_adapter_is_refused(adapted, tmp_path, refusal):
    assert main(adapted(tmp_path / "first", budget__steps=1)) == 0
    argv = adapted(tmp_path / "second")
    argv[argv.index("--from") + 1] = str(tmp_path / "first")
    said = refusal(argv)
    assert f"{tmp_path}/first/model is an adapter; merge it first: minimind export hf" in said


def test_the_stage_without_an_adapter_is_refused(adapted, tmp_path, refusal):
    argv = adapted(tmp_path / "run", lora__rank=0)
    assert refusal([argv[0], "lora", *argv[2:]]) == (
        "error: lora.rank 0 is no adapter, and the stage lora trains one; give it a rank, or train all weights by "
        "the stage sft"
    )


@pytest.mark.parametrize("changes", [{"lora__rank": -1}, {"lora__alpha": -2.0}])
def test_options_that_make_no_sense_are_refused(adapted, tmp_path, refusal, changes):
    assert "number from 0 to" in refusal(adapted(tmp_path / "run", **changes))


def test_a_rounded_base_needs_an_adapter_and_stays_as_it_was(adapted, tmp_path, refusal):
    assert "lora.base_bits: expected 4 or 8 or 32, got '16'" in refusal(
        adapted(tmp_path / "run", lora__base_bits=16)
    )
    said = refusal(adapted(tmp_path / "run", lora__rank=0, lora__base_bits=4))
    assert said.startswith("error: lora.base_bits is for the frozen base of an adapter; set lora.rank")
    assert main(adapted(tmp_path / "run", budget__steps=1, lora__base_bits=4)) == 0
    other = adapted(tmp_path / "run", budget__steps=1, lora__base_bits=8)
    assert "is a run with another recipe (lora.base_bits was 4, now 8)" in refusal(other)


def test_another_rank_does_not_continue_a_run(adapted, tmp_path, refusal):
    assert main(adapted(tmp_path / "run", budget__steps=1)) == 0
    assert "is a run with another recipe (lora.rank was 4, now 8)" in refusal(
        adapted(tmp_path / "run", budget__steps=1, lora__rank=8)
    )
