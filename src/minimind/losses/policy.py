"""Learn from sampled answers: tokens of answers that did better than expected become likelier, the others less.

All policy gradients are one, that of A · log π(token), A being how much better the answer did than expected. An
algorithm says what A is (`rl.advantages`), how tokens are averaged, what keeps the model near another, and what
bounds a step when the model that learns has left the one that sampled:

| term      | equation              | the ratio r of a token's two probabilities                               |
|-----------|-----------------------|--------------------------------------------------------------------------|
| ppo       | 7 of arXiv:1707.06347 | clipped: beyond its bound nothing more is gained, the token rests        |
| gspo      | 5 of arXiv:2507.18071 | the same with one ratio for an answer, the geometric mean of its tokens' |
| cispo     | 4 of arXiv:2506.13585 | a bounded weight: every token goes on learning                           |
| reinforce | Williams 1992         | a weight bounded from above alone                                        |

Tensors are (B, T), one entry per target, and 0 where nothing was sampled. A batch has the columns `logprobs`, as
recorded when its tokens were sampled, and `advantages`. Each term returns the losses, and 1 where its bound acts.
"""

from __future__ import annotations

import math

import torch

from minimind.data.batches.batch import Batch

Learned = tuple[torch.Tensor, torch.Tensor]


def ppo_loss(
    logprobs_BT: torch.Tensor,
    batch: Batch,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float = math.inf,
) -> Learned:
    """Follow the policy gradient, but no further from the policy that sampled than a small step.

    The clipped objective of PPO (Schulman et al. 2017, arXiv:1707.06347, equation 7), which GRPO has, too (Shao et
    al. 2024, arXiv:2402.03300, equation 3): with the ratio r = π(token) / π_old(token), a token's loss is

        −min(r · A, clip(r, 1 − clip_low, 1 + clip_high) · A)

    so that nothing is gained by a ratio beyond its bound. A higher `clip_high` leaves unlikely tokens room to grow
    (DAPO, Yu et al. 2025, arXiv:2503.14476). What a bad token costs has no bound when its ratio grows, unless
    `dual_clip` is one, above 1 + clip_high: max(·, dual_clip · A) where A < 0 (Ye et al. 2020, arXiv:1912.09729,
    equation 5).
    """
    return _clipped(log_ratios(logprobs_BT, batch).exp(), batch, clip_low, clip_high, dual_clip)


def gspo_loss(
    logprobs_BT: torch.Tensor,
    batch: Batch,
    clip_low: float = 3e-4,
    clip_high: float = 4e-4,
    dual_clip: float = math.inf,
) -> Learned:
    """The same for whole answers: what is rewarded is what is clipped.

    Group sequence policy optimization (Zheng et al. 2025, arXiv:2507.18071, equations 5 and 7): all tokens of an
    answer have the ratio (π(answer) / π_old(answer))^(1 / tokens). It varies much less than that of a token, so its
    bounds are narrow. Its authors average over each answer's tokens, then over answers.
    """
    ratio_BT = batch.spread(answer_means(log_ratios(logprobs_BT, batch), batch)).exp()
    return _clipped(ratio_BT, batch, clip_low, clip_high, dual_clip)


def cispo_loss(logprobs_BT: torch.Tensor, batch: Batch, clip_low: float = 1.0, clip_high: float = 2.0) -> Learned:
    """Bound the weight of a token, never its gradient: rare tokens that turn a thought are often the first to be
    clipped, and PPO then learns nothing from them.

    CISPO (MiniMax 2025, arXiv:2506.13585, equations 4 and 5): −clip(r, 1 − clip_low, 1 + clip_high) · A · log π,
    the clipped ratio taken for a constant. Its authors bound it from above alone, which is clip_low 1.
    """
    ratio_BT = log_ratios(logprobs_BT, batch).detach().exp()
    weight_BT = ratio_BT.clamp(1 - clip_low, 1 + clip_high)
    return -weight_BT * batch.columns["advantages"] * logprobs_BT, (weight_BT != ratio_BT).to(ratio_BT.dtype)


def reinforce_loss(logprobs_BT: torch.Tensor, batch: Batch, clip_high: float = 1.0) -> Learned:
    """Follow the plain policy gradient, −A · log π (REINFORCE, Williams 1992).

    Where the model has left the one that sampled, a token's weight is its ratio, at most 1 + clip_high (truncated
    importance sampling, as in IMPALA: Espeholt et al. 2018, arXiv:1802.01561, section 4.2).
    """
    return cispo_loss(logprobs_BT, batch, clip_low=1.0, clip_high=clip_high)


def value_loss(
    values_BT: torch.Tensor, old_values_BT: torch.Tensor, returns_BT: torch.Tensor, clip: float = math.inf
) -> Learned:
    """Half the squared error of a critic's values, which gains nothing by moving further than `clip` from what they
    were when the answers were sampled.

    The value loss of PPO (equation 9), clipped as in its reference implementation (openai/baselines `ppo2`):
    ½ · max((V − R)², (V_old + clip(V − V_old, ±clip) − R)²).
    """
    near_BT = old_values_BT + (values_BT - old_values_BT).clamp(-clip, clip)
    errors_BT, near_errors_BT = (values_BT - returns_BT).square(), (near_BT - returns_BT).square()
    return 0.5 * torch.maximum(errors_BT, near_errors_BT), (near_errors_BT > errors_BT).to(errors_BT.dtype)


def k3(logprobs_BT: torch.Tensor, other_logprobs_BT: torch.Tensor) -> torch.Tensor:
    """Estimate KL(p ‖ q) from tokens sampled from p: q/p − 1 − log(q/p), unbiased and never negative.

    Schulman 2020, "Approximating KL divergence", estimator k3.
    """
    log_ratio_BT = other_logprobs_BT - logprobs_BT
    return log_ratio_BT.exp() - 1 - log_ratio_BT


def log_ratios(logprobs_BT: torch.Tensor, batch: Batch) -> torch.Tensor:
    """log(π(token) / π_old(token)): 0 where the model is the one that sampled, and where nothing was sampled."""
    return logprobs_BT - batch.columns["logprobs"]


def answer_means(values_BT: torch.Tensor, batch: Batch) -> torch.Tensor:
    """(S,): the mean over each answer's sampled tokens."""
    return batch.sum_by_document(values_BT) / batch.table["tokens"].clamp(min=1)


def _clipped(ratio_BT: torch.Tensor, batch: Batch, clip_low: float, clip_high: float, dual_clip: float) -> Learned:
    advantages_BT = batch.columns["advantages"]
    gain_BT, bounded_BT = ratio_BT * advantages_BT, ratio_BT.clamp(1 - clip_low, 1 + clip_high) * advantages_BT
    losses_BT = -torch.minimum(ratio_BT.clamp(max=dual_clip) * advantages_BT, bounded_BT)
    rests_BT = (bounded_BT < gain_BT) | ((ratio_BT > dual_clip) & (advantages_BT < 0))
    return losses_BT, rests_BT.to(ratio_BT.dtype)
