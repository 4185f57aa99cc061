"""What an answer earns: a few parts, each logged alone, and their weighted sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from minimind.errors import UserError
from minimind.losses.scores import score_conversations
from minimind.model import load_model
from minimind.model.hf.weights import model_directory
from minimind.rl.types import Rollout
from minimind.tokenizer import Tokenizer

WEIGHTS: Mapping[str, float] = {"correct": 1.0, "ended": 0.1, "calls": 0.3, "unreadable": -0.1}


def score(rollouts: Sequence[Rollout], weights: Mapping[str, float] = WEIGHTS) -> list[Rollout]:
    """The same rollouts with their reward, the weighted sum of its parts, and these: `correct` (the answer is right
    and complete), `ended` (the model ended it by itself), each 0 to 1, and what the environments gave.

    A part without a weight is only logged.
    """
    scored = []
    for one in rollouts:
        ended = one.stop_reason == "stop"
        parts = {"correct": ended * float(one.prompt.grade(one.text)), "ended": float(ended), **one.parts}
        total = sum(weights.get(name, 0.0) * value for name, value in parts.items())
        scored.append(replace(one, parts=parts, reward=total))
    return scored


class RewardModel:
    """Scores whole conversations with what `minimind train reward` made."""

    def __init__(self, path: str, tokenizer: Tokenizer, device: torch.device) -> None:
        """UserError for a model that is none, or that reads other tokens."""
        directory = model_directory(path)
        self.model = load_model(directory, device=device)
        if not self.model.config.num_labels:
            raise UserError(f"rl.reward_model: {directory} is no reward model; `minimind train reward` makes one")
        if Tokenizer.load(directory).fingerprint != tokenizer.fingerprint:
            raise UserError(f"rl.reward_model: {directory} has another tokenizer than the model that is trained")
        messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
        ids, mask = tokenizer.encode_chat(messages)
        self.after_turn = ids[len(mask) - mask[::-1].index(1) :]  # what the template writes after a turn's end

    def score(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """The same answers with the score as their reward and as its part `model`; the other parts are kept."""
        scores = score_conversations(
            self.model,
            [[*one.ids, *(self.after_turn if one.stop_reason == "stop" else [])] for one in rollouts],
        )
        return [replace(r, reward=s, parts={**r.parts, "model": s}) for r, s in zip(rollouts, scores)]
