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
from minimind.stage_options import (
    DistillOptions,
    DPOOptions,
    ReasonOptions,
    RewardOptions,
    RLOptions,
    Tokens,
)
from minimind.util.typed import (
    Count,
    CountOrZero,
    DerivedInt,
    Range,
    Seed,
    Share,
    Weight,
    check_fields,
)


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
class Recipe:
    """One training."""

    stage: str = "pretrain"
    """what is trained: pretrain, sft, lora, reason, dpo, reward, distill, or grpo and its like (rl)"""
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
    rl: RLOptions = field(default_factory=RLOptions)
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
    "rl.server",  # which may move
)
