"""What keeps routers healthy: losses that spread tokens over experts and keep logits small.

All are sums over tokens, so that the trainer divides them by the tokens of the whole step. N tokens, E experts, K
experts per token. `kept_N` is 1 for tokens and 0 for padding.
"""

from __future__ import annotations

import torch


def tokens_per_expert(chosen_NK: torch.Tensor, kept_N: torch.Tensor, num_experts: int) -> torch.Tensor:
    """(E,): how many of the N · K choices fell on each expert."""
    experts = torch.arange(num_experts, device=chosen_NK.device)
    return ((chosen_NK[..., None] == experts).sum(1) * kept_N[:, None]).sum(0)


def document_balance(
    probabilities_NE: torch.Tensor, chosen_NK: torch.Tensor, documents_N: torch.Tensor, num_documents: int
) -> torch.Tensor:
    """Σ over documents of n · E · Σ_e f_e · P_e, where n is the document's length in tokens.

    f_e is the share of the document's n · K choices that fell on expert e, P_e its tokens' mean probability of e
    (DeepSeek-V2, arXiv:2405.04434, equations 23 to 25, per document). Divided by all tokens it is 1 when all
    experts are equally busy in every document. The weight n makes it a mean over tokens, whatever shares a row.
    """
    E = probabilities_NE.shape[1]
    kept_N = (documents_N >= 0).to(probabilities_NE.dtype)
    where_N = documents_N.clamp(min=0)
    experts = torch.arange(E, device=chosen_NK.device)
    choices_NE = (chosen_NK[..., None] == experts).sum(1).to(probabilities_NE.dtype) * kept_N[:, None]
    zeros = probabilities_NE.new_zeros(num_documents, E)
    choices = zeros.index_add(0, where_N, choices_NE)
    mass = zeros.index_add(0, where_N, probabilities_NE * kept_N[:, None])
    length = zeros[:, 0].index_add(0, where_N, kept_N)
    return E / chosen_NK.shape[1] * ((choices * mass).sum(1) / length.clamp(min=1)).sum()


def global_balance(probabilities_NE: torch.Tensor, share_E: torch.Tensor, kept_N: torch.Tensor) -> torch.Tensor:
    """Σ over tokens of E · Σ_e f_e · p_e, where f_e is expert e's share of all choices of a whole step."""
    return probabilities_NE.shape[1] * ((probabilities_NE @ share_E.to(probabilities_NE.dtype)) * kept_N).sum()


def z_loss(logits_NE: torch.Tensor, kept_N: torch.Tensor) -> torch.Tensor:
    """Σ over tokens of (log Σ_e exp logit_e)², which keeps logits small (ST-MoE, arXiv:2202.08906, equation 5)."""
    return (logits_NE.logsumexp(-1).square() * kept_N).sum()


def entropy(probabilities_NE: torch.Tensor, kept_N: torch.Tensor) -> torch.Tensor:
    """Σ over tokens of −Σ_e p_e ln p_e, in nats: 0 when the router is sure, ln E when it has no preference."""
    return (torch.special.entr(probabilities_NE).sum(-1) * kept_N).sum()
