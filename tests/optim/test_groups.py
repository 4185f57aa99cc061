"""Which parameter is moved by what, and that a step with a bad gradient leaves no trace."""

import pytest
import torch
from tests.helpers import assert_equal_trees

from minimind.model import ModelConfig, Transformer
from minimind.model.lora import LoraOptions, add_lora
from minimind.optim.groups import build_optimizers
from minimind.optim.options import OptimizerOptions
from minimind.train.objective import NextToken
from minimind.train.step import TrainStep
from minimind.train.strategies.single import SingleDevice


def model(tied=True):
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return Transformer(ModelConfig(vocab_size=50, tie_word_embeddings=tied, **shape))


def options_of(**options):
    return OptimizerOptions(**{"learning_rate": 0.02, "embedding_learning_rate": 0.006, **options})


def step_of(network, **options):
    strategy = SingleDevice(torch.device("cpu"))
    return TrainStep(network, NextToken(), [], options_of(**options), strategy, micro_batch_size=1)


def settings_of(network, optimizers):
    """name -> (optimizer's class, rate, decay) of every parameter."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found = {}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                assert names[id(parameter)] not in found
                kind = type(optimizer).__name__
                found[names[id(parameter)]] = (kind, group["initial_lr"], group["weight_decay"])
    return found


@pytest.mark.parametrize("name", ["muon", "adamw", "sgd"])
def test_an_adapters_b_has_a_rate_of_its_own(name):
    """LoRA+; the groups as peft's `create_loraplus_optimizer` makes them."""
    network = model()
    add_lora(network, LoraOptions(rank=2, dora=True))
    found = settings_of(
        network, build_optimizers(network, options_of(name=name, lora_rate_ratio=16), torch.float32)
    )
    assert found.keys() == {name for name, p in network.named_parameters() if p.requires_grad}
    rates = {part: {rate for n, (_, rate, _) in found.items() if part in n} for part in ("_A", "_B", "magnitude")}
    assert rates == {"_A": {0.02}, "_B": {0.32}, "magnitude": {0.006}}
    (only,) = build_optimizers(network, options_of(name="sgd"), torch.float32)
    assert len(only.param_groups) == 2  # of the lengths and all others, as before there was a ratio


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["muon", "adamw", "sgd"])
def test_every_parameter_is_in_one_optimizer_and_only_matrices_decay(name, tied):
    network = model(tied)
    embedding_rate = 0.006 if name == "muon" else 0.02
    options = options_of(name=name, embedding_learning_rate=embedding_rate, weight_decay=0.1)
    found = settings_of(network, build_optimizers(network, options, torch.float32))
    assert found.keys() == dict(network.named_parameters()).keys()
    for parameter, (kind, rate, decay) in found.items():
        outer, norm = "embed" in parameter or "lm_head" in parameter, "norm" in parameter
        inner = not outer and not norm
        if name == "muon":
            assert kind == ("Muon" if inner else "AdamW")
            assert rate == pytest.approx(0.02 if inner else 0.006)
            assert decay == (0.1 if inner else 0)
        else:
            assert kind == {"adamw": "AdamW", "sgd": "SGD"}[name]
            assert rate == 0.02
            assert decay == (0 if norm else 0.1)


def test_the_embeddings_rate_can_be_given():
    network = model()
    options = options_of(embedding_learning_rate=0.001)
    found = settings_of(network, build_optimizers(network, options, torch.float32))
    assert found["model.embed_tokens.weight"][1] == found["model.norm.weight"][1] == 0.001
    assert found["model.layers.0.mlp.up_proj.weight"][1] == 0.02


@pytest.mark.parametrize("name", ["muon", "adamw", "sgd"])
def test_frozen_parameters_are_in_none_and_a_head_beside_the_model_is_as_the_embedding(name):
    network, head = model(), torch.nn.Linear(32, 3)
    network.requires_grad_(False)
    network.model.layers[1].mlp.up_proj.weight.requires_grad_(True)
    options = options_of(name=name, weight_decay=0.1)
    optimizers = build_optimizers(network, options, torch.float32, list(head.parameters()))
    rates = {id(p): group["initial_lr"] for o in optimizers for group in o.param_groups for p in group["params"]}
    inner = network.model.layers[1].mlp.up_proj.weight
    assert rates == {id(inner): 0.02, id(head.weight): 0.006, id(head.bias): 0.006}


def give_gradients(network, seed):
    torch.manual_seed(seed)
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)


def snapshot(network, step):
    state = [{"state": optimizer.state_dict()["state"]} for optimizer in step.optimizers]
    return torch.utils._pytree.tree_map(
        lambda x: x.clone() if isinstance(x, torch.Tensor) else x, [dict(network.state_dict()), state]
    )


@pytest.mark.parametrize("what", ["gradient", "loss"])
@pytest.mark.parametrize("name", ["muon", "adamw", "sgd"])
def test_a_bad_step_changes_no_bit(name, what):
    network = model()
    step = step_of(network, name=name, weight_decay=0.1)
    fine, bad = torch.tensor(3.0), torch.tensor(torch.nan)
    for seed in range(2):
        give_gradients(network, seed)
        assert torch.isfinite(step.update(1.0, fine))
    before = snapshot(network, step)
    give_gradients(network, 7)
    if what == "gradient":
        network.model.layers[1].mlp.up_proj.weight.grad[3, 4] = torch.inf
    assert not torch.isfinite(step.update(1.0, fine if what == "gradient" else bad))
    assert_equal_trees(snapshot(network, step), before)
    give_gradients(network, 8)
    step.update(1.0, fine)
    assert not torch.equal(network.output_weight, before[0]["model.embed_tokens.weight"])


@pytest.mark.parametrize("name", ["muon", "adamw", "sgd"])
def test_a_bad_first_step_is_as_if_it_had_not_been(name):
    states = []
    for bad_first in (True, False):
        network = model()
        step = step_of(network, name=name)
        if bad_first:
            give_gradients(network, 5)
            step.update(1.0, torch.tensor(torch.inf))
        give_gradients(network, 6)
        step.update(1.0, torch.tensor(1.0))
        states.append(snapshot(network, step))
    assert_equal_trees(*states)


def test_clipping_is_that_of_the_whole_gradient():
    network, clipped = model(), []
    step = step_of(network, name="sgd")
    give_gradients(network, 1)
    whole = torch.cat([p.grad.flatten() for p in network.parameters()])
    for optimizer in step.optimizers:
        optimizer.register_step_pre_hook(
            lambda optimizer, *_: clipped.extend(
                p.grad.flatten() for g in optimizer.param_groups for p in g["params"]
            )
        )
    norm = step.update(1.0, torch.tensor(0.0))
    assert norm.item() == pytest.approx(whole.norm().item(), rel=1e-6)
    assert torch.cat(clipped).norm().item() == pytest.approx(1.0, rel=1e-5)
