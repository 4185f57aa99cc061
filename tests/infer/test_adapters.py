"""Adapters side by side in an engine: each request's answer is that of its own adapted model alone.

In fp64, since the order of a sum depends on what else is in the batch. The reference is `generate` on a model with
the one adapter in it.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.infer.test_engine import random_prompts
from tests.random_models import random_model

from minimind.errors import UserError
from minimind.infer import slots
from minimind.infer.engine import Engine
from minimind.infer.generate import generate
from minimind.infer.network import Int8
from minimind.infer.request import Request
from minimind.infer.sampler import SamplingParams
from minimind.infer.score import score
from minimind.model import Transformer
from minimind.model.lora import LoraLinear, LoraOptions, add_lora, lora_layers, merge_lora
from minimind.model.transformer import Linear

OPTIONS = {
    "all": LoraOptions(rank=3),
    "one": LoraOptions(rank=1, alpha=0.5, targets=["down_proj"]),
    "rslora": LoraOptions(rank=8, rank_stabilized=True, alpha=3, targets=["q_proj", "v_proj", "up_proj"]),
    "dora": LoraOptions(rank=2, dora=True, targets=["k_proj", "o_proj", "gate_proj"]),
    "block": LoraOptions(rank=5, targets=["layers.1.self_attn.k_proj", "layers.0.self_attn.o_proj"]),
}
NAMES = [None, *OPTIONS]
EXPERTS = {"model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}


def adapted(
    options: LoraOptions | None, seed: int = 0, dtype: torch.dtype = torch.float64, **fields: Any
) -> Transformer:
    """The base, with a random adapter if there are options."""
    model = random_model(tie_word_embeddings=False, **fields)
    if options is not None:
        add_lora(model, options)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if ".lora_magnitude_vector" in name:
            parameter.data *= 1 + torch.rand(parameter.shape, generator=generator)
        elif ".lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return model.cast(dtype)


MODELS = {
    None: adapted(None),
    **{name: adapted(options, seed) for seed, (name, options) in enumerate(OPTIONS.items())},
}
ADAPTERS = {name: model for name, model in MODELS.items() if name is not None}


def params(max_tokens: int, seed: int | None = None) -> SamplingParams:
    return SamplingParams(temperature=0 if seed is None else 1, max_tokens=max_tokens, stop_ids=(3, 4), seed=seed)


def assert_is_the_answer(request: Request, model: Transformer) -> None:
    *tokens, last = generate(model, request.prompt, request.params)
    tokens += [] if last.id in request.params.stop_ids else [last]
    assert request.ids == [token.id for token in tokens]
    assert request.logprobs == pytest.approx([token.logprob for token in tokens], rel=1e-6, abs=1e-6)  # fp32 ones


def run(engine: Engine, requests: list[Request]) -> None:
    while any(request.stop_reason is None for request in requests):
        engine.step()


Arrival = tuple[int, int, int, Any, int]  # at which step, own tokens of the prompt, shared ones, adapter, answer


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    arrivals=st.lists(
        st.tuples(
            st.integers(0, 15), st.integers(1, 40), st.integers(0, 60), st.sampled_from(NAMES), st.integers(1, 12)
        ),
        min_size=1,
        max_size=12,
    ),
    max_batch=st.integers(1, 8),
    prefill_tokens=st.integers(1, 80),
)
def test_every_request_is_answered_as_by_its_own_model(
    arrivals: list[Arrival], max_batch: int, prefill_tokens: int
) -> None:
    """Whatever adapters the others have, and though prompts begin alike: keys are never another adapter's."""
    engine = Engine(MODELS[None], max_batch, prefill_tokens=prefill_tokens, adapters=ADAPTERS)
    common, own = random_prompts([60], seed=1)[0], random_prompts([length for _, length, *_ in arrivals], seed=2)
    requests = []
    for step in range(16):
        for number, (when, _, shared, adapter, tokens) in enumerate(arrivals):
            if when == step:
                sampling = params(tokens, seed=number if number % 2 else None)
                requests.append(engine.submit(common[:shared] + own[number], sampling, adapter))
        engine.step()
    run(engine, requests)
    for request in requests:
        assert_is_the_answer(request, MODELS[request.adapter])


def test_answers_differ_between_adapters_and_equal_those_of_merged_models() -> None:
    prompts = random_prompts([20]) * len(NAMES)
    found = Engine(MODELS[None], adapters=ADAPTERS).generate(prompts, params(12), NAMES)
    assert len({tuple(completion.ids) for completion in found}) == len(NAMES)
    for name, completion in zip(NAMES, found):
        merged = adapted(OPTIONS.get(name), list(OPTIONS).index(name) if name else 0)
        merge_lora(merged)
        alone = Engine(merged).generate(prompts[:1], params(12))[0]
        assert completion.ids == alone.ids
        assert completion.logprobs == pytest.approx(alone.logprobs, rel=1e-6, abs=1e-6)


def test_a_request_without_adapter_gets_the_base_to_the_last_bit() -> None:
    prompts = random_prompts([20, 9, 30])
    alone = Engine(MODELS[None]).generate(prompts[:1], params(12))[0]
    assert Engine(MODELS[None], adapters=ADAPTERS).generate(prompts, params(12), [None, "all", "one"])[0] == alone


def test_a_prefix_is_reused_by_the_same_adapter_only() -> None:
    engine = Engine(MODELS[None], adapters=ADAPTERS)
    prompt = random_prompts([40])[0]
    reused = []
    for adapter in ("all", None, "one", "all", "one", None):
        request = engine.submit(prompt, params(1), adapter)
        run(engine, [request])
        reused.append(request.reused)
        assert_is_the_answer(request, MODELS[adapter])
    assert reused == [0, 0, 0, 39, 39, 39]


def test_equal_prompts_of_different_adapters_do_not_wait_for_each_other() -> None:
    engine = Engine(MODELS[None], adapters=ADAPTERS)
    prompt = random_prompts([60])[0]
    requests = [engine.submit(prompt, params(3), adapter) for adapter in (None, "all", "all")]
    engine.step()
    assert [len(request.ids) for request in requests] == [1, 1, 0]  # the third waits for the second
    run(engine, requests)
    assert requests[1].ids == requests[2].ids


def test_answers_move_to_longer_slots_with_their_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "SHORTEST", 16)
    engine = Engine(MODELS[None], adapters=ADAPTERS)
    endless = SamplingParams(temperature=0, max_tokens=60, stop_ids=())
    requests = [engine.submit(p, endless, name) for p, name in zip(random_prompts([3, 12, 20, 5, 9, 8]), NAMES)]
    run(engine, requests)
    for request in requests:
        assert_is_the_answer(request, MODELS[request.adapter])


def test_adapters_on_the_attention_of_a_model_with_experts() -> None:
    options = LoraOptions(rank=2, targets=["q_proj", "o_proj"])
    base, other = adapted(None, **EXPERTS), adapted(options, **EXPERTS)
    engine = Engine(base, adapters={"other": other})
    requests = [engine.submit(p, params(10), name) for p, name in zip(random_prompts([9, 20]), ("other", None))]
    run(engine, requests)
    assert_is_the_answer(requests[0], other)
    assert_is_the_answer(requests[1], base)


SHARED = ["shared_expert.gate_proj", "shared_expert.down_proj"]


@pytest.mark.parametrize(
    ("model_type", "shared"),
    [("qwen3_moe", []), ("qwen2_moe", SHARED), ("glm4_moe", SHARED)],
)
def test_adapters_of_experts(model_type: str, shared: list[str]) -> None:
    """Of all matrices, of some, of the attention alone; several in a step, and one alone."""
    fields = EXPERTS | {"model_type": model_type, "n_shared_experts": len(shared) // 2}
    options = {
        "all": LoraOptions(rank=3),
        "some": LoraOptions(rank=2, rank_stabilized=True, alpha=3, targets=["down_proj", "v_proj", *shared]),
        "attention": LoraOptions(rank=2, targets=["q_proj", "o_proj"]),
    }
    others = {name: adapted(each, seed, **fields) for seed, (name, each) in enumerate(options.items())}
    models = {None: adapted(None, **fields), **others}
    engine = Engine(models[None], adapters=others)
    for names in ([*models, *models], ["some"]):
        prompts = random_prompts([9, 20, 3, 14, 30, 11, 6, 8])[: len(names)]
        requests = [engine.submit(prompt, params(10), name) for prompt, name in zip(prompts, names)]
        run(engine, requests)
        for request in requests:
            assert_is_the_answer(request, models[request.adapter])
    mixed = engine.generate(random_prompts([20]), params(10), "all")[0]
    merge_lora(others["all"])
    assert Engine(others["all"]).generate(random_prompts([20]), params(10))[0].ids == mixed.ids


class Quantized(torch.nn.Module):
    """A Linear in 8 bits, with its adapter in full precision beside it."""

    def __init__(self, linear: Linear) -> None:
        super().__init__()
        self.linear, self.quantized = linear, Int8(linear.weight.detach())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.quantized(x.flatten(0, -2)).view(*x.shape[:-1], -1)
        if isinstance(self.linear, LoraLinear):
            y = y + self.linear.scale * self.linear.lora_B(self.linear.lora_A(x))
            if self.linear.options.dora:
                y = y * (self.linear.lora_magnitude_vector / self.linear.row_norms())
        return y


def quantized(model: Transformer) -> Transformer:
    head = Int8(model.output_weight.detach())
    linears = {
        n: m for n, m in model.named_modules() if isinstance(m, Linear) and ".lora_" not in n and ".layers." in n
    }
    for name, linear in linears.items():
        model.set_submodule(name, Quantized(linear))
    model.logits = lambda x: head(x[None])[0]  # type: ignore[method-assign]
    return model


def test_adapters_of_a_base_in_8_bits() -> None:
    """The base's matrices alone are rounded; what an adapter adds is computed in full."""
    engine = Engine(MODELS[None], weights="int8", adapters=ADAPTERS)
    prompts = random_prompts([20, 9, 30, 14, 3, 25])
    requests = [engine.submit(prompt, params(12), name) for prompt, name in zip(prompts, NAMES)]
    run(engine, requests)
    for seed, request in enumerate(requests, start=-1):
        alone = Engine(MODELS[None], weights="int8", adapters=ADAPTERS)
        assert alone.generate([request.prompt], request.params, request.adapter)[0] == request.completion()
        name = request.adapter
        model = quantized(adapted(OPTIONS[name] if name else None, seed))
        assert_is_the_answer(request, model)


def test_a_text_is_scored_by_an_adapter() -> None:
    engine = Engine(MODELS[None], prefill_tokens=7, adapters=ADAPTERS)
    ids = random_prompts([20])[0]
    for name, model in MODELS.items():
        found = [token.logprob for chunk in score(engine, ids, 0, name) for token in chunk][1:]
        logprobs = model.logits(model(torch.tensor([ids])))[0, :-1].log_softmax(-1)
        wanted = logprobs.gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]
        assert found == pytest.approx(wanted.tolist(), rel=1e-6)


def test_refresh_takes_over_changed_adapters() -> None:
    model = adapted(OPTIONS["all"])
    engine = Engine(MODELS[None], adapters={"all": model})
    prompt = random_prompts([20])
    before = engine.generate(prompt, params(9), "all")
    for layer in lora_layers(model).values():
        layer.lora_B.weight.data.zero_()
    assert engine.generate(prompt, params(9), "all") == before
    engine.refresh()
    assert engine.generate(prompt, params(9), "all") == Engine(MODELS[None]).generate(prompt, params(9)) != before


def test_what_there_is_no_adapter_for() -> None:
    with pytest.raises(UserError, match="there is no adapter law here, but all, one, rslora, dora, block"):
        Engine(MODELS[None], adapters=ADAPTERS).generate([[1]], params(1), "law")
    with pytest.raises(UserError, match="there is no adapter law here, but none at all"):
        Engine(MODELS[None]).submit([1], params(1), "law")
