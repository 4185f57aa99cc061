"""Learn from sampled answers: tokens of answers that did better than expected become likelier, the others less.

All tensors are (B, T), one entry per target; outside the mask losses and metrics are 0.
"""

from __future__ import annotations

import torch


def clipped_policy_loss(
    logprobs_BT: torch.Tensor,
    old_logprobs_BT: torch.Tensor,
    advantages_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    kl_weight: float = 0.0,
    reference_logprobs_BT: torch.Tensor | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Follow the policy gradient, but no further from the policy that sampled than a small step.

    GRPO (Shao et al. 2024, arXiv:2402.03300, equation 3) with PPO's clipped objective (Schulman et al. 2017,
    arXiv:1707.06347, equation 7): with the ratio r = π(token) / π_old(token), a token's loss is

        −min(r · A, clip(r, 1 − clip_low, 1 + clip_high) · A)  +  kl_weight · KL(π ‖ π_ref)

    so that nothing is gained by a ratio beyond its bound. A higher `clip_high` leaves unlikely tokens room to grow,
    and a mean over all tokens of a step, to which the trainer divides, weighs long answers in full (DAPO, Yu et al.
    2025, arXiv:2503.14476). The KL to a reference is estimated as in `k3`.

    old_logprobs_BT  recorded when the tokens were sampled, of the same temperature
    mask_BT          1 (or True) where the model chose the token

    Returns the losses, and metrics without gradients: `clip_fraction`, 1 where the bound stops the gradient;
    `approx_kl`, KL(π_old ‖ π); with a reference also `reference_kl`. Sum them and divide by the tokens.
    """
    mask_BT = mask_BT.to(logprobs_BT.dtype)
    log_ratio_BT = logprobs_BT - old_logprobs_BT
    ratio_BT = log_ratio_BT.exp()
    clipped_BT = ratio_BT.clamp(1 - clip_low, 1 + clip_high)
    unclipped_gain_BT, clipped_gain_BT = ratio_BT * advantages_BT, clipped_BT * advantages_BT
    losses_BT = -torch.minimum(unclipped_gain_BT, clipped_gain_BT)
    metrics = {
        "clip_fraction": (clipped_gain_BT < unclipped_gain_BT).to(mask_BT.dtype),
        "approx_kl": k3(old_logprobs_BT, logprobs_BT),
    }
    if reference_logprobs_BT is not None:
        metrics["reference_kl"] = k3(logprobs_BT, reference_logprobs_BT)
        losses_BT = losses_BT + kl_weight * metrics["reference_kl"]
    return losses_BT * mask_BT, {name: (values * mask_BT).detach() for name, values in metrics.items()}


def k3(logprobs_BT: torch.Tensor, other_logprobs_BT: torch.Tensor) -> torch.Tensor:
    """Estimate KL(p ‖ q) from tokens sampled from p: q/p − 1 − log(q/p), unbiased and never negative.

    Schulman 2020, "Approximating KL divergence", estimator k3.
    """
    log_ratio_BT = other_logprobs_BT - logprobs_BT
    return log_ratio_BT.exp() - 1 - log_ratio_BT
