"""How many floating-point operations a model costs."""

from __future__ import annotations

from minimind.model import ModelConfig
from minimind.model.count import active_parameters


def flops_per_token(config: ModelConfig, seq_len: int) -> float:
    """Floating-point operations of forward and backward per position.

    6 for each parameter that it is multiplied by (Kaplan et al. 2020, arXiv:2001.08361) and 12·L·H·C·T/2 for causal
    attention over a full sequence. An untied input embedding is looked up, not multiplied.
    """
    parameters = active_parameters(config)
    if not config.tie_word_embeddings:
        parameters -= config.vocab_size * config.hidden_size
    attention = config.num_hidden_layers * config.num_attention_heads * config.head_dim * seq_len
    return 6.0 * parameters + 6.0 * attention
