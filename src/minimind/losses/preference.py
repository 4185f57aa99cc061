"""Learn from pairs of a chosen and a rejected answer, without a reward model and without sampling.

P pairs; every log-probability is of a whole answer given its prompt, summed over its tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def dpo_loss(
    policy_chosen_P: torch.Tensor,
    policy_rejected_P: torch.Tensor,
    reference_chosen_P: torch.Tensor,
    reference_rejected_P: torch.Tensor,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Make the chosen answers likelier than the rejected ones, measured from a frozen reference model.

    Direct preference optimization (Rafailov et al. 2023, arXiv:2305.18290, equation 7): with the implicit reward
    r(y) = β · (log π(y|x) − log π_ref(y|x)) and the margin m = r(chosen) − r(rejected), a pair's loss is −log σ(m).
    β is the price of leaving the reference. Label smoothing ε takes that share of the pairs for mislabeled
    (conservative DPO, Mitchell 2023): −(1 − ε) · log σ(m) − ε · log σ(−m), least at a finite margin.

    Returns the losses (P,) in nats, and metrics, (P,) each and without gradients: `reward_chosen`,
    `reward_rejected`, `margin`, and `accuracy`, which is 1 where the margin is above 0.
    """
    chosen_P = beta * (policy_chosen_P - reference_chosen_P)
    rejected_P = beta * (policy_rejected_P - reference_rejected_P)
    margin_P = chosen_P - rejected_P
    losses_P = -(1 - label_smoothing) * F.logsigmoid(margin_P) - label_smoothing * F.logsigmoid(-margin_P)
    metrics = {
        "accuracy": (margin_P > 0).to(margin_P.dtype),
        "margin": margin_P,
        "reward_chosen": chosen_P,
        "reward_rejected": rejected_P,
    }
    return losses_P, {name: values.detach() for name, values in metrics.items()}
