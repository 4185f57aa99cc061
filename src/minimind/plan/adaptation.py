"""How a model is made an expert of a domain, by the size of model and data: rules, each with its reason in words.

The constants are those of the papers named, or were measured on small models (docs/results/own-domain.md); every
choice can be overridden.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import yaml

from minimind.model import ModelConfig, Transformer
from minimind.model.count import count_parameters
from minimind.model.lora import LoraOptions, add_lora
from minimind.plan.memory import STATE_BYTES
from minimind.util.units import size_text

FEWEST_TOKENS = 20_000  # of texts that are worth a training of their own: some 30 pages
RANKS = (8, 16, 32, 64)
LARGEST_ADAPTER = 0.1  # of the model's parameters; a larger one saves nothing
FEWEST_PAIRS_HELD_OUT_OF = 500
RATES = {"pretrain": 0.005, "sft": 0.005}
ADAPTER_RATES = {"pretrain": 0.01, "sft": 0.01}


@dataclass(frozen=True)
class Amount:
    """How much data there is: documents, tokens that are trained on, all tokens, and those of a long document."""

    documents: int
    trained_tokens: int
    tokens: int
    long: int


@dataclass(frozen=True)
class StagePlan:
    """One training: settings of its recipe by key, passes over the domain's data, share of general data, and why.

    The mixture holds the domain's data as often as there are passes, and is read once: so the general data in it
    are not the same few in every pass.
    """

    stage: str
    settings: dict[str, Any]
    passes: int
    replay: float
    reasons: list[str]


def worth_pretraining(tokens: int) -> tuple[bool, str]:
    """Whether texts are trained on by themselves."""
    if tokens >= FEWEST_TOKENS:
        return True, f"continued pretraining: {tokens:,} tokens of texts, at least {FEWEST_TOKENS:,}"
    return False, (
        f"no continued pretraining: {tokens:,} tokens of texts are fewer than {FEWEST_TOKENS:,}, too few to change "
        "what a model knows; put what matters most into the FAQ"
    )


def plan_stage(
    stage: str, config: ModelConfig, amount: Amount, memory: float | None, replay: float, replay_reason: str,
    held_out: float | None, passes: int | None,
) -> StagePlan:  # fmt: skip
    """Settings of a stage for so much data; `memory` in GB, `held_out` and `passes` what the user wants (None: by
    rule)."""
    rank, why_rank = adapter_rank(config, amount.trained_tokens, memory)
    passes, why_passes = number_of_passes(stage, amount, passes)
    share, why_share = held_out_share(stage, amount.documents, held_out)
    seq_len = sequence_length(amount.long, config.max_position_embeddings)
    tokens_per_step = step_size(passes * amount.tokens / (1 - replay), seq_len)
    rate = (ADAPTER_RATES if rank else RATES)[stage]
    settings = {
        "lora.rank": rank,
        "budget.epochs": 1.0,
        "optimizer.learning_rate": rate,
        "batch.seq_len": seq_len,
        "batch.tokens_per_step": tokens_per_step,
        "batch.micro_batch_tokens": max(seq_len, min(8192, tokens_per_step)),
        "evaluation.holdout": share,
        "evaluation.samples": 0,
    }
    why_rate = f"rate {rate:g}: usual for {'an adapter' if rank else 'all weights'} in steps this small"
    why_step = f"steps of {tokens_per_step:,} tokens, sequences of {seq_len:,}"
    return StagePlan(
        stage, settings, passes, replay, [why_rank, why_passes, why_rate, why_step, replay_reason, why_share]
    )


def adapter_rank(config: ModelConfig, tokens: int, memory: float | None) -> tuple[int, str]:
    """The rank of the adapter, 0 for all weights.

    An adapter learns as much as all weights do while its parameters are at least as many as the tokens that it is
    to learn (some 2 bits a parameter against 1 a token: Schulman 2025, "LoRA Without Regret"), and it forgets less
    (Biderman et al. 2024, arXiv:2405.09673).
    """
    total = count_parameters(config)["total"]
    per_rank = parameters_per_rank(config)
    for rank in RANKS:
        size = rank * per_rank
        if size > LARGEST_ADAPTER * total:
            break
        if size >= tokens:
            return rank, f"LoRA of rank {rank}: {size:,} parameters can hold {tokens:,} tokens, and it forgets less"
    needed = STATE_BYTES * total / 1e9
    if memory is not None and needed > 0.8 * memory:
        there = f"{size_text(1e9 * needed)} of {size_text(1e9 * memory)}"
        return RANKS[-1], f"LoRA of rank {RANKS[-1]}: training all weights would take {there} of memory"
    return 0, f"all weights: {tokens:,} tokens are more than a small adapter can hold, and memory allows it"


def parameters_per_rank(config: ModelConfig) -> int:
    """Parameters of an adapter of rank 1 over all matrices that it is given by default."""
    with torch.device("meta"):
        model = Transformer(config, seed=None)
    return add_lora(model, LoraOptions(rank=1)).parameters


def number_of_passes(stage: str, amount: Amount, wanted: int | None) -> tuple[int, str]:
    """Texts: up to four passes teach nearly as much as new text (Muennighoff et al. 2023, arXiv:2305.16264).

    Answers have to be learned by heart where there are few: passes fall with the root of their number.
    """
    if wanted is not None:
        return wanted, f"{wanted} passes, as asked"
    if stage == "pretrain":
        passes = 4 if amount.trained_tokens < 1e6 else 2 if amount.trained_tokens < 1e7 else 1
        return passes, f"{passes} passes: by {amount.trained_tokens:,} tokens; four are nearly as good as new text"
    passes = round(min(20.0, max(2.0, 150 / math.sqrt(amount.documents))))
    return passes, f"{passes} passes: by {amount.documents:,} conversations; few must be seen often"


def step_size(tokens: float, seq_len: int) -> int:
    """Positions of one step for a training of so many: as in plan.derive, but from 512 on."""
    power = 2 ** round(math.log2(min(max(2048 * math.sqrt(tokens / 3e6), 512), 32768)))
    return max(1, round(power / seq_len)) * seq_len


def sequence_length(long: int, context: int) -> int:
    """The power of two that nearly all documents fit into, within the model's context."""
    return min(context, max(64, 2 ** math.ceil(math.log2(max(2, long)))))


def held_out_share(stage: str, documents: int, wanted: float | None) -> tuple[float, str]:
    """What is kept from training, for the report. A short FAQ is learned as a whole, as its owner expects."""
    if wanted is not None:
        return wanted, f"{wanted:.0%} held out, as asked"
    if stage == "sft" and documents < FEWEST_PAIRS_HELD_OUT_OF:
        return 0.0, f"nothing held out: {documents:,} answers are few, and all are wanted (--holdout changes that)"
    return 0.05, "5% held out for the report"


def replay_share(domain_bits: float, general_bits: float | None, wanted: float | None) -> tuple[float, str]:
    """The share of general data in the mixture, by how much stranger the domain is to the model than what it knows.

    Weak shifts need about 5% and strong ones up to half (Ibrahim et al. 2024, arXiv:2403.08763).
    """
    if general_bits is None:
        return 0.0, "no replay: no general data of this kind is given (--replay), so more is forgotten"
    if wanted is not None:
        return wanted, f"{wanted:.0%} replay, as asked"
    ratio = domain_bits / general_bits
    share = 0.1 if ratio < 1.5 else 0.25 if ratio < 4 else 0.5
    measured = f"{domain_bits:.3f} bits per byte on the domain against {general_bits:.3f} on general data"
    return share, f"{share:.0%} replay: {measured}, {ratio:.1f} times as strange"


def recipe_text(plan: StagePlan) -> str:
    """The plan as a recipe in YAML, its reasons in comments."""
    sections: dict[str, Any] = {"stage": plan.stage}
    for key, value in plan.settings.items():
        section, _, name = key.partition(".")
        sections.setdefault(section, {})[name] = value
    reasons = "".join(f"# {reason}\n" for reason in plan.reasons)
    return reasons + yaml.safe_dump(sections, sort_keys=False, allow_unicode=True)
