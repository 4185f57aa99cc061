"""The model: a decoder as in Hugging Face's Qwen3, Llama and their kin with experts, same names, same numbers.

Letters in names: B batch, T positions, D model width, H heads, K key/value heads, C channels of a head.
Parameters are fp32 masters; the type of the computation is the type the embedding is cast to
(`Transformer.compute_dtype`), and every Linear casts its master to the type of its input.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from minimind.model.attention import Mask, attend, make_mask
from minimind.model.config import ModelConfig
from minimind.model.init import initialise
from minimind.model.layers import MLP, Linear, RMSNorm
from minimind.model.moe import MoE, Routing
from minimind.model.rope import angles, inverse_frequencies, rotate


class Attention(nn.Module):
    """Grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245), with norms on q and k in Qwen3."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        D, H, K, C = config.hidden_size, config.num_attention_heads, config.kv_heads, config.channels
        self.channels = C
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
        query = self.q_norm(self.q_proj(x_BTD).view(B, T, -1, self.channels))
        key = self.k_norm(self.k_proj(x_BTD).view(B, T, -1, self.channels))
        value = self.v_proj(x_BTD).view(B, T, -1, self.channels)
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
        self.mlp = MoE(config) if config.family.experts else MLP(config.hidden_size, config.ffn_size)

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
        # Unset, as the Linears are: nn.Embedding's own initialisation would draw from the global generator.
        unset = torch.empty(config.vocab_size, config.hidden_size)
        self.embed_tokens = nn.Embedding.from_pretrained(unset, freeze=False)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class Transformer(nn.Module):
    """A causal language model. `forward` gives hidden states, `logits` turns them into scores of tokens.

    compute_dtype  type of the computation
    recompute      keep of each block only its input, and compute it again in the backward pass (activation
                   checkpointing: Chen et al. 2016, arXiv:1604.06174)
    """

    frequencies: torch.Tensor

    def __init__(self, config: ModelConfig, seed: int | None = 0) -> None:
        """Initialised from `seed`; None leaves the parameters unset, to be loaded."""
        super().__init__()
        self.config = config
        self.compute_dtype = torch.float32
        self.compiled = False
        self.recompute = False
        self.model = Decoder(config)
        if not config.tie_word_embeddings:
            self.lm_head = Linear(config.hidden_size, config.vocab_size)
        self.register_buffer("frequencies", inverse_frequencies(config), persistent=False)
        if seed is not None:
            initialise(self, seed)

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
            torch.compile(torch.square)(torch.ones(2, device=self.output_weight.device))
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
        """(V, D): the matrix that turns hidden states into logits."""
        tied = self.config.tie_word_embeddings
        return self.model.embed_tokens.weight if tied else self.lm_head.weight

    def forward(
        self,
        tokens_BT: torch.Tensor,
        positions_BT: torch.Tensor | None = None,
        documents_BT: torch.Tensor | None = None,
        routings: list[Routing] | None = None,
    ) -> torch.Tensor:
        """Hidden states (B, T, D) after the final norm.

        Without documents each row is one document.
        To `routings`, if given, each layer with experts appends what its router decided.
        """
        if positions_BT is None:
            positions_BT = torch.arange(tokens_BT.shape[1], device=tokens_BT.device).expand_as(tokens_BT)
        mask = Mask() if documents_BT is None else make_mask(documents_BT, self.compiled)
        cos, sin = angles(self.config, self.frequencies, positions_BT, documents_BT)
        rotation = (cos.to(self.compute_dtype), sin.to(self.compute_dtype))
        hidden_BTD = self.model.embed_tokens(tokens_BT).to(self.compute_dtype)
        for block in self.model.layers:
            if self.recompute and torch.is_grad_enabled():
                hidden_BTD, routing = checkpoint(
                    block, hidden_BTD, rotation, mask, use_reentrant=False, preserve_rng_state=False
                )
            else:
                hidden_BTD, routing = block(hidden_BTD, rotation, mask)
            if routings is not None and routing is not None:
                routings.append(routing)
        return self.model.norm(hidden_BTD)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(…, D) -> (…, V) in the compute type."""
        return F.linear(hidden, self.output_weight.to(hidden.dtype))
