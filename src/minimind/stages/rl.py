"""Reinforcement learning: a model answers prompts, and learns from those of its answers that did better.

The batches are made by the model itself. The prompts are the embedded world's, whose answers can be verified; the
score is the share of held-out questions that it answers rightly, greedily.
"""

from __future__ import annotations

from typing import Any

from minimind.plan.memory import rollout_memory
from minimind.rl.evaluation import HeldOutQuestions
from minimind.rl.objectives import OnlineDPO, PolicyGradient
from minimind.rl.prompts.source import load_prompts
from minimind.rl.source import Rollouts
from minimind.stages.stage import Stage
from minimind.train.objective import Objective
from minimind.train.setup import Setup
from minimind.world.skills import chains

ONE_EACH = {"prompts": 128, "group_size": 1}  # as many answers as 16 prompts with 8 each, to as many prompts

# What a name stands for, where it is not the options' own defaults.
ALGORITHMS: dict[str, dict[str, Any]] = {
    "reinforce": {**ONE_EACH, "loss": "reinforce", "advantage": "batch", "clip_high": 1.0},
    "rloo": {"loss": "reinforce", "advantage": "leave_one_out", "clip_high": 1.0},
    "ppo": {
        **ONE_EACH, "advantage": "gae", "minibatches": 2, "epochs": 2,
        "kl_weight": 0.01, "kl_in": "reward", "kl_target": 0.05,
    },
    "grpo": {"normalize": "answer", "kl_weight": 0.01},
    "dr_grpo": {"advantage": "group_mean", "normalize": "constant"},
    "dapo": {
        "clip_high": 0.28, "minibatches": 2, "dynamic_sampling": 2,
        "rewards": ["correct=1", "ended=0.1", "overlong=1,margin=8"],
    },
    "cispo": {"loss": "cispo", "clip_low": 1.0, "clip_high": 2.0, "minibatches": 2},
    "gspo": {"loss": "gspo", "normalize": "answer", "clip_low": 0.003, "clip_high": 0.004, "minibatches": 2},
    "spo": {**ONE_EACH, "advantage": "tracker"},
    "online_dpo": {"loss": "dpo"},
    "agent": {  # GRPO in several turns, in which tools are called
        "skills": list(chains.KINDS), "max_tokens": 64, "questions": 50,
        "rewards": ["correct=1", "ended=0.1", "calls=0.3", "unreadable=-0.1"],
    },
}  # fmt: skip


def make_objective(setup: Setup) -> Objective:
    return OnlineDPO(setup) if setup.recipe.rl.loss == "dpo" else PolicyGradient(setup)


def _stage(name: str, rl: dict[str, Any]) -> Stage:
    # Episodes with tools have some 350 tokens: three fit into a sequence of 1,024, and only one into half of it.
    batch = {"seq_len": 1024} if name == "agent" else {}
    return Stage(
        name,
        make_objective,
        defaults={
            "rl": rl,
            "batch": batch,
            "optimizer": {"name": "adamw", "learning_rate": 0.0003},  # muon makes full-sized steps of mere noise
            "schedule": {"kind": "constant"},
            "budget": {"steps": 100},
            "log_every": 1,
        },
        data=load_prompts,
        source=Rollouts,
        memory=rollout_memory,
        evaluation=HeldOutQuestions,
    )


STAGES = [_stage(name, rl) for name, rl in ALGORITHMS.items()]
