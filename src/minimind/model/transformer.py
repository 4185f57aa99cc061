"""The model: a decoder as in Hugging Face's Qwen3, Llama and their kin with experts, same names, same numbers.

From the smallest part to the whole: Linear, RMSNorm, MLP, Attention, Block, Decoder, Transformer, and `initialize`.
Letters in names: B batch, T positions, D model width, H heads, K key/value heads, C channels of a head.
Parameters are fp32 masters; the type of the computation is the type the embedding is cast to
(`Transformer.compute_dtype`), and every Linear casts its master to the type of its input.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from minimind.errors import UserError
from minimind.model.attention import AttentionChoice, Mask, attend, make_mask
from minimind.model.config import ModelConfig
from minimind.model.moe import MoE, Routing
from minimind.model.rope import angles, inverse_frequencies, rotate


class Linear(nn.Linear):
    """A matrix product without bias in the type of its input."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False)

    def reset_parameters(self) -> None:
        """Left to `initialize`, which sets every parameter of the model in one place."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight.to(x.dtype))


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps) · weight, computed in fp32 (Zhang & Sennrich 2019, arXiv:1910.07467)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.float() if x.dtype != torch.float64 else x
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.weight.to(x.dtype) * wide.to(x.dtype)  # rounded before the weight, as in transformers


class MLP(nn.Module):
    """SwiGLU (Shazeer 2020, arXiv:2002.05202): down(silu(gate(x)) · up(x))."""

    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.gate_proj = Linear(hidden_size, intermediate_size)
        self.up_proj = Linear(hidden_size, intermediate_size)
        self.down_proj = Linear(intermediate_size, hidden_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Attention(nn.Module):
    """Grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245), with norms on q and k in Qwen3."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        D, H, K, C = config.hidden_size, config.num_attention_heads, config.num_key_value_heads, config.head_dim
        self.head_dim = C
        self.q_proj = Linear(D, H * C)
        self.k_proj = Linear(D, K * C)
        self.v_proj = Linear(D, K * C)
        self.o_proj = Linear(H * C, D)
        self.q_norm = RMSNorm(C, config.rms_norm_eps) if config.family.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(C, config.rms_norm_eps) if config.family.qk_norm else nn.Identity()

    def forward(
        self,
        x_BTD: torch.Tensor,
        rotation: tuple[torch.Tensor, torch.Tensor],
        mask: Mask,
    ) -> torch.Tensor:
        B, T, _ = x_BTD.shape
        query = self.q_norm(self.q_proj(x_BTD).view(B, T, -1, self.head_dim))
        key = self.k_norm(self.k_proj(x_BTD).view(B, T, -1, self.head_dim))
        value = self.v_proj(x_BTD).view(B, T, -1, self.head_dim)
        query, key = rotate(query, *rotation), rotate(key, *rotation)
        mixed_BHTC = attend(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), mask)
        return self.o_proj(mixed_BHTC.transpose(1, 2).reshape(B, T, -1))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), where the mlp may be a mixture of experts."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        if config.family.experts:
            shared = config.n_shared_experts * config.moe_intermediate_size  # several side by side are a wide one
            self.mlp: MoE | MLP = MoE(config, MLP(config.hidden_size, shared) if shared else None)
        else:
            self.mlp = MLP(config.hidden_size, config.intermediate_size)

    def forward(
        self,
        x_BTD: torch.Tensor,
        rotation: tuple[torch.Tensor, torch.Tensor],
        mask: Mask,
    ) -> tuple[torch.Tensor, Routing | None]:
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), rotation, mask)
        mixed_BTD, routing = self.mlp(self.post_attention_layernorm(x_BTD)), None
        if isinstance(self.mlp, MoE):
            mixed_BTD, routing = mixed_BTD
        return x_BTD + mixed_BTD, routing


class Decoder(nn.Module):
    """Embedding, blocks and last norm; a module of its own because Hugging Face names it `model`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        # Unset, as the Linears are: nn.Embedding's own initialization would draw from the global generator.
        unset = torch.empty(config.vocab_size, config.hidden_size)
        self.embed_tokens = nn.Embedding.from_pretrained(unset, freeze=False)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class Transformer(nn.Module):
    """A causal language model. `forward` gives hidden states, `logits` turns them into scores of tokens.

    Or a reward model, which has `score` (1, D) in the place of the output projection; see `losses.scores`.

    compute_dtype             type of the computation
    activation_checkpointing  keep of each block only its input, and compute it again in the backward pass (Chen et
                              al. 2016, arXiv:1604.06174)
    attention                 which kernel computes attention: "auto", or for comparisons one of `AttentionChoice`
    routings                  where it is a list, each layer with experts appends what its router decided
    """

    frequencies: torch.Tensor

    def __init__(self, config: ModelConfig, seed: int | None = 0) -> None:
        """Initialized from `seed`; None leaves the parameters unset, to be loaded."""
        super().__init__()
        self.config = config
        self.compute_dtype = torch.float32
        self.compiled = False
        self.activation_checkpointing = False
        self.attention: AttentionChoice = "auto"
        self.routings: list[Routing] | None = None
        self.model = Decoder(config)
        if config.num_labels:
            self.score = Linear(config.hidden_size, config.num_labels)
        elif not config.tie_word_embeddings:
            self.lm_head = Linear(config.hidden_size, config.vocab_size)
        self.register_buffer("frequencies", inverse_frequencies(config), persistent=False)
        if seed is not None:
            initialize(self, seed)

    def cast(self, dtype: torch.dtype) -> Transformer:
        """Keep the weights themselves in `dtype`, for inference; the rotary frequencies stay fp32."""
        for parameter in self.parameters():
            parameter.data = parameter.data.to(dtype)
        self.compute_dtype = dtype
        return self

    def compile_blocks(self, say: Callable[[str], None]) -> bool:
        """Compile each block in place; whether it could be done. Equal blocks share one compilation.

        The embedding stays outside: its compiled backward adds rows in no fixed order on a CPU.
        """
        try:
            torch.compile(torch.square)(torch.ones(2, device=self.model.embed_tokens.weight.device))
        except Exception as error:  # no C++ compiler, no triton, an unsupported Python …: all say so differently
            reason = str(error).strip().splitlines()[0][:200]
            say(f"torch.compile does not work here, training goes on without it, slower ({reason})")
            return False
        for block in self.model.layers:
            block.compile(dynamic=False)
        self.compiled = True
        return True

    @property
    def output_weight(self) -> torch.Tensor:
        """(V, D): the matrix that turns hidden states into logits. UserError for a reward model."""
        if self.config.num_labels:
            raise UserError(
                "this is a reward model, which says nothing but scores what others said: `minimind eval reward` or "
                "Model.reward"
            )
        tied = self.config.tie_word_embeddings
        return self.model.embed_tokens.weight if tied else self.lm_head.weight

    def forward(
        self,
        tokens_BT: torch.Tensor,
        positions_BT: torch.Tensor | None = None,
        documents_BT: torch.Tensor | None = None,
        cu_seqlens: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Hidden states (B, T, D) after the final norm.

        Arguments as in `Batch`; without documents each sequence is one document.
        """
        if positions_BT is None:
            positions_BT = torch.arange(tokens_BT.shape[1], device=tokens_BT.device).expand_as(tokens_BT)
        mask = (
            Mask() if documents_BT is None else make_mask(documents_BT, cu_seqlens, self.compiled, self.attention)
        )
        cos, sin = angles(self.config, self.frequencies, positions_BT, documents_BT)
        rotation = (cos.to(self.compute_dtype), sin.to(self.compute_dtype))
        hidden_BTD = self.model.embed_tokens(tokens_BT).to(self.compute_dtype)
        for block in self.model.layers:
            if self.activation_checkpointing and torch.is_grad_enabled():
                hidden_BTD, routing = checkpoint(block, hidden_BTD, rotation, mask, use_reentrant=False)
            else:
                hidden_BTD, routing = block(hidden_BTD, rotation, mask)
            if self.routings is not None and routing is not None:
                self.routings.append(routing)
        return self.model.norm(hidden_BTD)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(…, D) -> (…, V) in the compute type."""
        return F.linear(hidden, self.output_weight.to(hidden.dtype))


@torch.no_grad()
def initialize(model: Transformer, seed: int) -> None:
    """Set every parameter from `seed`, the same on every device and number of threads.

    | parameter                          | initial value                                                    |
    |------------------------------------|------------------------------------------------------------------|
    | embed_tokens, tied                 | normal, std 2/D                                                  |
    | embed_tokens, untied               | normal, std 1/sqrt(D)                                            |
    | lm_head (untied), score            | zero                                                             |
    | q, k, v, gate, up, router           | uniform with std 1/sqrt(fan in)                                  |
    | o_proj, down_proj                  | zero: every block begins as the identity                         |
    | norms                              | one                                                              |

    The first loss must be ln V. With zero output projections the last hidden state is the token's own embedding
    scaled to length sqrt(D), so a tied head gives that token the logit D·std: a std above about 3/D would make
    the model sure, from the start, that every token repeats.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        kind = name.removesuffix(".weight").rpartition(".")[2]
        if kind.endswith("norm"):
            parameter.fill_(1.0)
        elif kind in ("o_proj", "down_proj", "lm_head", "score"):
            parameter.zero_()
        elif kind == "embed_tokens":
            width = parameter.shape[1]
            std = 2 / width if model.config.tie_word_embeddings else width**-0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
        else:
            limit = math.sqrt(3 / parameter.shape[-1])  # a uniform distribution on ±limit has std limit/√3
            parameter.copy_((torch.rand(parameter.shape, generator=generator) * 2 - 1) * limit)
