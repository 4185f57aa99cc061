"""The rules of `minimind adapt`: figures by hand."""

import pytest
import yaml

from minimind.model import ModelConfig, Transformer
from minimind.model.count import count_parameters
from minimind.model.lora import LoraOptions, add_lora
from minimind.plan.adaptation import (
    FEWEST_TOKENS,
    Amount,
    adapter_rank,
    number_of_passes,
    parameters_per_rank,
    plan_stage,
    recipe_text,
    replay_share,
    sequence_length,
    step_size,
    worth_pretraining,
)

CONFIG = ModelConfig(
    vocab_size=4000, hidden_size=64, num_hidden_layers=3, num_attention_heads=2, intermediate_size=96
)
PER_RANK = parameters_per_rank(CONFIG)


def amount(documents=100, tokens=1000):
    return Amount(documents, tokens, 2 * tokens, 60)


@pytest.mark.parametrize("experts", [0, 4])
def test_the_size_of_an_adapter_is_that_of_the_adapter(experts):
    moe = {"model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    config = ModelConfig(
        vocab_size=100, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, **moe if experts else {}
    )
    coverage = add_lora(Transformer(config), LoraOptions(rank=3))
    assert coverage.parameters == 3 * parameters_per_rank(config)


def test_an_adapter_is_as_large_as_the_data_and_no_more_than_a_tenth():
    limit = 0.1 * count_parameters(CONFIG)["total"]
    assert 8 * PER_RANK < limit < 16 * PER_RANK
    assert adapter_rank(CONFIG, 8 * PER_RANK, None)[0] == 8
    assert adapter_rank(CONFIG, 8 * PER_RANK + 1, None)[0] == 0
    assert adapter_rank(CONFIG, 10**9, memory=1e-3)[0] == 64  # all weights would not fit
    assert adapter_rank(CONFIG, 10**9, memory=1)[0] == 0


def test_passes_fall_with_the_amount():
    passes = [number_of_passes("sft", amount(count), None)[0] for count in (10, 100, 1000, 3000, 100_000)]
    assert passes == [20, 15, 5, 3, 2]
    passes = [number_of_passes("pretrain", amount(1, tokens), None)[0] for tokens in (1e5, 2e6, 2e7)]
    assert passes == [4, 2, 1]
    assert number_of_passes("sft", amount(), 7)[0] == 7


def test_steps_and_sequences():
    assert [step_size(tokens, 128) for tokens in (1e3, 3e6, 3e8, 1e12)] == [512, 2048, 16384, 32768]
    assert step_size(1e3, 1024) == 1024
    assert [sequence_length(long, 512) for long in (3, 65, 256, 9000)] == [64, 128, 256, 512]


def test_replay_by_how_strange_the_domain_is():
    shares = [replay_share(bits, 1.0, None)[0] for bits in (0.9, 1.4, 2.0, 5.0)]
    assert shares == [0.1, 0.1, 0.25, 0.5]
    assert replay_share(9.0, 1.0, 0.3)[0] == 0.3
    assert replay_share(9.0, None, 0.3)[0] == 0.0


def test_pretraining_where_it_is_worth_it():
    assert worth_pretraining(FEWEST_TOKENS)[0]
    assert not worth_pretraining(FEWEST_TOKENS - 1)[0]


def test_a_plan_is_a_recipe_with_its_reasons():
    plan = plan_stage("sft", CONFIG, amount(), None, 0.25, "because", None, None)
    text = recipe_text(plan)
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        f"# {reason}" for reason in plan.reasons
    ]
    recipe = yaml.safe_load(text)
    assert recipe["stage"] == "sft"
    assert recipe["lora"] == {"rank": 8}
    assert recipe["budget"] == {"epochs": 1.0}
    assert recipe["evaluation"]["holdout"] == 0  # a short FAQ is learned as a whole
    assert plan_stage("sft", CONFIG, amount(500), None, 0, "", None, None).settings["evaluation.holdout"] == 0.05
