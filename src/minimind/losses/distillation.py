"""Learn from a teacher's whole distribution of the next token, and not only from the one token that came.

N positions, V tokens, K likeliest of them, O outcomes. Neither the student's logits nor the teacher's are ever all
there: a chunk of positions gives its part of the loss and, in the same pass, its gradients, with four matrix
products in place of the plain loss's three.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F

from minimind.hardware import padded_size
from minimind.losses import cross_entropy
from minimind.losses.cross_entropy import sum_by_chunks

Divergence = Literal["forward_kl", "reverse_kl", "js"]


class TeacherStates(NamedTuple):
    """What a teacher makes of N positions: its logits are `head(hidden_ND)`, (N, V)."""

    hidden_ND: torch.Tensor
    head: Callable[[torch.Tensor], torch.Tensor]

    def padded(self, extra: int) -> TeacherStates:
        return TeacherStates(_padded(self.hidden_ND, extra), self.head)


class TopK(NamedTuple):
    """The teacher's K likeliest tokens, the likeliest first, all others lumped together in one further outcome.

    ids_NK       integers of any type
    logprobs_NO  of the K tokens and of all others together, O = K + 1, in nats at the temperature of the loss; of
                 all V tokens nothing is left, and O = K
    """

    ids_NK: torch.Tensor
    logprobs_NO: torch.Tensor

    def padded(self, extra: int) -> TopK:
        return TopK(_padded(self.ids_NK, extra), _padded(self.logprobs_NO, extra))


class Sums(NamedTuple):
    """Over the positions, in nats: `loss` has a gradient, the rest is only looked at.

    ce         −log p(target) of the student
    kl         the divergence from the teacher, at the temperature
    agreement  positions at which student and teacher find the same token likeliest
    """

    loss: torch.Tensor
    ce: torch.Tensor
    kl: torch.Tensor
    agreement: torch.Tensor


@torch.no_grad()
def top_k(teacher: TeacherStates, k: int, temperature: float = 1.0) -> TopK:
    """The K = min(k, V) likeliest tokens at each position, log-probabilities in fp16; by chunks."""
    size = len(teacher.hidden_ND)
    hidden_ND = _padded(teacher.hidden_ND, padded_size(size, teacher.hidden_ND) - size)
    vocab_size = teacher.head(hidden_ND[:1]).shape[-1]
    rows = max(1, cross_entropy.CHUNK_LOGITS // vocab_size)
    ids, logprobs = [], []
    for i in range(0, max(1, size), rows):
        logits_NV = teacher.head(hidden_ND[i : i + rows])
        wide = torch.promote_types(logits_NV.dtype, torch.float32)
        logprobs_NV = (logits_NV.to(wide) / temperature).log_softmax(-1)
        logprobs_NK, ids_NK = logprobs_NV.topk(min(k, vocab_size))
        if k < vocab_size:
            others_N1 = logprobs_NV.scatter_(1, ids_NK, -torch.inf).logsumexp(-1, keepdim=True)
            logprobs_NK = torch.cat([logprobs_NK, others_N1], 1)
        ids.append(ids_NK)
        logprobs.append(logprobs_NK.half())
    return TopK(torch.cat(ids)[:size], torch.cat(logprobs)[:size])


def reference(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    targets_N: torch.Tensor,
    teacher: TeacherStates | TopK,
    alpha: float,
    temperature: float = 1.0,
    divergence: Divergence = "forward_kl",
    beta: float = 0.5,
) -> torch.Tensor:
    """The obvious way to `linear_distillation`'s loss: by all logits, and PyTorch's own gradients."""
    logits_NV = F.linear(hidden_ND, weight_VD.to(hidden_ND.dtype))
    logits_NV = logits_NV if logits_NV.dtype == torch.float64 else logits_NV.float()
    student = (logits_NV / temperature).log_softmax(-1)
    if isinstance(teacher, TopK):
        ids_NK = teacher.ids_NK.long()
        others = student.scatter(1, ids_NK, -torch.inf).logsumexp(-1, keepdim=True)
        student = torch.cat([student.gather(1, ids_NK), others], 1)[:, : teacher.logprobs_NO.shape[1]]
        target = teacher.logprobs_NO.to(student.dtype).log_softmax(-1)
    else:
        target = (teacher.head(teacher.hidden_ND).to(student.dtype) / temperature).log_softmax(-1)

    def kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        return (p.exp() * (p - q)).sum()

    if divergence == "forward_kl":
        distance = kl(target, student)
    elif divergence == "reverse_kl":
        distance = kl(student, target)
    else:
        mixture = torch.logaddexp(target + math.log(beta), student + math.log(1 - beta))
        distance = beta * kl(target, mixture) + (1 - beta) * kl(student, mixture)
    ce = F.cross_entropy(logits_NV, targets_N, reduction="sum")
    return alpha * ce + (1 - alpha) * temperature**2 * distance


def linear_distillation(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    targets_N: torch.Tensor,
    teacher: TeacherStates | TopK,
    alpha: float,
    temperature: float = 1.0,
    divergence: Divergence = "forward_kl",
    beta: float = 0.5,
) -> Sums:
    """Draw a student's distributions q towards a teacher's p, which tell of every token how fitting it were.

    Hinton et al. 2015 (arXiv:1503.02531): with q and p of the logits divided by the temperature T,

        Σ over positions of  alpha · −log q₁(target)  +  (1 − alpha) · T² · D(p, q)

    where q₁ is the student's own distribution, and T² makes up for the gradient's shrinking by 1/T². D is one of

        forward_kl  KL(p ‖ q): the student covers all that the teacher finds possible
        reverse_kl  KL(q ‖ p): it keeps to what the teacher finds likely
        js          beta · KL(p ‖ m) + (1 − beta) · KL(q ‖ m), where m = beta · p + (1 − beta) · q: between the two
                    (generalized Jensen-Shannon; Agarwal et al. 2023, arXiv:2306.13649, equation 1)

    Of a `TopK`, D compares K + 1 outcomes: the teacher's likeliest tokens, and "one of the others", whose
    probability is 1 − Σ of those. By that it is never more than D of all V, and of K = V it is that.

    hidden_ND (N, D) in the compute type, weight_VD (V, D) master, both get gradients; targets_N (N,) int64.
    """
    size = len(hidden_ND)
    if extra := padded_size(size, hidden_ND) - size:
        hidden_ND, targets_N, teacher = _padded(hidden_ND, extra), _padded(targets_N, extra), teacher.padded(extra)

    def chunk(logits_NV: torch.Tensor, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        targets, real = targets_N[rows], max(0, size - rows.start)
        positions = torch.arange(len(targets), device=targets.device)
        own = logits_NV.log_softmax(-1)
        student = own if temperature == 1 else (logits_NV / temperature).log_softmax(-1)
        if isinstance(teacher, TopK):
            part = TopK(teacher.ids_NK[rows].long(), teacher.logprobs_NO[rows])
            distance, gradient = _distance_by_outcomes(student, part, divergence, beta)
            likeliest = part.ids_NK[:, 0]
        else:
            wanted = teacher.head(teacher.hidden_ND[rows]).to(student.dtype)
            likeliest = wanted.max(-1).indices  # on a CPU quicker than argmax
            wanted = (wanted if temperature == 1 else wanted / temperature).log_softmax(-1)
            distance, gradient = _distance(student, wanted, divergence, beta)
        ce, agrees = -own[positions, targets], own[positions, likeliest] == own.amax(-1)
        loss = alpha * ce + (1 - alpha) * temperature**2 * distance
        sums = torch.stack([loss, ce, distance, agrees.to(loss.dtype)])[:, :real].sum(1)
        if temperature != 1:
            gradient *= temperature  # T² of the loss, 1/T of the logits
        if alpha:
            gradient.lerp_(own.exp_(), alpha)
            gradient[positions, targets] -= alpha
        gradient[real:] = 0
        return sums, gradient

    loss, looked_at = sum_by_chunks(hidden_ND, weight_VD, chunk)
    return Sums(loss, *looked_at)


def _padded(tensor: torch.Tensor, extra: int) -> torch.Tensor:
    return torch.cat([tensor, tensor.new_zeros(extra, *tensor.shape[1:])])


def _distance(
    student_NO: torch.Tensor, teacher_NO: torch.Tensor, divergence: Divergence, beta: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """D (N,) of log-probabilities, and its gradient (N, O) by the logits that the student's are the log-softmax of;
    the teacher's are overwritten.

    That is q · (g − Σ q g), where g is the derivative by q: −p/q, log(q/p) + 1 and (1 − beta) · log(q/m).
    """
    dot = torch.linalg.vecdot
    if divergence == "forward_kl":
        teacher = teacher_NO.exp()
        distance = dot(teacher, teacher_NO.sub_(student_NO))
        return distance, torch.exp(student_NO, out=teacher_NO).sub_(teacher)
    student = student_NO.exp()
    if divergence == "reverse_kl":
        ratio = torch.sub(student_NO, teacher_NO, out=teacher_NO)
        distance = dot(student, ratio)
        return distance, ratio.sub_(distance[:, None]).mul_(student)
    teacher, ratio = teacher_NO.exp(), teacher_NO.sub_(student_NO)  # log p/q
    mixture = torch.logaddexp(ratio + math.log(beta), ratio.new_full((), math.log(1 - beta)))  # log m/q
    from_student = -dot(student, mixture)
    distance = beta * dot(teacher, ratio.sub_(mixture)) + (1 - beta) * from_student
    return distance, mixture.add_(from_student[:, None]).mul_(student).mul_(beta - 1)


def _distance_by_outcomes(
    student_NV: torch.Tensor, teacher: TopK, divergence: Divergence, beta: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same against the teacher's K likeliest tokens and the others; the gradient is (N, V).

    The others share their outcome's gradient by their probabilities: that of a softmax within a softmax.
    """
    ids = teacher.ids_NK
    wanted = teacher.logprobs_NO.to(student_NV.dtype).log_softmax(-1)  # fp16 made the sum differ from 1
    outcomes = student_NV.gather(1, ids)
    gradient = student_NV.exp().scatter_(1, ids, 0)
    if wanted.shape[1] == ids.shape[1]:
        distance, slopes = _distance(outcomes, wanted, divergence, beta)
        return distance, gradient.scatter_(1, ids, slopes)
    others = gradient.sum(-1, keepdim=True).clamp(min=torch.finfo(gradient.dtype).tiny)
    distance, slopes = _distance(torch.cat([outcomes, others.log()], 1), wanted, divergence, beta)
    gradient.mul_(slopes[:, -1:] / others)
    return distance, gradient.scatter_(1, ids, slopes[:, :-1])
