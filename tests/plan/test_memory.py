"""Memory predicted before any work, against what is really held."""

from tests.random_models import random_model

from minimind import config
from minimind.cli import main
from minimind.infer.engine import Engine
from minimind.infer.sampler import SamplingParams
from minimind.plan import memory
from minimind.plan.memory import rollout_memory
from minimind.recipe import Recipe

RL = {"rl.reference": False, "rl.prompts": 2, "rl.group_size": 8, "rl.max_tokens": 100, "precision": "fp32"}


def recipe(model, **changes):
    return config.build(Recipe, {**config.flatten({"model": config.to_dict(model.config)}), **RL, **changes})


def test_what_rollouts_hold():
    """All answers run to their end; slots are as long and as many as powers of two."""
    model = random_model()
    weights, cached = rollout_memory(recipe(model)).values()
    engine = Engine(model, max_batch=16)
    params = SamplingParams(max_tokens=100, stop_ids=())
    requests = [engine.submit([1, 2, 3, prompt], params) for prompt in range(2) for _ in range(8)]
    peak = 0
    while any(request.stop_reason is None for request in requests):
        engine.step()
        held = [group.cache.memory.nbytes for group in engine.slots.groups if group.cache]
        peak = max(peak, sum(held))
    assert cached <= peak <= 2 * cached
    assert weights == sum(parameter.nbytes for parameter in model.parameters())


def test_what_else_is_held_depends_on_the_recipe():
    model = random_model()
    plain = rollout_memory(recipe(model))
    size = sum(parameter.nbytes for parameter in model.parameters())
    with_start_model = rollout_memory(recipe(model, **{"rl.reference": True}))
    assert sum(with_start_model.values()) == sum(plain.values()) + size
    assert rollout_memory(recipe(model, **{"rl.reference": True, "lora.rank": 2})) == plain
    critic = {"rl.advantage": "gae", "rl.critic": "model"}
    assert sum(rollout_memory(recipe(model, **critic)).values()) == sum(plain.values()) + 5 * size
    assert len(rollout_memory(recipe(model, **{"rl.server": "http://127.0.0.1:8000"}))) == 1


def test_rollouts_that_cannot_fit_are_refused_before_any_work(grpo, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(memory, "total_memory", lambda device: 1.0)
    argv = grpo(tmp_path / "run", rl__prompts=4000, rl__group_size=100)
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert "here; the weights to sample with: " in said
    assert "; keys and values of 400,000 answers of 12 tokens (rl.prompts, rl.max_tokens): " in said
    assert not (tmp_path / "run").exists()
