"""Who looks at whom: the attention weights of every layer and head, for looking at."""

from __future__ import annotations

from typing import Any

import torch

from minimind.model.attention import reference_attention
from minimind.model.rope import rotate
from minimind.model.transformer import Attention, Transformer


@torch.inference_mode()
def attention_maps(model: Transformer, ids: list[int]) -> torch.Tensor:
    """(L, H, T, T) fp32 on the CPU: how much position t (third axis) of each head attends to position s (fourth).

    Rows sum to 1 and nothing lies behind the diagonal. From the reference attention, given the unit matrix for
    values, so that what it mixes are the weights themselves.
    """
    T = len(ids)
    device = model.output_weight.device
    allowed_TT = torch.ones(T, T, dtype=torch.bool, device=device).tril()
    maps: list[torch.Tensor] = []

    def look(attention: Attention, inputs: tuple[Any, ...]) -> None:
        x_1TD, rotation, *_ = inputs
        parts = (attention.q_norm, attention.q_proj), (attention.k_norm, attention.k_proj)
        query_1THC, key_1TKC = (norm(proj(x_1TD).view(1, T, -1, attention.head_dim)) for norm, proj in parts)
        query_1HTC, key_1KTC = (rotate(one, *rotation).transpose(1, 2).float() for one in (query_1THC, key_1TKC))
        unit_1KTT = torch.eye(T, device=device).expand(1, key_1KTC.shape[1], T, T)
        maps.append(reference_attention(query_1HTC, key_1KTC, unit_1KTT, allowed_TT[None, None])[0].cpu())

    attentions = [module for module in model.modules() if isinstance(module, Attention)]
    hooks = [attention.register_forward_pre_hook(look) for attention in attentions]
    try:
        model(torch.tensor([ids], device=device))
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(maps)
