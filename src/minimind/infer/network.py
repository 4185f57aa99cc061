"""The model's arithmetic as generation needs it: fused matrices, tokens of many texts in one flat row.

`Transformer.forward` is the reference. A decoded token costs one pass over all weights, and on a CPU the
hundreds of small operations around it come next. So query, key and value are one matrix here, gate and up another,
and what stands next to each other in memory is written and rotated in one go.

Letters in names: N tokens, D model width, F width of a product, H heads, K key/value heads, C channels of a head.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import nn

from minimind.errors import UserError
from minimind.infer.adapters import ExpertsLowRank, LowRank, Mix, fused_linears
from minimind.infer.inputs import Inputs
from minimind.model import Transformer
from minimind.model.kv_cache import KVCache
from minimind.model.lora import LoraLinear, merge_lora
from minimind.model.moe import MATRICES, MoE, dispatch_grouped
from minimind.model.rope import angles
from minimind.model.transformer import Block, Linear, RMSNorm

WeightFormat = Literal["full", "int8"]
"""how an engine keeps the matrices: in the model's compute type, or in 8 bits"""


class Matrix(Protocol):
    def __call__(self, x_ND: torch.Tensor) -> torch.Tensor: ...


class Dense:
    """x · Wᵀ, the matrix kept transposed: on a CPU that is faster for few tokens, and all threads take part."""

    def __init__(self, weight: torch.Tensor) -> None:
        self.weight = weight.t().contiguous() if weight.device.type == "cpu" else weight.clone().t()

    def __call__(self, x_ND: torch.Tensor) -> torch.Tensor:
        return x_ND @ self.weight


class Int8:
    """x · Wᵀ in 8 bits (as LLM.int8(), Dettmers et al. 2022, arXiv:2208.07339, without its outliers).

    Each row of W has a scale, fixed; each row of x has one of its own, so what is computed for a token does not
    depend on the other tokens.
    """

    def __init__(self, weight: torch.Tensor) -> None:
        scale = weight.float().abs().amax(1, keepdim=True).clamp_min(1e-30) / 127
        self.weight = (weight.float() / scale).round_().to(torch.int8).t()
        self.scale = scale.t()

    def __call__(self, x_ND: torch.Tensor) -> torch.Tensor:
        scale_N1 = x_ND.abs().amax(-1, keepdim=True).mul_(1 / 127).clamp_min_(1e-30)
        rounded_ND = (x_ND / scale_N1).round_().to(torch.int8)
        return (torch._int_mm(rounded_ND, self.weight) * scale_N1).mul_(self.scale).to(x_ND.dtype)


class Fused:
    """Matrices that share their input as one; and what adapters add to their product."""

    def __init__(
        self,
        linears: Sequence[Linear],
        adapted: Mapping[str, Sequence[Linear]],
        weights: WeightFormat,
        dtype: torch.dtype,
    ) -> None:
        merged = [m.merged_weight() if isinstance(m, LoraLinear) else m.weight for m in linears]
        weight = torch.cat(merged).to(dtype)
        self.matrix: Matrix = Int8(weight) if weights == "int8" else Dense(weight)
        self.low_rank = LowRank(adapted, dtype, weight.device)

    def __call__(self, x_ND: torch.Tensor, mix: Mix | None) -> torch.Tensor:
        y_NF = self.matrix(x_ND)
        if mix is not None:
            self.low_rank.add(x_ND, y_NF, mix)
        return y_NF


class Layer:
    """One block's weights, fused; `adapted` is the same block as each adapter has it."""

    def __init__(
        self, block: nn.Module, adapted: Mapping[str, nn.Module], weights: WeightFormat, dtype: torch.dtype
    ) -> None:
        assert isinstance(block, Block)
        attention = block.self_attn
        others = {name: fused_linears(other) for name, other in adapted.items()}
        fused = {
            key: Fused(linears, {name: other[key] for name, other in others.items()}, weights, dtype)
            for key, linears in fused_linears(block).items()
        }
        self.input_norm = block.input_layernorm.weight.to(dtype, copy=True)
        self.qkv, self.out = fused["qkv"], fused["out"]
        self.head_norms: torch.Tensor | None = None
        q_norm, k_norm = attention.q_norm, attention.k_norm
        if isinstance(q_norm, RMSNorm) and isinstance(k_norm, RMSNorm):
            heads = attention.q_proj.out_features // attention.head_dim
            num_key_value_heads = attention.k_proj.out_features // attention.head_dim
            norms = q_norm.weight.expand(heads, -1), k_norm.weight.expand(num_key_value_heads, -1)
            self.head_norms = torch.cat(norms).to(dtype)  # (H + K, C)
        self.ffn_norm = block.post_attention_layernorm.weight.to(dtype, copy=True)
        self.gate_up, self.down = fused.get("gate_up"), fused.get("down")
        self.experts: MoE | None = None
        if isinstance(block.mlp, MoE):
            self.experts = copy.deepcopy(block.mlp)
            merge_lora(self.experts)
            self.experts.requires_grad_(False)
            for parameter in self.experts.parameters():
                parameter.data = parameter.data.to(dtype)
            stacks = {name: mlp.experts for name, other in adapted.items() if isinstance(mlp := other.mlp, MoE)}
            self.experts_low_rank = ExpertsLowRank(stacks, dtype, self.input_norm.device)

    def feed_forward(self, x_ND: torch.Tensor, mix: Mix | None) -> torch.Tensor:
        """Of a dense block, or of experts and the shared one beside them."""
        out_ND = None if self.experts is None else self._routed(self.experts, x_ND, mix)
        if self.gate_up is None or self.down is None:
            assert out_ND is not None
            return out_ND
        gate_NF, up_NF = self.gate_up(x_ND, mix).chunk(2, -1)
        dense_ND = self.down(F.silu(gate_NF).mul_(up_NF), mix)
        return dense_ND if out_ND is None else out_ND + dense_ND

    def _routed(self, moe: MoE, x_ND: torch.Tensor, mix: Mix | None) -> torch.Tensor:
        weights_NK, routing = moe.gate(x_ND)
        gate, up, down = (getattr(moe.experts, name) for name in MATRICES)
        corrections = self.experts_low_rank.corrections(mix)
        return dispatch_grouped(x_ND, routing.chosen_NK, weights_NK.to(x_ND.dtype), gate, up, down, corrections)


class Network:
    """A model's weights at one moment, laid out for generation: about as much memory again as the model.

    adapters  models of the same shape, of which only the adapters are taken, by the names that tokens ask for
    """

    @torch.no_grad()
    def __init__(
        self, model: Transformer, weights: WeightFormat = "full", adapters: Mapping[str, Transformer] | None = None
    ) -> None:
        config, dtype = model.config, model.compute_dtype
        self.device = model.output_weight.device
        if weights == "int8" and (self.device.type != "cpu" or config.family.experts):
            raise UserError('weights "int8" are for dense models on a CPU; take "full"')
        self.config, self.dtype, self.frequencies = config, dtype, model.frequencies
        self.heads, self.head_dim = config.num_attention_heads, config.head_dim
        self.eps = torch.tensor(
            config.rms_norm_eps, dtype=torch.promote_types(dtype, torch.float32), device=self.device
        )
        self.embedding = model.model.embed_tokens.weight.to(dtype, copy=True)
        adapted = {name: other.model.layers for name, other in (adapters or {}).items()}
        self.layers = [
            Layer(block, {name: blocks[index] for name, blocks in adapted.items()}, weights, dtype)
            for index, block in enumerate(model.model.layers)
        ]
        self.norm = model.model.norm.weight.to(dtype, copy=True)
        self.head = (Int8 if weights == "int8" else Dense)(model.output_weight.to(dtype))
        scaling = config.rope_scaling
        self.by_length = scaling is not None and scaling.rope_type == "dynamic"
        self.table_P2C = torch.empty(0, 2, self.head_dim)  # grows as positions come

    def cache(self, rows: int, length: int) -> KVCache:
        return KVCache.empty(self.config, rows, length, self.dtype, self.device)

    def hidden(self, inputs: Inputs) -> torch.Tensor:
        """Hidden states (N, D) after the last norm."""
        mix = Mix(inputs.adapters, self.device) if any(inputs.adapters) else None
        tokens_N = torch.tensor(inputs.tokens, device=self.device)
        cos_N1C, sin_N1C = self._rotations_at(inputs.positions, inputs.lengths)[:, :, None].unbind(1)
        N, H, C = len(tokens_N), self.heads, self.head_dim
        x_ND = F.embedding(tokens_N, self.embedding)
        mixed_NHC = x_ND.new_empty(N, H, C)
        for index, layer in enumerate(self.layers):
            qkv_NF = layer.qkv(self._normalize(x_ND, layer.input_norm), mix)
            heads_NHC = qkv_NF.view(N, -1, C)
            turning = heads_NHC[:, : H + self.config.num_key_value_heads]
            if layer.head_norms is not None:
                turning.copy_(self._normalize(turning, layer.head_norms))
            turned = turning.roll(C // 2, -1)
            turning.mul_(cos_N1C).addcmul_(turned, sin_N1C)
            for span in inputs.spans:
                mine = slice(span.first, span.stop)
                span.lines[index].index_copy_(0, span.index_N, qkv_NF[mine, H * C :])
                span.attend(index, heads_NHC[mine, :H], mixed_NHC[mine])
            x_ND = x_ND + layer.out(mixed_NHC.view(N, H * C), mix)
            x_ND = x_ND + layer.feed_forward(self._normalize(x_ND, layer.ffn_norm), mix)
        return self._normalize(x_ND, self.norm)

    def logits(self, hidden_ND: torch.Tensor) -> torch.Tensor:
        return self.head(hidden_ND)

    def _normalize(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """RMSNorm of the last dimension in at least fp32, in few operations."""
        wide = x.to(self.eps.dtype)
        norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        wide = wide * torch.addcmul(self.eps, norm, norm, value=1 / x.shape[-1]).rsqrt_()
        return wide.to(x.dtype) * weight

    def _rotations_at(self, positions: Sequence[int], lengths: Sequence[int]) -> torch.Tensor:
        """(N, 2, C), from a table where the angles depend on positions alone."""
        positions_N = torch.tensor(positions, device=self.device)
        if self.by_length:
            return self._rotations(positions_N, torch.tensor(lengths, device=self.device))
        if (wanted := max(positions) + 1) > len(self.table_P2C):
            self.table_P2C = self._rotations(torch.arange(max(2 * wanted, 256), device=self.device), None)
        return self.table_P2C.index_select(0, positions_N)

    def _rotations(self, positions_N: torch.Tensor, lengths_N: torch.Tensor | None) -> torch.Tensor:
        """(N, 2, C): x · [0] + (x, its halves exchanged) · [1] turns x; so the first half of [1] is negative."""
        lengths = None if lengths_N is None else lengths_N[None]
        cos, sin = angles(self.config, self.frequencies, positions_N[None], lengths_BT=lengths)
        sin[..., : self.head_dim // 2].neg_()
        return torch.cat((cos, sin), 2)[0].to(self.dtype)
