"""From logits to a token: temperature, truncation, sampling, in a batch whose rows ask for different things.

The order is that of transformers: penalties and biases, temperature, top-k, top-p, min-p.
Letters in names: N rows, V vocabulary.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated

import numpy as np
import torch

from minimind.errors import UserError
from minimind.util.typed import Count, Range, Share, check_fields

Penalty = Annotated[float, Range(-100, 100)]

COLDEST = 1e-5
"""a lower temperature takes the likeliest token: in fp32 it would make rounding errors decide"""


@dataclass(frozen=True)
class SamplingParams:
    """How one completion is sampled."""

    temperature: Annotated[float, Range(0, 1000)] = 0.7
    """divides the logits; 0, like everything below COLDEST, always takes the likeliest token"""
    top_k: Annotated[int, Range(0, 10**9)] = 0
    """only the k likeliest tokens; 0 = all"""
    top_p: Share = 0.95
    """only the likeliest tokens that together reach this probability (Holtzman et al. 2019, arXiv:1904.09751)"""
    min_p: Share = 0.0
    """only tokens at least this fraction as likely as the likeliest (Nguyen et al. 2024, arXiv:2407.01082)"""
    repetition_penalty: Annotated[float, Range(0.01, 100)] = 1.0
    """above 1 makes tokens of the text so far less likely (Keskar et al. 2019, arXiv:1909.05858)"""
    presence_penalty: Penalty = 0.0
    """taken from the logit of every token that the answer has used (as in OpenAI's API)"""
    frequency_penalty: Penalty = 0.0
    """taken from a token's logit as often as the answer has used it (as in OpenAI's API)"""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """(token, number added to its logit), as in OpenAI's API: -100 forbids a token, 100 forces it"""
    top_logprobs: Annotated[int, Range(0, 1000)] = 0
    """how many of the likeliest tokens are reported beside each token of the answer"""
    json_schema: str | None = None
    """JSON Schema, as JSON text, that the answer must follow; "{}" allows any JSON object; None = free text"""
    offered_tools: str | None = None
    """tools, as a JSON list in OpenAI's form: a call must name one of them, and its arguments follow the tool's
    schema; the answer may then be such calls even where it has a json_schema. None = a call may hold anything"""
    open_call: bool = False
    """the prompt ends inside a call of one of `offered_tools`, and the answer is the rest of it"""
    max_tokens: Count = 512
    """longest answer, in tokens"""
    thinking_budget: Count | None = None
    """after so many tokens of thinking the thought is closed and the model answers; None = as long as it thinks"""
    stop_ids: tuple[int, ...] = (2, 0)
    """tokens that end the answer"""
    seed: Annotated[int | None, Range(-(2**63), 2**64 - 1)] = None
    """the same seed gives the same answer to the same prompt, whatever else is in the batch; None = a new one. A
    negative one is a seed like any other"""

    def __post_init__(self) -> None:
        check_fields(self)
        if any(token < 0 or not math.isfinite(bias) for token, bias in self.logit_bias):
            raise UserError("logit_bias must be pairs of a token id and a finite number")

    @property
    def divisor(self) -> float:
        """What divides the logits; 0: the likeliest token is taken."""
        return 0.0 if self.temperature < COLDEST else self.temperature

    def rng(self) -> random.Random:
        """One number a token: independent of device, batch and every other generator."""
        # Random takes the absolute value of an integer, so -1 would be 1.
        return random.Random(self.seed if self.seed is None or self.seed >= 0 else str(self.seed))


FOR_PROGRAMS = ("stop_ids", "logit_bias", "top_logprobs", "json_schema", "offered_tools", "open_call")
SETTINGS = tuple(field.name for field in fields(SamplingParams) if field.name not in FOR_PROGRAMS)
"""the parameters that a person sets"""


def sample(
    logits_NV: torch.Tensor,
    params: Sequence[SamplingParams],
    uniforms: Sequence[float],
    adjusted_NV: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One token a row, and the log-probabilities to report, in nats: (N,) and (N, V).

    uniforms     one random number in [0, 1) a row. A row's token depends on its logits, parameters and number only.
    adjusted_NV  what to sample from instead of the logits: with penalties, biases and what a constraint forbids.
                 Of logits that are no numbers any token comes, with a log-probability that is none.

    The log-probabilities are of the temperature-scaled distribution before adjustment and truncation (temperature 1
    for greedy rows), because that is what a policy-gradient loss computes again from the model alone.
    """
    logits_NV = logits_NV.float()
    adjusted_NV = logits_NV if adjusted_NV is None else adjusted_NV.float()
    scaled_NV = logits_NV
    divisors = [p.divisor for p in params]
    sampling = [row for row, divisor in enumerate(divisors) if divisor]
    if len(sampling) < len(params):
        ids_N = adjusted_NV.argmax(-1)
    else:
        ids_N = torch.empty(len(params), dtype=torch.int64, device=logits_NV.device)
    if sampling:
        divisor_N1 = _column([divisor or 1.0 for divisor in divisors], logits_NV)
        scaled_NV = logits_NV / divisor_N1
        rows = torch.tensor(sampling, device=logits_NV.device)
        truncated_NV = truncate((relative(adjusted_NV) / divisor_N1)[rows], [params[row] for row in sampling])
        uniforms_N1 = _column([uniforms[row] for row in sampling], logits_NV, torch.float64)
        ids_N = ids_N.index_copy(0, rows, sample_inverse_cdf(truncated_NV, uniforms_N1))
    return ids_N, scaled_NV.log_softmax(-1)


def relative(logits: torch.Tensor) -> torch.Tensor:
    """The logits less the row's largest, in fp32: so none grows beyond it, whatever divides them."""
    return (logits - logits.amax(-1, keepdim=True)).float()


class Adjustment:
    """The penalties and biases of one request, as tensors: a step costs the same however long text and biases are.

    text  the prompt; the repetition penalty is for its tokens, too, the others only for those of the answer

    Computed in fp64, so whatever the parameters, every logit stays a finite number.
    """

    def __init__(
        self, params: SamplingParams, text: Sequence[int], vocab_size: int, device: torch.device | str = "cpu"
    ) -> None:
        zeros_V = torch.zeros(vocab_size, dtype=torch.float64, device=device)
        self.params = params
        self.seen_V = self.counts_V = self.bias_V = None
        if params.repetition_penalty != 1:
            self.seen_V = zeros_V.bool().index_fill_(0, torch.tensor(text, dtype=torch.int64, device=device), True)
        if params.presence_penalty or params.frequency_penalty:
            self.counts_V = zeros_V.clone()
        if biases := [(token, bias) for token, bias in params.logit_bias if token < vocab_size]:
            ids, values = map(list, zip(*biases))
            summed_V = zeros_V.index_add(0, torch.tensor(ids, device=device), zeros_V.new_tensor(values))
            self.bias_V = summed_V.clamp_(-1e300, 1e300)  # so that no sum is beyond fp64

    @property
    def changes(self) -> bool:
        return not (self.seen_V is None and self.counts_V is None and self.bias_V is None)

    def receive(self, token: int) -> None:
        """The answer has grown by a token."""
        if self.seen_V is not None:
            self.seen_V[token] = True
        if self.counts_V is not None:
            self.counts_V[token] += 1

    def __call__(self, logits_V: torch.Tensor) -> torch.Tensor:
        """A row of logits, adjusted, in fp64.

        The repetition penalty divides a positive logit and multiplies a negative one; the frequency penalty is
        subtracted as often as the answer has used a token, the presence penalty once.
        """
        p, logits_V = self.params, logits_V.double()
        if self.seen_V is not None:
            penalty = p.repetition_penalty
            penalized_V = torch.where(logits_V < 0, logits_V * penalty, logits_V / penalty)
            logits_V = torch.where(self.seen_V, penalized_V, logits_V)
        if self.counts_V is not None:
            penalty_V = p.frequency_penalty * self.counts_V + p.presence_penalty
            logits_V = torch.where(self.counts_V > 0, logits_V - penalty_V, logits_V)
        if self.bias_V is not None:
            logits_V = logits_V + self.bias_V
        return logits_V


def truncate(logits_NV: torch.Tensor, params: Sequence[SamplingParams]) -> torch.Tensor:
    """−inf where top-k, then top-p, then min-p leave a token out; the likeliest token always stays.

    Tokens that are as likely as the last one to stay do so, too.
    """
    if any(p.top_k > 0 or p.top_p < 1 for p in params):
        logits_NV = logits_NV.masked_fill(logits_NV < least_to_stay(logits_NV, params), -torch.inf)
    if any(p.min_p > 0 for p in params):
        least_N1 = logits_NV.amax(-1, keepdim=True) + _column([p.min_p for p in params], logits_NV).log()
        logits_NV = logits_NV.masked_fill(logits_NV < least_N1, -torch.inf)
    return logits_NV


def least_to_stay(logits_NV: torch.Tensor, params: Sequence[SamplingParams]) -> torch.Tensor:
    """(N, 1): the lowest logit of each row that top-k and top-p leave in."""
    vocab_size = logits_NV.shape[-1]
    top_k_N1 = _column([min(p.top_k or vocab_size, vocab_size) for p in params], logits_NV, torch.int64)
    top_p_N1 = _column([p.top_p for p in params], logits_NV)
    after_k_NV = torch.arange(vocab_size, device=logits_NV.device) >= top_k_N1
    sorted_NV = _descending(logits_NV).masked_fill(after_k_NV, -torch.inf)
    probabilities_NV = sorted_NV.softmax(-1)
    before_NV = probabilities_NV.cumsum(-1) - probabilities_NV  # of all likelier tokens together
    stays_NV = ((before_NV < top_p_N1) | (top_p_N1 == 1)) & ~after_k_NV
    stays_NV[:, 0] = True
    return sorted_NV.gather(-1, stays_NV.sum(-1, keepdim=True) - 1)


def _descending(logits_NV: torch.Tensor) -> torch.Tensor:
    if logits_NV.device.type == "cpu":  # NumPy sorts with vector instructions, ten times as fast
        return torch.from_numpy(np.sort(logits_NV.numpy(), axis=-1)).flip(-1)
    return logits_NV.sort(descending=True).values


def sample_inverse_cdf(logits_NV: torch.Tensor, uniforms_N1: torch.Tensor) -> torch.Tensor:
    """(N,) token ids: where each row's number falls in its cumulative distribution.

    In fp64, where rounding cannot move a sample onto a token of probability zero.
    """
    cumulative_NV = logits_NV.softmax(-1).double().cumsum(-1)
    ids_N = torch.searchsorted(cumulative_NV, uniforms_N1 * cumulative_NV[:, -1:], right=True)[:, 0]
    return ids_N.clamp_(max=logits_NV.shape[-1] - 1)  # behind the last, where the sum is no number


def _column(values: Sequence[float], like: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype, device=like.device)[:, None]
