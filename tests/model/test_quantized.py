"""A base in 8 or 4 bits beneath an adapter: its numbers, its gradients, its memory."""

import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.random_models import random_ids, random_model

from minimind.errors import UserError
from minimind.infer.engine import Engine
from minimind.infer.sampler import SamplingParams
from minimind.model import Transformer
from minimind.model.hf.files import fingerprint
from minimind.model.lora import LoraLinear, LoraOptions, add_lora, merge_lora, unmerge_lora, without_lora
from minimind.model.quantized import BLOCK, QuantizedLinear, quantize
from minimind.model.transformer import Linear
from minimind.plan.memory import frozen_bytes

each_width = pytest.mark.parametrize("bits", [8, 4])


def matrices(model: Transformer) -> dict[str, Linear]:
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, Linear) and name.rpartition(".")[2].endswith("_proj")
    }


def adapted(bits: Any, **options: Any) -> tuple[Transformer, Transformer]:
    """A model with a base in so many bits, one whose fp32 weights are what that base stands for; equal adapters."""
    quantized, plain = random_model(), random_model()
    options = {"rank": 3, **options}
    add_lora(quantized, LoraOptions(base_bits=bits, **options), seed=7)
    for name, linear in matrices(plain).items():
        kept = quantized.get_submodule(name)
        weight = kept.frozen_weight() if isinstance(kept, LoraLinear) else kept.weight
        linear.weight.data.copy_(weight)  # type: ignore[arg-type]
    add_lora(plain, LoraOptions(**options), seed=7)
    for model in (quantized, plain):
        generator = torch.Generator().manual_seed(5)
        for name, parameter in model.named_parameters():
            if ".lora_B" in name or ".lora_magnitude" in name:
                parameter.data += torch.randn(parameter.shape, generator=generator) * 0.3
    return quantized, plain


def loss(model: Transformer) -> torch.Tensor:
    logits = model.logits(model(random_ids(3, 40)))
    return F.cross_entropy(logits.float().flatten(0, 1), random_ids(3, 40, seed=1).flatten())


def gradients(model: Transformer) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss(model).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@each_width
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", [{}, {"dora": True}, {"targets": ["v_proj", "down_proj"]}], ids=str)
def test_loss_and_gradients_are_those_of_the_weights_that_the_codes_stand_for(
    bits: Any, dtype: torch.dtype, options: dict[str, Any]
) -> None:
    """To the last bit; checkpointed blocks as well."""
    quantized, plain = adapted(bits, **options)
    for model in (quantized, plain):
        model.compute_dtype = dtype
    assert torch.equal(loss(quantized), loss(plain))
    found, wanted = gradients(quantized), gradients(plain)
    assert found.keys() == wanted.keys() == {name for name, p in plain.named_parameters() if ".lora_" in name}
    assert all(torch.equal(found[name], grad) and grad.abs().max() > 0 for name, grad in wanted.items())
    quantized.activation_checkpointing = True
    assert all(torch.equal(grad, wanted[name]) for name, grad in gradients(quantized).items())


@each_width
def test_rounding_is_that_of_the_papers(bits: Any) -> None:
    """The nearest entry of the table, by hand; of the dynamic one at worst its neighbor. And the same each time."""
    linear = Linear(72, 40)  # blocks of 64 weights run across rows
    torch.nn.init.normal_(linear.weight, generator=torch.Generator().manual_seed(0))
    kept = QuantizedLinear(linear, bits)
    again = QuantizedLinear(linear, bits)
    assert all(torch.equal(one, two) for one, two in zip(kept.buffers(), again.buffers()))
    assert len(kept.table) == 2**bits
    blocks = linear.weight.detach().view(-1, BLOCK)
    scales = blocks.abs().amax(1, keepdim=True)
    assert torch.equal(kept.scales.flatten(), scales.flatten())
    nearest = (blocks / scales)[..., None].sub(kept.table).abs().argmin(-1)
    found = (kept.weight.view(-1, BLOCK) / scales)[..., None].sub(kept.table).abs().argmin(-1)
    apart = (found - nearest).abs()
    assert apart.max() <= (bits == 8)
    assert apart.float().mean() < 0.005
    torch.testing.assert_close(kept.weight, (kept.table[found] * scales).view(40, 72), rtol=1e-6, atol=1e-6)


def test_the_table_of_four_bits_is_nf4() -> None:
    """Appendix E of the paper, to its fourth digit."""
    linear = Linear(64, 1)
    linear.weight.data.zero_()
    wanted = [-1, -0.6962, -0.5251, -0.3949, -0.2844, -0.1848, -0.0911, 0]
    wanted += [0.0796, 0.1609, 0.2461, 0.3379, 0.4407, 0.5626, 0.7230, 1]
    torch.testing.assert_close(QuantizedLinear(linear, 4).table, torch.tensor(wanted), atol=5e-5, rtol=0)


@each_width
def test_no_pass_keeps_a_matrix(bits: Any) -> None:
    """Of what the backward pass needs nothing is as large as a matrix."""
    quantized, plain = adapted(bits)
    sizes: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.nbytes if tensor.is_floating_point() and tensor.dim() == 2 else 0)
        return tensor

    x = random_ids(1, 4)  # four positions: what hangs on them is small
    smallest = min(linear.in_features * linear.out_features for linear in matrices(plain).values()) * 4
    found = []
    for model in (quantized, plain):
        sizes.clear()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            model(x).sum().backward()
        found.append(max(sizes))
    assert found[0] < smallest <= found[1]


def test_compiled_is_as_eager() -> None:
    model = random_model(num_hidden_layers=1)
    add_lora(model, LoraOptions(rank=3, base_bits=4))
    eager, wanted = loss(model), gradients(model)
    assert model.compile_blocks(print)
    torch.testing.assert_close(loss(model), eager, rtol=1e-5, atol=1e-5)
    for name, grad in gradients(model).items():
        torch.testing.assert_close(grad, wanted[name], rtol=1e-4, atol=1e-5)


@each_width
def test_memory_is_as_predicted(bits: Any) -> None:
    model = random_model(hidden_size=64, intermediate_size=128)
    quantize(model, list(matrices(model)), bits)
    kept = sum(t.nbytes for name, t in model.state_dict().items() if not name.endswith(".table"))
    assert kept == frozen_bytes(model.config, bits)
    assert frozen_bytes(model.config, 32) == 4 * sum(
        p.numel() for p in random_model(hidden_size=64, intermediate_size=128).parameters()
    )


@each_width
def test_merged_and_generated_from_as_the_plain_model(bits: Any) -> None:
    quantized, plain = adapted(bits)
    params = SamplingParams(temperature=0, max_tokens=12, stop_ids=())
    first, second = (Engine(model, 1).generate([[5, 6, 7]], params)[0].ids for model in (quantized, plain))
    assert first == second
    state = fingerprint(quantized.state_dict())
    with without_lora(quantized), without_lora(plain):
        assert torch.equal(loss(quantized), loss(plain))
    with torch.no_grad():
        wanted = loss(quantized)
        replaced = merge_lora(quantized)
        torch.testing.assert_close(loss(quantized), wanted, rtol=1e-5, atol=1e-5)
        unmerge_lora(quantized, replaced)
        assert torch.equal(loss(quantized), wanted)
    assert fingerprint(quantized.state_dict()) == state


def test_a_missing_library_and_experts_are_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    experts = {"model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
    with pytest.raises(UserError, match=r"lora\.base_bits 4 cannot be had for a model with experts"):
        add_lora(random_model(**experts), LoraOptions(rank=2, base_bits=4))
    monkeypatch.setitem(sys.modules, "bitsandbytes.functional", None)
    with pytest.raises(UserError, match=r"bitsandbytes is not installed.* minimind\[quantized\]"):
        add_lora(random_model(), LoraOptions(rank=2, base_bits=4))
