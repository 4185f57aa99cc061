"""A recipe: everything that decides a training, in one typed, readable place.

The fields' texts are the help of `minimind train STAGE --help`; a recipe file is the same as YAML.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from minimind.errors import UserError
from minimind.model.config import ModelConfig
from minimind.model.lora import LoraOptions
from minimind.optim.options import OptimizerOptions, ScheduleOptions
from minimind.util.typed import DerivedInt


@dataclass(frozen=True)
class BatchOptions:
    """How documents become steps."""

    seq_len: int = 512
    """positions in a sequence; whole documents are packed side by side into sequences, longer ones are split"""
    tokens_per_step: DerivedInt = None
    """positions of one optimizer step, over all micro-batches and processes; a multiple of seq_len. Default: about
    32,768; for a model from scratch it follows from the budget"""
    micro_batch_tokens: int = 8192
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

    epochs: float | None = None
    """passes over the training documents (1 if nothing is given)"""
    steps: int | None = None
    """optimizer steps"""
    tokens: float | None = None
    """positions read, for example 3e6"""
    minutes: float | None = None
    """time: the first steps are timed, then the number of steps is fixed for the whole run"""


@dataclass(frozen=True)
class RouterOptions:
    """How the experts of a model that has some are kept equally busy."""

    balance: Literal["document", "global", "bias", "none"] = "document"
    """a loss on the shares within each document, or on those of a whole step (counted in the step before); or no
    loss: a bias per expert, moved after each step, chooses (DeepSeek-V3; glm4_moe only)"""
    weight: float = 0.01
    """of the balance loss"""
    z_weight: float = 0.0
    """of the z-loss, which keeps the router's logits small; 0.001 is usual"""
    bias_rate: float = 0.001
    """how far balance bias moves an expert's bias after each step"""


@dataclass(frozen=True)
class EvaluationOptions:
    """How progress is measured, on documents held out by the hash of their content."""

    holdout: float = 0.01
    """part of the documents that is never trained on; 0 = none"""
    every: int | None = None
    """steps between evaluations; default: a tenth of the run"""
    max_tokens: int = 200_000
    """held-out positions that are read each time"""
    samples: int = 4
    """held-out documents whose beginning the model continues each time, into samples.jsonl"""
    patience: int = 0
    """stop after this many evaluations without a new best; 0 = never"""


@dataclass(frozen=True)
class CheckpointOptions:
    """What is saved on the way; a checkpoint is also written when a run is stopped and at its end."""

    every_minutes: float = 10.0
    """minutes between checkpoints"""
    every: int | None = None
    """steps between checkpoints, besides those by time"""
    keep: int = 2
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

    beta: float = 0.1
    """price of leaving the reference: the larger, the closer the model stays to it"""
    label_smoothing: float = 0.0
    """share of the pairs that is taken for mislabeled"""


@dataclass(frozen=True)
class GRPOOptions:
    """How a model learns from answers that it samples (grpo)."""

    prompts: int = 16
    """prompts of one step, over all processes"""
    group_size: int = 8
    """answers to each prompt, which are compared with each other"""
    max_tokens: int = 48
    """longest answer, in tokens"""
    temperature: float = 1.0
    """of the sampling, and of the log-probabilities that are learned from"""
    clip_low: float = 0.2
    """how far a token's probability ratio may fall below 1 before it teaches nothing more"""
    clip_high: float = 0.2
    """and how far it may rise"""
    kl_weight: float = 0.0
    """weight of the KL divergence from the model that the training starts from; above 0 keeps a second model"""
    questions: int = 200
    """held-out questions that the score is measured on"""


@dataclass(frozen=True)
class Recipe:
    """One training."""

    stage: str = "pretrain"
    """what is trained: pretrain, sft, dpo or grpo"""
    preset: str = ""
    """a named model shape (minimind models list); fields of `model` change it"""
    model: ModelConfig = field(default_factory=ModelConfig)
    """shape of the model (a stage that starts from a model has that model's)"""
    tokenizer: str = ""
    """directory of the tokenizer (a stage that starts from a model has that model's)"""
    data: list[str] = field(default_factory=list)
    """files to train on: jsonl, jsonl.gz, jsonl.zst, parquet or txt"""
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
    grpo: GRPOOptions = field(default_factory=GRPOOptions)
    seed: int = 0
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
    max_bad_steps: int = 5
    """steps in a row with a loss or gradient that is not finite before the run rolls back to its checkpoint"""
    log_every: int = 10
    """steps between lines in metrics.jsonl"""

    def __post_init__(self) -> None:
        length, step, micro = self.batch.seq_len, self.batch.tokens_per_step, self.batch.micro_batch_tokens
        if length < 8:
            raise UserError(f"batch.seq_len {length} is too short; give at least 8")
        if step is not None and (step % length or step < length):
            near = max(1, round(step / length)) * length
            raise UserError(f"batch.tokens_per_step {step} is not a multiple of batch.seq_len {length}; {near} is")
        if micro < 1:
            raise UserError(f"batch.micro_batch_tokens {micro} must be at least 1")
        given = [name for name, value in vars(self.budget).items() if value is not None]
        if len(given) > 1:
            raise UserError(f"give one budget, not {' and '.join('budget.' + name for name in given)}")
        positive = {f"budget.{name}": getattr(self.budget, name) for name in given} | {
            "dpo.beta": self.dpo.beta,
            "grpo.temperature": self.grpo.temperature,
            "grpo.clip_low": self.grpo.clip_low,
            "grpo.clip_high": self.grpo.clip_high,
        }
        for name, value in positive.items():
            if value <= 0:
                raise UserError(f"{name} must be above 0, not {value}")
        limits = {
            "schedule.warmup": (self.schedule.warmup, 0, 1),
            "schedule.decay": (self.schedule.decay, 0, 1),
            "schedule.min_lr_ratio": (self.schedule.min_lr_ratio, 0, 1),
            "evaluation.holdout": (self.evaluation.holdout, 0, 0.5),
            "optimizer.learning_rate": (self.optimizer.learning_rate, 0, 10),
            "optimizer.row_decay": (self.optimizer.row_decay, 0, 1),
            "router.weight": (self.router.weight, 0, 10),
            "router.z_weight": (self.router.z_weight, 0, 10),
            "router.bias_rate": (self.router.bias_rate, 0, 1),
            "dpo.label_smoothing": (self.dpo.label_smoothing, 0, 0.49),  # at a half, no side is the better one
            "grpo.group_size": (self.grpo.group_size, 2, 1024),
            "grpo.clip_low": (self.grpo.clip_low, 0, 1),
            "grpo.clip_high": (self.grpo.clip_high, 0, 1),
            "grpo.kl_weight": (self.grpo.kl_weight, 0, 10),
        }
        for name, (value, low, high) in limits.items():
            if value is not None and not low <= value <= high:
                raise UserError(f"{name} must lie between {low} and {high}, not {value}")
        if self.schedule.kind == "wsd" and self.schedule.warmup + self.schedule.decay > 1:
            raise UserError("schedule.warmup and schedule.decay together must not exceed 1, the whole run")
        counts = {
            "checkpoint.keep": self.checkpoint.keep,
            "checkpoint.every": self.checkpoint.every,
            "evaluation.every": self.evaluation.every,
            "grpo.prompts": self.grpo.prompts,
            "grpo.max_tokens": self.grpo.max_tokens,
            "grpo.questions": self.grpo.questions,
            "log_every": self.log_every,
            "max_bad_steps": self.max_bad_steps,
        }
        for name, number in counts.items():
            if number is not None and number < 1:
                raise UserError(f"{name} must be at least 1, not {number}")


# What may differ between a run and its continuation: it cannot change the steps already made.
MAY_CHANGE = (
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
