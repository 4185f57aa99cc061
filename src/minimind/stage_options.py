"""What the stages can be told: one dataclass for each, a section of the recipe.

The fields' texts are the help of `minimind train STAGE --help`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from minimind.errors import UserError
from minimind.util.typed import Count, CountOrZero, DerivedFloat, Range, Share, Weight

Tokens = Annotated[int, Range(1, 2**24)]
Ratio = Annotated[float, Range(0, 1, above=True)]
Positive = Annotated[float, Range(0, 1000, above=True)]


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
class RLOptions:
    """How a model learns from answers that it samples (grpo and its like).

    An algorithm is a policy loss, an advantage and a normalization; a stage's name stands for one of each.
    """

    prompts: Count = 16
    """prompts of one rollout, over all processes"""
    group_size: Annotated[int, Range(1, 1024)] = 8
    """answers to each prompt"""
    max_tokens: Tokens = 48
    """longest answer, in tokens"""
    temperature: Positive = 1.0
    """of the sampling, and of the log-probabilities that are learned from"""
    skills: list[str] = field(default_factory=lambda: ["arithmetic"])
    """skills of the embedded world that the prompts are of, where neither env nor --data are given"""
    env: str = ""
    """an environment of your own, FILE.py:CLASS, in place of the world's prompts"""
    curriculum: bool = False
    """ask most of what the model answers rightly about half the time, by source and size of the right answer"""
    think: bool = False
    """whether the model thinks before it answers"""
    minibatches: Annotated[int, Range(1, 1024)] = 1
    """parts that a rollout is cut into; each makes one step"""
    epochs: Annotated[int, Range(1, 1024)] = 1
    """how often a rollout is learned from"""
    loss: Literal["ppo", "gspo", "cispo", "reinforce", "dpo"] = "ppo"
    """what is done with the ratio of a token's probabilities, now and at sampling. ppo: clipped; gspo: clipped for
    whole answers; cispo: a bounded weight; reinforce: a weight bounded above alone. dpo: the best answer to a
    prompt is preferred to the worst"""
    advantage: Literal["group", "group_mean", "leave_one_out", "batch", "gae", "tracker"] = "group"
    """what an answer is measured against. group: the answers to its prompt, over their deviation; group_mean: not
    over it; leave_one_out: the others alone; batch: all answers; gae: a critic; tracker: what the prompt earned"""
    normalize: Literal["token", "answer", "constant"] = "token"
    """token: all tokens weigh the same; answer: all answers do; constant: sums over tokens, over max_tokens"""
    clip_low: Ratio = 0.2
    """how far a token's probability ratio may fall below 1 before it teaches nothing more; reinforce has none"""
    clip_high: Annotated[float, Range(0, 1000, above=True)] = 0.2
    """and how far it may rise"""
    dual_clip: Annotated[float, Range(0, 1000)] = 0.0
    """ppo: largest ratio that counts against a token of a bad answer, 3 for example; 0 = no bound"""
    dynamic_sampling: Annotated[int, Range(0, 100)] = 0
    """how many more times prompts are asked in the place of those whose answers all earned the same"""
    rewards: list[str] = field(default_factory=lambda: ["correct=1", "ended=0.1"])
    """what an answer earns, as NAME=WEIGHT or NAME=WEIGHT,OPTION=VALUE: correct, partial, ended, format, length,
    cosine, overlong, repetition, language, unit_tests, model, judge, or your own FILE.py:FUNCTION. With weight 0
    it is only logged"""
    on_reward_error: Literal["stop", "skip"] = "stop"
    """when your own function raises, takes too long or gives no number: stop, or count the answer as skipped"""
    run_code: bool = False
    """let code that the model writes, and tests that a data file brings, be run in a sandbox: for the reward
    unit_tests, and for prompts with that check"""
    reward_seconds: Positive = 60.0
    """that one call of a function of your own may take"""
    reference: bool = True
    """keep the model that the training starts from in memory, to measure `kl` from it. One with an adapter has it
    inside"""
    kl_weight: Weight = 0.0
    """price of the KL divergence from the model that the training starts from"""
    kl_in: Literal["loss", "reward"] = "loss"
    """whether the divergence is a term of the loss or is taken from the reward of every token"""
    kl_target: Annotated[float, Range(0, 1000)] = 0.0
    """in the reward: kl_weight moves until the divergence is this, in nats per token; 0 = it stays as it is"""
    beta: Positive = 0.1
    """dpo: price of leaving the reference"""
    critic: Literal["head", "model"] = "head"
    """gae: a head on the policy's own hidden states, or a model of its own"""
    gamma: Share = 1.0
    """gae: what a reward is worth one token earlier"""
    gae_lambda: Share = 0.95
    """gae: 1 counts all of the reward that followed, a smaller one trusts the critic, and varies less"""
    value_clip: Annotated[float, Range(0, 1000)] = 0.2
    """gae: how far a value may move from what it was at sampling; 0 = no bound"""
    value_weight: Weight = 1.0
    """gae: of the critic's loss"""
    server: str = ""
    """address of a vLLM or SGLang server that samples the answers, as http://127.0.0.1:8000; it loads the weights
    from the run's directory, which it must see. Default: this process samples them"""
    questions: Count = 200
    """held-out questions that the score is measured on"""

    def __post_init__(self) -> None:
        if self.group_size == 1 and (
            self.loss == "dpo" or self.advantage in ("group", "group_mean", "leave_one_out")
        ):
            raise UserError("rl.group_size 1: answers to a prompt are compared with each other; take 2 or more")
        if self.minibatches > self.units:
            raise UserError(f"rl.minibatches {self.minibatches} of {self.units} answers or pairs are too many")
        if not self.reference and (self.kl_weight or self.loss == "dpo"):
            raise UserError("rl.reference is needed by rl.kl_weight and by rl.loss dpo; leave it true")
        if self.kl_target and (self.kl_in == "loss" or not self.kl_weight):
            raise UserError("rl.kl_target moves rl.kl_weight, which must be above 0, with rl.kl_in reward")

    @property
    def units(self) -> int:
        """What a rollout is cut into minibatches of: its answers, or pairs of them."""
        return self.prompts if self.loss == "dpo" else self.prompts * self.group_size

    @property
    def updates(self) -> int:
        """Steps that are made of one rollout."""
        return self.minibatches * self.epochs


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
