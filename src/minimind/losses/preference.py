"""Learn from answers that people prefer to others, without sampling: DPO and its kin, and reward models.

| loss  | equation                           | compares with a reference | divides by the answer's length |
|-------|------------------------------------|---------------------------|--------------------------------|
| DPO   | 7 of arXiv:2305.18290              | yes                       | no                             |
| IPO   | 17 of arXiv:2310.12036             | yes                       | yes                            |
| SimPO | 6 of arXiv:2405.14734              | no                        | yes                            |
| ORPO  | 7 of arXiv:2403.07691              | no                        | yes                            |
| KTO   | 8 of arXiv:2402.01306              | yes                       | no                             |

P pairs; every log-probability is of a whole answer given its prompt, in nats, summed over its tokens. Each function
returns the losses (P,) and what `preference_metrics` makes of the rewards that it compares.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

Compared = tuple[torch.Tensor, dict[str, torch.Tensor]]


def dpo_loss(
    policy_chosen_P: torch.Tensor,
    policy_rejected_P: torch.Tensor,
    reference_chosen_P: torch.Tensor,
    reference_rejected_P: torch.Tensor,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
) -> Compared:
    """Make the chosen answers likelier than the rejected ones, measured from a frozen reference model.

    Direct preference optimization (Rafailov et al. 2023, arXiv:2305.18290, equation 7): with the implicit reward
    r(y) = β · (log π(y|x) − log π_ref(y|x)) and the margin m = r(chosen) − r(rejected), a pair's loss is −log σ(m).
    β is the price of leaving the reference. Label smoothing ε takes that share of the pairs for mislabeled
    (conservative DPO, Mitchell 2023): −(1 − ε) · log σ(m) − ε · log σ(−m), least at a finite margin.
    """
    chosen_P = beta * (policy_chosen_P - reference_chosen_P)
    rejected_P = beta * (policy_rejected_P - reference_rejected_P)
    return logistic(chosen_P - rejected_P, label_smoothing), preference_metrics(chosen_P, rejected_P)


def ipo_loss(
    policy_chosen_P: torch.Tensor,
    policy_rejected_P: torch.Tensor,
    reference_chosen_P: torch.Tensor,
    reference_rejected_P: torch.Tensor,
    chosen_tokens_P: torch.Tensor,
    rejected_tokens_P: torch.Tensor,
    beta: float = 0.1,
) -> Compared:
    """Bring the margin to a finite value, so that pairs on which all agree do not drive the model ever further.

    Identity preference optimization (Azar et al. 2023, arXiv:2310.12036, equation 17): (h − 1/(2β))², where h is
    the difference of the log-ratios log π(y|x) − log π_ref(y|x), per token as its authors told trl.
    """
    chosen_P = (policy_chosen_P - reference_chosen_P) / chosen_tokens_P
    rejected_P = (policy_rejected_P - reference_rejected_P) / rejected_tokens_P
    losses_P = (chosen_P - rejected_P - 1 / (2 * beta)).square()
    return losses_P, preference_metrics(beta * chosen_P, beta * rejected_P)


def simpo_loss(
    policy_chosen_P: torch.Tensor,
    policy_rejected_P: torch.Tensor,
    chosen_tokens_P: torch.Tensor,
    rejected_tokens_P: torch.Tensor,
    beta: float = 2.0,
    gamma: float = 1.0,
    label_smoothing: float = 0.0,
) -> Compared:
    """Reward what generation ranks answers by, the mean log-probability of a token, and need no reference.

    Simple preference optimization (Meng et al. 2024, arXiv:2405.14734, equation 6): r(y) = β / |y| · log π(y|x),
    and −log σ(r(chosen) − r(rejected) − γ), where γ is by how much the chosen answer is to win.
    """
    chosen_P, rejected_P = beta * policy_chosen_P / chosen_tokens_P, beta * policy_rejected_P / rejected_tokens_P
    losses_P = logistic(chosen_P - rejected_P - gamma, label_smoothing)
    return losses_P, preference_metrics(chosen_P, rejected_P)


def orpo_loss(
    policy_chosen_P: torch.Tensor,
    policy_rejected_P: torch.Tensor,
    chosen_tokens_P: torch.Tensor,
    rejected_tokens_P: torch.Tensor,
    beta: float = 0.1,
) -> Compared:
    """Raise the odds of the chosen answer over those of the rejected one, beside fine-tuning on the chosen one.

    Odds ratio preference optimization (Hong et al. 2024, arXiv:2403.07691, equations 4, 6 and 7; β is its λ): with
    p(y) the geometric mean of a token's probability, −β · log σ(log odds(chosen) − log odds(rejected)), where
    odds(y) = p / (1 − p). The NLL of the chosen answer is a term of its own, the caller's.
    """
    chosen_P, rejected_P = policy_chosen_P / chosen_tokens_P, policy_rejected_P / rejected_tokens_P
    log_odds_P = chosen_P - rejected_P - (log_1_minus_exp(chosen_P) - log_1_minus_exp(rejected_P))
    return -beta * F.logsigmoid(log_odds_P), preference_metrics(beta * chosen_P, beta * rejected_P)


def kto_loss(
    policy_S: torch.Tensor,
    reference_S: torch.Tensor,
    desirable_S: torch.Tensor,
    kl: torch.Tensor,
    beta: float = 0.1,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Learn from answers of which each is good or bad by itself, without pairs.

    Kahneman-Tversky optimization (Ethayarajh et al. 2024, arXiv:2402.01306, equation 8, both weights 1): with the
    reward r = log π(y|x) − log π_ref(y|x), a good answer's loss is 1 − σ(β(r − z)), a bad one's 1 − σ(β(z − r)).
    The point z that they are measured from is the KL divergence of π from π_ref: `kl`, without a gradient.

    S answers, desirable_S (S,) bool. Returns the losses (S,), and β(r − z) (S,) without a gradient: good answers
    are to be above 0 and bad ones below.
    """
    gain_S = beta * (policy_S - reference_S - kl)
    return torch.sigmoid(torch.where(desirable_S, -gain_S, gain_S)), gain_S.detach()


def reward_loss(
    chosen_P: torch.Tensor, rejected_P: torch.Tensor, margin: float = 0.0, center: float = 0.0
) -> Compared:
    """Score the chosen answers above the rejected ones.

    Bradley & Terry 1952, as in Ouyang et al. 2022 (arXiv:2203.02155, equation 1): −log σ(r(chosen) − r(rejected)
    − m), the margin m as in Touvron et al. 2023 (arXiv:2307.09288, equation 2). Only differences of rewards count
    there; `center` times (r(chosen) + r(rejected))² keeps them around 0 (Eisenstein et al. 2023, arXiv:2312.09244).
    """
    losses_P = logistic(chosen_P - rejected_P - margin) + center * (chosen_P + rejected_P).square()
    return losses_P, preference_metrics(chosen_P, rejected_P)


def logistic(margin_P: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """−log σ(m), the share `label_smoothing` of it with the sides exchanged."""
    return -(1 - label_smoothing) * F.logsigmoid(margin_P) - label_smoothing * F.logsigmoid(-margin_P)


def log_1_minus_exp(x: torch.Tensor) -> torch.Tensor:
    """log(1 − eˣ) of negative x without loss of digits (Mächler 2012); of 0, whose odds are infinite, as of a bit
    less."""
    x = x.clamp(max=-torch.finfo(x.dtype).eps)
    return torch.where(x > -math.log(2), torch.log(-torch.expm1(x)), torch.log1p(-torch.exp(x)))


def preference_metrics(chosen_P: torch.Tensor, rejected_P: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of the rewards of both sides, (P,) each and without gradients: `reward_chosen`, `reward_rejected`, their
    difference `margin`, and `accuracy`, which is 1 where the chosen answer has the higher reward."""
    chosen_P, rejected_P = chosen_P.detach(), rejected_P.detach()
    accuracy_P = (chosen_P > rejected_P).to(chosen_P.dtype)
    margin_P = chosen_P - rejected_P
    rewards = {"reward_chosen": chosen_P, "reward_rejected": rejected_P}
    return {"accuracy": accuracy_P, "margin": margin_P, **rewards}
