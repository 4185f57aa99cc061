"""Dispatch to experts: the sorted way equals the plain loop, and the router always learns."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.random_models import random_ids, random_model

from minimind.errors import UserError
from minimind.model import ModelConfig, Transformer
from minimind.model.moe import Router, dispatch_grouped, dispatch_loop


def inputs(tokens, top_k, experts, seed):
    """x, chosen experts, weights and matrices; some experts get no token at all."""
    torch.manual_seed(seed)
    used = int(torch.randint(top_k, experts + 1, ()))
    chosen_NK = torch.stack([torch.randperm(used)[:top_k] for _ in range(tokens)])
    real = [(tokens, 12), (tokens, top_k), (experts, 10, 12), (experts, 10, 12), (experts, 12, 10)]
    x, weights, *matrices = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in real)
    return [x, chosen_NK, weights, *matrices]


@settings(max_examples=40, deadline=None)
@given(tokens=st.integers(1, 40), experts=st.integers(2, 8), data=st.data(), seed=st.integers(0, 10_000))
def test_grouped_dispatch_equals_the_loop(tokens, experts, data, seed):
    """Output and all gradients, in fp64."""
    top_k = data.draw(st.integers(1, experts))
    arguments = inputs(tokens, top_k, experts, seed)
    results = []
    for dispatch in (dispatch_grouped, dispatch_loop):
        out = dispatch(*arguments)
        leaves = [tensor for tensor in arguments if tensor.is_floating_point()]
        results.append([out, *torch.autograd.grad((out * torch.linspace(-1, 1, 12)).sum(), leaves)])
    for found, wanted in zip(*results):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("top_k", [1, 2])
def test_an_expert_without_tokens_gets_a_zero_gradient(top_k):
    """Not none at all: every process of a training must have the same gradients to add up."""
    x, chosen, weights, gate, up, down = inputs(9, top_k, 4, 0)
    chosen.clamp_(max=2)
    dispatch_grouped(x, chosen, weights, gate, up, down).sum().backward()
    for matrix in (gate, up, down):
        assert not matrix.grad[3].any()
        assert matrix.grad[0].any()


def router(**fields):
    config = ModelConfig(**{"model_type": "qwen3_moe", "hidden_size": 16, "num_attention_heads": 2, **fields})
    gate = Router(config)
    torch.manual_seed(0)
    gate.weight.data.normal_()
    return gate


def test_top_1_with_normalised_weights_still_teaches_the_router():
    """Its weight is exactly 1, what Hugging Face and llama.cpp compute; its gradient is that of log p."""
    gate = router(num_experts_per_tok=1)
    x_ND, slope_N1 = torch.randn(7, 16), torch.randn(7, 1)
    weights_NK, routing = gate(x_ND)
    assert torch.equal(weights_NK, torch.ones(7, 1))
    (weights_NK * slope_N1).sum().backward()
    probabilities = routing.logits_NE.detach().softmax(-1)
    chosen = torch.nn.functional.one_hot(routing.chosen_NK[:, 0], 4)
    by_hand = ((chosen - probabilities) * slope_N1).T @ x_ND  # d log p_c / d logits = one-hot(c) − p
    torch.testing.assert_close(gate.weight.grad, by_hand, rtol=1e-5, atol=1e-6)
    assert gate.weight.grad.abs().max() > 0.1


def test_raw_weights_are_probabilities_and_normalised_ones_sum_to_one():
    x_ND = torch.randn(5, 16)
    raw, routing = router(norm_topk_prob=False)(x_ND)
    probabilities = routing.logits_NE.softmax(-1)
    torch.testing.assert_close(raw, probabilities.gather(1, routing.chosen_NK))
    normalized, _ = router()(x_ND)
    torch.testing.assert_close(normalized, raw / raw.sum(-1, keepdim=True))


def test_the_bias_of_a_sigmoid_router_chooses_but_does_not_weigh():
    gate = router(model_type="glm4_moe", num_experts_per_tok=2, norm_topk_prob=False, routed_scaling_factor=2.5)
    x_ND = torch.randn(6, 16)
    gate.e_score_correction_bias[3] = 10
    weights, routing = gate(x_ND)
    assert (routing.chosen_NK == 3).any(1).all()
    torch.testing.assert_close(weights, 2.5 * routing.logits_NE.sigmoid().gather(1, routing.chosen_NK))


@pytest.mark.parametrize("model_type", ["qwen3_moe", "qwen2_moe", "glm4_moe"])
def test_the_first_loss_is_that_of_equal_chances(model_type):
    model = Transformer(ModelConfig(vocab_size=500, hidden_size=64, num_hidden_layers=3, model_type=model_type))
    tokens = random_ids(4, 32, vocab_size=500)
    logits = model.logits(model(tokens))
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    assert abs(loss.item() / torch.log(torch.tensor(500.0)).item() - 1) < 0.02


@pytest.mark.parametrize("model_type", ["qwen3_moe", "qwen2_moe", "glm4_moe"])
def test_compiled_blocks_compute_the_same(model_type):
    """Loss and gradients, also for another routing than the one compiled with."""
    fields = {"model_type": model_type, "num_experts": 4, "n_shared_experts": int(model_type != "qwen3_moe")}
    plain, compiled = random_model(**fields), random_model(**fields)
    assert compiled.compile_blocks(print)
    for seed in (0, 1):
        gradients = []
        for model in (plain, compiled):
            model.routings = []
            hidden = model(random_ids(2, 24, seed=seed))
            assert len(model.routings) == 2
            model.zero_grad()
            hidden.square().mean().backward()
            gradients.append([hidden, *(parameter.grad for parameter in model.parameters())])
        for found, wanted in zip(*gradients):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"num_experts": 4}, "num_experts: qwen3 has no experts"),
        ({"model_type": "qwen3_moe", "n_shared_experts": 1}, "take model_type qwen2_moe or glm4_moe"),
        ({"model_type": "qwen2_moe", "routed_scaling_factor": 2.0}, "take model_type glm4_moe"),
        ({"model_type": "qwen3_moe", "num_experts": 1}, "must be at least 2"),
        ({"model_type": "qwen3_moe", "num_experts_per_tok": 5}, "not less than"),
        ({"model_type": "qwen3_moe", "num_experts": -1}, "num_experts must be a whole number from 0"),
    ],
)
def test_what_no_class_computes_is_refused(fields, sentence):
    with pytest.raises(UserError, match=sentence):
        ModelConfig(**fields)
