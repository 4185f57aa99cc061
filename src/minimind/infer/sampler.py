"""From logits to a token: temperature, truncation and the draw, in a batch whose rows ask for different things.

The order is that of transformers: repetition penalty, temperature, top-k, top-p, min-p.
Letters in names: N rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from minimind.errors import UserError


@dataclass(frozen=True)
class SamplingParams:
    """How one completion is drawn."""

    temperature: float = 0.7
    """divides the logits; 0 always takes the likeliest token"""
    top_k: int = 0
    """only the k likeliest tokens; 0 = all"""
    top_p: float = 0.95
    """only the likeliest tokens that together reach this probability (Holtzman et al. 2019, arXiv:1904.09751)"""
    min_p: float = 0.0
    """only tokens at least this fraction as likely as the likeliest (Nguyen et al. 2024, arXiv:2407.01082)"""
    repetition_penalty: float = 1.0
    """above 1 makes tokens of the text so far less likely (Keskar et al. 2019, arXiv:1909.05858)"""
    max_tokens: int = 512
    """longest answer, in tokens"""
    stop_ids: tuple[int, ...] = (2, 0)
    """tokens that end the answer"""
    seed: int | None = None
    """the same seed gives the same answer to the same prompt, whatever else is in the batch; None = a new one"""

    def __post_init__(self) -> None:
        checks = {
            "temperature": (self.temperature >= 0, "0 or more"),
            "top_k": (self.top_k >= 0, "0 (all tokens) or more"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "min_p": (0 <= self.min_p <= 1, "between 0 and 1"),
            "repetition_penalty": (self.repetition_penalty > 0, "above 0 (1 = no penalty)"),
            "max_tokens": (self.max_tokens >= 1, "at least 1"),
        }
        for name, (is_allowed, wanted) in checks.items():
            if not is_allowed:
                raise UserError(f"{name} must be {wanted}, not {getattr(self, name)}")


def sample(
    logits_NV: torch.Tensor,
    params: Sequence[SamplingParams],
    uniforms: Sequence[float],
    seen_NV: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One token a row, and its log-probability in nats: each (N,).

    uniforms  one number in [0, 1) a row: the row's luck. A row's token depends on its own logits, parameters
              and number only.
    seen_NV   bool, True where the token stands in the row's text; None where no row has a repetition penalty

    The log-probability is of the temperature-scaled distribution before penalty and truncation (temperature 1
    for greedy rows), because that is what a policy-gradient loss computes again from the model alone.
    """
    logits_NV = logits_NV.float()
    temperatures = [p.temperature or 1.0 for p in params]
    temperature_N1 = _column(temperatures, logits_NV)
    scaled_NV = logits_NV if set(temperatures) == {1.0} else logits_NV / temperature_N1
    penalised_NV = scaled_NV
    if seen_NV is not None:
        penalty_N1 = _column([p.repetition_penalty for p in params], logits_NV)
        penalised_NV = penalise(logits_NV, seen_NV, penalty_N1) / temperature_N1
    ids_N = penalised_NV.argmax(-1)
    if any(p.temperature > 0 for p in params):
        drawn_N = draw(truncate(penalised_NV, params), _column(uniforms, logits_NV, torch.float64))
        greedy_N = torch.tensor([p.temperature == 0 for p in params], device=logits_NV.device)
        ids_N = torch.where(greedy_N, ids_N, drawn_N)
    return ids_N, scaled_NV.log_softmax(-1).gather(-1, ids_N[:, None])[:, 0]


def penalise(logits_NV: torch.Tensor, seen_NV: torch.Tensor, penalty_N1: torch.Tensor) -> torch.Tensor:
    """Positive logits of seen tokens are divided by the penalty, negative ones multiplied."""
    lowered_NV = torch.where(logits_NV < 0, logits_NV * penalty_N1, logits_NV / penalty_N1)
    return torch.where(seen_NV, lowered_NV, logits_NV)


def truncate(logits_NV: torch.Tensor, params: Sequence[SamplingParams]) -> torch.Tensor:
    """−inf where top-k, then top-p, then min-p leave a token out; the likeliest token always stays."""
    if any(p.top_k > 0 or p.top_p < 1 for p in params):
        vocab_size = logits_NV.shape[-1]
        top_k_N1 = _column([min(p.top_k or vocab_size, vocab_size) for p in params], logits_NV, torch.int64)
        top_p_N1 = _column([p.top_p for p in params], logits_NV)
        sorted_NV, order_NV = logits_NV.sort(descending=True)
        sorted_NV = sorted_NV.masked_fill(sorted_NV < sorted_NV.gather(-1, top_k_N1 - 1), float("-inf"))
        probabilities_NV = sorted_NV.softmax(-1)
        before_NV = probabilities_NV.cumsum(-1) - probabilities_NV  # of all likelier tokens together
        out_NV = (before_NV >= top_p_N1) & (top_p_N1 < 1)
        out_NV[:, 0] = False
        sorted_NV = sorted_NV.masked_fill(out_NV, float("-inf"))
        # Back in the order of the vocabulary: a draw must not depend on whether another row asked to sort.
        logits_NV = torch.empty_like(logits_NV).scatter_(-1, order_NV, sorted_NV)
    if any(p.min_p > 0 for p in params):
        least_N1 = logits_NV.amax(-1, keepdim=True) + _column([p.min_p for p in params], logits_NV).log()
        logits_NV = logits_NV.masked_fill(logits_NV < least_N1, float("-inf"))
    return logits_NV


def draw(logits_NV: torch.Tensor, uniforms_N1: torch.Tensor) -> torch.Tensor:
    """(N,) token ids: where each row's number falls in its cumulative distribution.

    In fp64, where rounding cannot move a draw onto a token of probability zero.
    """
    cumulative_NV = logits_NV.softmax(-1).double().cumsum(-1)
    return torch.searchsorted(cumulative_NV, uniforms_N1 * cumulative_NV[:, -1:], right=True)[:, 0]


def _column(values: Sequence[float], like: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype, device=like.device)[:, None]
