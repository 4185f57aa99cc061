"""What holds for a new model, and for one cast to another type."""

import math

import pytest
import torch
import torch.nn.functional as F
from tests.random_models import random_ids, random_model

from minimind.model import ModelConfig, Transformer
from minimind.presets import get

WIDTHS = ["tiny", "nano", "micro", "minimind2-small", "minimind-3"]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", WIDTHS)
def test_the_first_loss_is_that_of_a_uniform_guess(name: str, tied: bool) -> None:
    """Within 2% of ln V. New blocks are the identity, so two of them are as good as all."""
    shape = get(name)
    fields = {field: getattr(shape, field) for field in ModelConfig.__dataclass_fields__}
    model = Transformer(ModelConfig(**{**fields, "num_hidden_layers": 2, "tie_word_embeddings": tied}), seed=3)
    tokens = random_ids(4, 65, vocab_size=shape.vocab_size)
    with torch.no_grad():
        logits = model.logits(model(tokens[:, :-1]))
    loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    assert float(loss) == pytest.approx(math.log(shape.vocab_size), rel=0.02)
    repeated = F.cross_entropy(logits.flatten(0, 1), tokens[:, :-1].flatten())
    assert float(repeated) > 0.5 * math.log(shape.vocab_size), "the model must not be sure that tokens repeat"


def test_new_blocks_are_the_identity_and_learn() -> None:
    model = Transformer(ModelConfig(vocab_size=97, hidden_size=32, num_attention_heads=2, num_hidden_layers=2))
    tokens = random_ids(2, 20)
    embedded = model.model.embed_tokens(tokens)
    torch.testing.assert_close(model(tokens), model.model.norm(embedded))
    F.cross_entropy(model.logits(model(tokens)).flatten(0, 1), random_ids(40)).backward()
    for layer in model.model.layers:
        assert layer.self_attn.o_proj.weight.grad.abs().max() > 0
        assert layer.mlp.down_proj.weight.grad.abs().max() > 0


def test_a_seed_decides_the_parameters() -> None:
    config = ModelConfig(vocab_size=97, hidden_size=32, num_attention_heads=2, num_hidden_layers=1)
    torch.manual_seed(0)
    first = Transformer(config, seed=1).state_dict()
    torch.manual_seed(1)
    again, other = Transformer(config, seed=1).state_dict(), Transformer(config, seed=2).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(first[name], other[name])


@pytest.mark.parametrize("model_type", ["qwen3", "qwen3_moe"])
def test_recomputing_changes_no_gradient(model_type: str) -> None:
    tokens = random_ids(2, 20)
    gradients, calls = [], []
    for recompute in (False, True):
        model = random_model(model_type=model_type)
        model.activation_checkpointing = recompute
        model.model.layers[0].self_attn.q_proj.register_forward_hook(lambda *_: calls.append(1))
        model.routings = []
        model(tokens).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters() if parameter.grad is not None])
    assert len(calls) == 1 + 2
    assert all(torch.equal(kept, again) for kept, again in zip(*gradients, strict=True))


def test_cast_leaves_the_rotary_frequencies_in_fp32() -> None:
    """In bf16 the angle of position 1000 would be wrong by whole radians."""
    model = random_model()
    wanted = model.frequencies.clone()
    model.cast(torch.bfloat16)
    assert torch.equal(model.frequencies, wanted)
    assert model.frequencies.dtype == torch.float32
    assert all(parameter.dtype == torch.bfloat16 for parameter in model.parameters())


def test_bf16_computation_follows_fp32() -> None:
    """Masters in fp32 computed in bf16, and weights kept in bf16, give the same, near the fp32 result."""
    model, cast = random_model(std=0.1), random_model(std=0.1).cast(torch.bfloat16)
    tokens = random_ids(2, 100)
    with torch.no_grad():
        wanted = model.logits(model(tokens))
        model.compute_dtype = torch.bfloat16
        found = model.logits(model(tokens))
        assert torch.equal(found, cast.logits(cast(tokens)))
    assert found.dtype == torch.bfloat16
    assert (found.float() - wanted).abs().max() < 0.05 * wanted.abs().max()


def test_positions_matter_only_by_their_differences() -> None:
    """Rotary embeddings are relative."""
    model = random_model().cast(torch.float64)
    tokens = random_ids(1, 12)
    positions = torch.arange(12)[None]
    with torch.no_grad():
        here, there, stretched = (model(tokens, p) for p in (positions, positions + 100, positions * 2))
    torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-4)  # angles are computed in fp32
    assert (here - stretched).abs().max() > 0.1
