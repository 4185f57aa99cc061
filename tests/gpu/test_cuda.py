"""What only a CUDA device can show."""

import pytest
import torch

from minimind.cli import main
from minimind.model import ModelConfig, Transformer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def packed(device):
    documents = torch.tensor([[0] * 50 + [1] * 70 + [-1] * 8, [2] * 128], device=device)
    positions = torch.cat([torch.arange(50), torch.arange(70), torch.zeros(8), torch.arange(128)]).long()
    tokens = torch.randint(0, 200, (2, 128), generator=torch.Generator().manual_seed(0))
    return tokens.to(device), positions.view(2, 128).to(device), documents


def test_compiled_flex_attention_equals_the_dense_reference():
    device = torch.device("cuda")
    model = Transformer(ModelConfig(vocab_size=200, hidden_size=128, num_hidden_layers=2, num_attention_heads=2))
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    model.to(device)
    tokens, positions, documents = packed(device)
    plain = model(tokens, positions, documents)
    plain.square().sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    assert model.compile_blocks(print)
    fast = model(tokens, positions, documents)
    fast.square().sum().backward()
    real = documents >= 0
    assert (fast - plain)[real].abs().max() <= 1e-4 * plain[real].abs().max()
    for name, p in model.named_parameters():
        assert (p.grad - gradients[name]).abs().max() <= 1e-3 * gradients[name].abs().max(), name


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_training_on_cuda(pretrain, tmp_path, precision):
    assert main(pretrain(tmp_path / "run", device="cuda", precision=precision, budget__steps=6)) == 0
    assert (tmp_path / "run/model/model.safetensors").exists()
