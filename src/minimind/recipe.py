"""A recipe: everything that decides a training, in one typed, readable place.

The fields' texts are the help of `minimind train STAGE --help`; a recipe file is the same as YAML.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from minimind.errors import UserError
from minimind.model.config import ModelConfig
from minimind.model.lora import LoraOptions
from minimind.optim.options import OptimizerOptions, ScheduleOptions
from minimind.util.typed import (
    Count,
    CountOrZero,
    DerivedFloat,
    DerivedInt,
    Range,
    Seed,
    Share,
    Weight,
    check_fields,
)

Tokens = Annotated[int, Range(1, 2**24)]
Ratio = Annotated[float, Range(0, 1, above=True)]
Positive = Annotated[float, Range(0, 1000, above=True)]


@dataclass(frozen=True)
class BatchOptions:
    """How documents become steps."""

    seq_len: Annotated[int, Range(8, 2**20)] = 512
    """positions in a sequence; whole documents are packed side by side into sequences, longer ones are split"""
    tokens_per_step: Annotated[DerivedInt, Range(8, 2**30)] = None
    """positions of one optimizer step, over all micro-batches and processes; a multiple of seq_len. Default: about
    32,768; for a model from scratch it follows from the budget"""
    micro_batch_tokens: Tokens = 8192
    """positions computed at once; halved by itself when memory runs out, which changes no result"""
    long_documents: Literal["split", "truncate"] = "split"
    """what happens to a document longer than a sequence; sft truncates"""

    @property
    def sequences(self) -> int:
        """Of one step."""
        return self.tokens_per_step // self.seq_len


@dataclass(frozen=True)
class BudgetOptions:
    """How long to train: give exactly one."""

    epochs: Annotated[float | None, Range(0, 1e6, above=True)] = None
    """passes over the training documents (1 if nothing is given)"""
    steps: Count | None = None
    """optimizer steps"""
    tokens: Annotated[float | None, Range(0, 1e15, above=True)] = None
    """positions read, for example 3e6"""
    minutes: Annotated[float | None, Range(0, 1e6, above=True)] = None
    """time: the first steps are timed, then the number of steps is fixed for the whole run"""


@dataclass(frozen=True)
class RouterOptions:
    """How the experts of a model that has some are kept equally busy."""

    balance: Literal["document", "global", "bias", "none"] = "document"
    """a loss on the shares within each document, or on those of a whole step (counted in the step before); or no
    loss: a bias per expert, moved after each step, chooses (DeepSeek-V3; glm4_moe only)"""
    weight: Weight = 0.01
    """of the balance loss"""
    z_weight: Weight = 0.0
    """of the z-loss, which keeps the router's logits small; 0.001 is usual"""
    bias_rate: Share = 0.001
    """how far balance bias moves an expert's bias after each step"""


@dataclass(frozen=True)
class EvaluationOptions:
    """How progress is measured, on documents held out by the hash of their content."""

    holdout: Annotated[float, Range(0, 0.5)] = 0.01
    """part of the documents that is never trained on; 0 = none"""
    every: Count | None = None
    """steps between evaluations; default: a tenth of the run"""
    max_tokens: Count = 200_000
    """held-out positions that are read each time"""
    samples: Annotated[int, Range(0, 1000)] = 4
    """held-out documents whose beginning the model continues each time, into samples.jsonl"""
    patience: CountOrZero = 0
    """stop after this many evaluations without a new best; 0 = never"""


@dataclass(frozen=True)
class CheckpointOptions:
    """What is saved on the way; a checkpoint is also written when a run is stopped and at its end."""

    every_minutes: Annotated[float, Range(0, 1e6)] = 10.0
    """minutes between checkpoints"""
    every: Count | None = None
    """steps between checkpoints, besides those by time"""
    keep: Count = 2
    """newest checkpoints kept"""


@dataclass(frozen=True)
class ChatOptions:
    """What of a conversation is trained on (sft)."""

    train_on: Literal["assistant", "last"] = "assistant"
    """all assistant turns, or only the last"""
    train_thinking: bool = True
    """the text between <think> and </think>"""
    train_tool_calls: bool = True
    """what stands between <tool_call> and </tool_call>"""


@dataclass(frozen=True)
class DPOOptions:
    """How preferences are learned (dpo)."""

    loss: Literal["dpo", "ipo", "kto", "simpo", "orpo"] = "dpo"
    """dpo: the chosen answer is to gain on the rejected one, measured from the start model; ipo: by a finite
    amount; kto: good and bad answers each by themselves, also without pairs. Without a reference: simpo, by the
    mean log-probability of a token; orpo, which also fine-tunes on the chosen answers"""
    beta: Annotated[DerivedFloat, Range(0, 1000, above=True)] = None
    """price of leaving the reference: the larger, the closer the model stays to it; of simpo the scale of its
    rewards, of orpo the weight beside the fine-tuning. Default: 0.1, for simpo 2"""
    gamma: Annotated[DerivedFloat, Range(0, 1000)] = None
    """simpo: by how much the chosen answer's reward is to win. Default: half of beta"""
    label_smoothing: Annotated[float, Range(0, 0.5, below=True)] = 0.0
    """dpo and simpo: share of the pairs that is taken for mislabeled; at a half, no side would be the better one"""

    def __post_init__(self) -> None:
        if self.gamma is not None and self.loss != "simpo":
            raise UserError(f"dpo.gamma is simpo's; leave it out, or take --dpo.loss simpo instead of {self.loss}")
        if self.label_smoothing and self.loss not in ("dpo", "simpo"):
            raise UserError(f"dpo.label_smoothing: {self.loss} has none; leave it out, or take --dpo.loss dpo")
        if self.beta is None:  # SimPO's rewards are means over tokens, and small
            object.__setattr__(self, "beta", 2.0 if self.loss == "simpo" else 0.1)
        if self.gamma is None and self.loss == "simpo":
            object.__setattr__(self, "gamma", self.beta / 2)

    @property
    def has_reference(self) -> bool:
        """Whether answers are compared with what the start model thinks of them."""
        return self.loss in ("dpo", "ipo", "kto")


@dataclass(frozen=True)
class RewardOptions:
    """How a reward model learns from preferences (reward)."""

    margin: Annotated[float, Range(0, 1000)] = 0.0
    """by how much the chosen answer's score is to win"""
    center: Annotated[float, Range(0, 1000)] = 0.0
    """weight of the squared sum of a pair's scores, which keeps them around 0; 0.01 is usual"""


@dataclass(frozen=True)
class GRPOOptions:
    """How a model learns from answers that it samples (grpo)."""

    prompts: Count = 16
    """prompts of one step, over all processes"""
    group_size: Annotated[int, Range(2, 1024)] = 8
    """answers to each prompt, which are compared with each other"""
    max_tokens: Tokens = 48
    """longest answer, in tokens"""
    temperature: Positive = 1.0
    """of the sampling, and of the log-probabilities that are learned from"""
    clip_low: Ratio = 0.2
    """how far a token's probability ratio may fall below 1 before it teaches nothing more"""
    clip_high: Ratio = 0.2
    """and how far it may rise"""
    reward_model: str = ""
    """directory of a reward model with the same tokenizer, whose score is the reward; default: the world checks"""
    kl_weight: Weight = 0.0
    """weight of the KL divergence from the model that the training starts from; above 0 keeps a second model,
    unless an adapter is trained: without it the model is the one it started from"""
    questions: Count = 200
    """held-out questions that the score is measured on"""


@dataclass(frozen=True)
class ReasonOptions:
    """How a model learns to think before it answers, and to answer without (reason)."""

    format_weight: Positive = 10.0
    """weight of the tokens <think> and </think> in the loss; every other token's is 1"""
    empty_thoughts: Share = 0.3
    """share of the conversations whose thinking is left out, so that the model can also answer at once"""
    max_thought_tokens: Count | None = None
    """a conversation with a longer thought is left out; default: batch.seq_len"""


@dataclass(frozen=True)
class DistillOptions:
    """How a student learns from a teacher (distill)."""

    teacher: str = ""
    """model directory or run of the teacher: ours, or any causal model that transformers loads; with the student's
    tokenizer"""
    alpha: Share = 0.1
    """weight of the data's own next token; the rest is that of the teacher's distribution"""
    temperature: Annotated[float, Range(0, 100, above=True)] = 1.0
    """divides both models' logits: above 1, what the teacher finds unlikely counts for more"""
    divergence: Literal["forward_kl", "reverse_kl", "js"] = "forward_kl"
    """from the teacher: forward_kl covers all that it finds possible, reverse_kl keeps to what it finds likely; js
    is between the two"""
    beta: Annotated[float, Range(0, 1, above=True, below=True)] = 0.5
    """js: the teacher's share in the mixture; towards 0 as forward_kl, towards 1 as reverse_kl"""
    top_k: CountOrZero = 0
    """compare only the teacher's likeliest tokens, and all others lumped together; 0 = all of them"""
    cache: bool = False
    """compute the teacher's top_k tokens of all data once, before the first step, and keep them on disk"""
    on_policy: Share = 0.0
    """share of the steps whose answers the student samples itself, for the teacher to correct"""
    max_tokens: Tokens = 128
    """longest answer that the student samples, in tokens"""


@dataclass(frozen=True)
class Recipe:
    """One training."""

    stage: str = "pretrain"
    """what is trained: pretrain, sft, lora, reason, dpo, reward, distill or grpo"""
    preset: str = ""
    """a named model shape (minimind models list); fields of `model` change it"""
    model: ModelConfig = field(default_factory=ModelConfig)
    """shape of the model (a stage that starts from a model has that model's)"""
    tokenizer: str = ""
    """directory of the tokenizer (a stage that starts from a model has that model's)"""
    data: list[str] = field(default_factory=list)
    """files or folders to train on: jsonl, json, txt, csv, md, html (each also .gz or .zst), parquet, pdf"""
    encoding: str = ""
    """of text files that are not UTF-8: gb18030, big5, utf-16, cp1252, …"""
    init_from: str = ""
    """model directory or run to start from (--from)"""
    batch: BatchOptions = field(default_factory=BatchOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)
    budget: BudgetOptions = field(default_factory=BudgetOptions)
    router: RouterOptions = field(default_factory=RouterOptions)
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)
    checkpoint: CheckpointOptions = field(default_factory=CheckpointOptions)
    chat: ChatOptions = field(default_factory=ChatOptions)
    lora: LoraOptions = field(default_factory=LoraOptions)
    dpo: DPOOptions = field(default_factory=DPOOptions)
    reward: RewardOptions = field(default_factory=RewardOptions)
    grpo: GRPOOptions = field(default_factory=GRPOOptions)
    reason: ReasonOptions = field(default_factory=ReasonOptions)
    distill: DistillOptions = field(default_factory=DistillOptions)
    seed: Seed = 0
    """decides initial weights, order of the data and the held-out documents"""
    device: str = "auto"
    """auto, cpu, cuda or mps"""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """type of the computation; masters stay fp32. auto: bf16 where that is faster, fp16 on older GPUs"""
    compile: bool | None = None
    """compile the blocks with torch.compile; default: on CUDA, and on a CPU for runs long enough to gain"""
    activation_checkpointing: bool = False
    """activation checkpointing: blocks are computed again in the backward pass; a third slower, much less memory"""
    deterministic: bool = False
    """on CUDA: bit-equal results at some cost in speed (a CPU is always deterministic)"""
    max_bad_steps: Count = 5
    """steps in a row with a loss or gradient that is not finite before the run rolls back to its checkpoint"""
    log_every: Count = 10
    """steps between lines in metrics.jsonl"""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.distill.cache and not self.distill.top_k:
            raise UserError(
                "distill.cache keeps the teacher's likeliest tokens: say how many with distill.top_k, say 64"
            )
        length, step = self.batch.seq_len, self.batch.tokens_per_step
        if step is not None and (step % length or step < length):
            near = max(1, round(step / length)) * length
            raise UserError(f"batch.tokens_per_step {step} is not a multiple of batch.seq_len {length}; {near} is")
        given = [name for name, value in vars(self.budget).items() if value is not None]
        if len(given) > 1:
            raise UserError(f"give one budget, not {' and '.join('budget.' + name for name in given)}")
        if self.schedule.kind == "wsd" and self.schedule.warmup + self.schedule.decay > 1:
            raise UserError("schedule.warmup and schedule.decay together must not exceed 1, the whole run")


# What may differ between a run and its continuation: it cannot change the steps already made.
MAY_CHANGE = (
    "data",  # files may be renamed: their content must not change, which data.json tells
    "encoding",
    "budget.",
    "model.original_max_position_embeddings",  # a record; where it decides angles, rope_scaling holds it as well
    "evaluation.every",
    "evaluation.max_tokens",
    "evaluation.samples",
    "evaluation.patience",
    "checkpoint.",
    "log_every",
    "compile",
    "activation_checkpointing",
    "batch.micro_batch_tokens",
    "max_bad_steps",
)
