"""What an answer earns: a few parts, each logged alone, and their weighted sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from minimind.errors import UserError
from minimind.infer.events import StopReason
from minimind.losses.scores import score_conversations
from minimind.model import load_model
from minimind.model.hf.weights import model_directory
from minimind.rl.types import Prompt, Rollout
from minimind.tokenizer import Tokenizer

WEIGHTS: Mapping[str, float] = {"correct": 1.0, "ended": 0.1}


def reward_parts(prompt: Prompt, text: str, stop_reason: StopReason) -> dict[str, float]:
    """Each 0 or 1: `correct`, the answer is right and complete; `ended`, the model ended it by itself."""
    ended = stop_reason == "stop"
    return {"correct": float(ended and prompt.grade(text)), "ended": float(ended)}


def reward(parts: Mapping[str, float], weights: Mapping[str, float] = WEIGHTS) -> float:
    """The weighted sum; a part without a weight is only logged."""
    return sum(weights.get(name, 0.0) * value for name, value in parts.items())


class RewardModel:
    """Scores whole conversations with what `minimind train reward` made."""

    def __init__(self, path: str, tokenizer: Tokenizer, device: torch.device) -> None:
        """UserError for a model that is none, or that reads other tokens."""
        directory = model_directory(path)
        self.model = load_model(directory, device=device)
        if not self.model.config.num_labels:
            raise UserError(f"grpo.reward_model: {directory} is no reward model; `minimind train reward` makes one")
        if Tokenizer.load(directory).fingerprint != tokenizer.fingerprint:
            raise UserError(f"grpo.reward_model: {directory} has another tokenizer than the model that is trained")
        messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
        ids, mask = tokenizer.encode_chat(messages)
        self.after_turn = ids[len(mask) - mask[::-1].index(1) :]  # what the template writes after a turn's end

    def score(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """The same answers with the score as their reward and as its part `model`; the other parts are kept."""
        scores = score_conversations(
            self.model,
            [[*r.prompt_ids, *r.ids, *(self.after_turn if r.stop_reason == "stop" else [])] for r in rollouts],
        )
        return [replace(r, reward=s, parts={**r.parts, "model": s}) for r, s in zip(rollouts, scores)]
