"""Generation as a textbook has it: one prompt, then one token at a time. The reference of infer/engine.py.

Prefill computes the whole prompt at once and keeps every layer's keys and values. Decoding computes one token at a
time, which attends to what is kept: so a token costs the same work wherever it stands, but for its attention.

Letters in names: T tokens of one forward pass, S positions so far, D model width, H heads, K key/value heads,
C channels of a head, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from minimind.hardware import sampling_device
from minimind.infer.events import Token
from minimind.infer.sampler import Adjustment, SamplingParams, relative, sample_inverse_cdf, truncate
from minimind.model import Transformer
from minimind.model.attention import reference_attention
from minimind.model.kv_cache import KVCache
from minimind.model.moe import MoE
from minimind.model.rope import angles, rotate
from minimind.model.transformer import Attention, Block


@torch.inference_mode()
def generate(model: Transformer, prompt: Sequence[int], params: SamplingParams) -> Iterator[Token]:
    """Sample tokens until a stop token (which is yielded, too), max_tokens or the end of the context."""
    rng = params.rng()
    device = sampling_device(model.output_weight.device)
    adjust = Adjustment(params, prompt, model.config.vocab_size, device)
    longest = min(len(prompt) + params.max_tokens, model.config.context_length)
    cache = KVCache.empty(model.config, 1, longest, model.compute_dtype, model.output_weight.device)
    ids = list(prompt)
    hidden_TD = forward(model, ids, 0, cache)  # prefill
    while len(ids) < longest:
        logits_V = model.logits(hidden_TD[-1]).float().to(device)
        token = sample_token(adjust(logits_V), params, rng.random())
        logprobs_V = (logits_V / (params.divisor or 1.0)).log_softmax(-1)
        yield Token(token, logprob=float(logprobs_V[token]))
        if token in params.stop_ids:
            return
        ids.append(token)
        adjust.receive(token)
        if len(ids) < longest:
            hidden_TD = forward(model, [token], len(ids) - 1, cache)  # decode


def sample_token(logits_V: torch.Tensor, params: SamplingParams, uniform: float) -> int:
    """The likeliest token at temperature 0; else one of the likely ones, by a random number in [0, 1)."""
    if not params.divisor:
        return int(logits_V.argmax())
    likely_1V = truncate(relative(logits_V[None]) / params.divisor, [params])  # top-k, top-p, min-p
    return int(
        sample_inverse_cdf(likely_1V, torch.full((1, 1), uniform, dtype=torch.float64, device=logits_V.device))
    )


def forward(model: Transformer, ids: Sequence[int], start: int, cache: KVCache) -> torch.Tensor:
    """Hidden states (T, D) of the tokens from position `start` on: Transformer.forward, but with a cache."""
    tokens_1T = torch.tensor([ids], device=model.output_weight.device)
    positions_1T = torch.arange(start, start + len(ids), device=tokens_1T.device)[None]
    cos, sin = angles(model.config, model.frequencies, positions_1T)
    rotation = cos.to(model.compute_dtype), sin.to(model.compute_dtype)
    x_1TD = model.model.embed_tokens(tokens_1T).to(model.compute_dtype)
    for block, memory_1S2KC in zip(model.model.layers, cache.memory):
        assert isinstance(block, Block)
        x_1TD = x_1TD + attention(block.self_attn, block.input_layernorm(x_1TD), rotation, start, memory_1S2KC)
        mixed = block.mlp(block.post_attention_layernorm(x_1TD))
        x_1TD = x_1TD + (mixed[0] if isinstance(block.mlp, MoE) else mixed)
    return model.model.norm(x_1TD)[0]


def attention(
    layer: Attention,
    x_1TD: torch.Tensor,
    rotation: tuple[torch.Tensor, torch.Tensor],
    start: int,
    memory_1S2KC: torch.Tensor,
) -> torch.Tensor:
    """The new tokens attend to themselves and to all before them; their keys and values join the cache."""
    T, C, stop = x_1TD.shape[1], layer.head_dim, start + x_1TD.shape[1]
    query_1THC = rotate(layer.q_norm(layer.q_proj(x_1TD).view(1, T, -1, C)), *rotation)
    memory_1S2KC[:, start:stop, 0] = rotate(layer.k_norm(layer.k_proj(x_1TD).view(1, T, -1, C)), *rotation)
    memory_1S2KC[:, start:stop, 1] = layer.v_proj(x_1TD).view(1, T, -1, C)
    keys_1KSC, values_1KSC = memory_1S2KC[:, :stop].permute(2, 0, 3, 1, 4)
    allowed_TS = torch.ones(T, stop, dtype=torch.bool, device=x_1TD.device).tril(start)
    mixed_1HTC = reference_attention(query_1THC.transpose(1, 2), keys_1KSC, values_1KSC, allowed_TS[None, None])
    return layer.o_proj(mixed_1HTC.transpose(1, 2).reshape(1, T, -1))
