"""Attention maps are the weights that the model itself mixes with."""

from __future__ import annotations

import pytest
import torch
from tests.random_models import random_ids, random_model

from minimind.model.attention_maps import attention_maps
from minimind.model.transformer import Attention


@pytest.mark.parametrize("model_type", ["qwen3", "llama"])
@torch.no_grad()
def test_the_maps_mix_the_values_as_the_model_does(model_type: str) -> None:
    model = random_model(model_type=model_type)
    ids = random_ids(1, 12)
    maps_LHTT = attention_maps(model, ids[0].tolist())
    assert maps_LHTT.shape == (2, 4, 12, 12)
    torch.testing.assert_close(maps_LHTT.sum(-1), torch.ones(2, 4, 12), rtol=1e-5, atol=1e-6)
    assert not maps_LHTT.triu(1).any()

    seen: list[tuple[Attention, torch.Tensor, torch.Tensor]] = []
    for module in model.modules():
        if isinstance(module, Attention):
            module.register_forward_hook(
                lambda attention, inputs, output: seen.append((attention, inputs[0], output))
            )
    model(ids)
    for (attention, x_BTD, output_BTD), weights_HTT in zip(seen, maps_LHTT, strict=True):
        value_KTC = attention.v_proj(x_BTD).view(12, -1, attention.head_dim).transpose(0, 1)
        value_HTC = value_KTC.repeat_interleave(len(weights_HTT) // len(value_KTC), 0)
        mixed_TD = (weights_HTT @ value_HTC).transpose(0, 1).reshape(12, -1)
        torch.testing.assert_close(attention.o_proj(mixed_TD), output_BTD[0], rtol=1e-5, atol=1e-5)
