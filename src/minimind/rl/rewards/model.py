"""The score of a reward model: one of ours, or any that transformers loads for sequence classification."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from minimind.errors import UserError, missing_extra
from minimind.losses.scores import score_conversations
from minimind.model import load_model
from minimind.model.hf.weights import is_ours, model_directory
from minimind.rl.types import Rollout
from minimind.tokenizer import Tokenizer
from minimind.tokenizer.messages import Message

AT_ONCE = 16  # conversations of a model of another's


class RewardModel:
    """Scores whole conversations: what `minimind train reward` made, or another's model with its own tokenizer."""

    def __init__(self, path: str, *, tokenizer: Tokenizer, device: torch.device) -> None:
        """UserError for a model that gives no score."""
        directory = model_directory(path)
        self.score = (
            load_ours(directory, tokenizer, device) if is_ours(directory) else load_other(directory, device)
        )

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float]:
        return self.score(rollouts)


Score = Callable[[Sequence[Rollout]], list[float]]


@lru_cache(1)  # of answers that are trained on and of held-out ones
def load_ours(directory: Path, tokenizer: Tokenizer, device: torch.device) -> Score:
    """With the tokenizer of the model that is trained, it reads the very ids that were sampled."""
    model = load_model(directory, device=device)
    if not model.config.num_labels:
        raise UserError(f"rl.rewards model: {directory} is no reward model; `minimind train reward` makes one")
    own = Tokenizer.load(directory)
    sample = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    ids, mask = own.encode_chat(sample)
    after_turn = ids[len(mask) - mask[::-1].index(1) :]  # what the template writes after a turn's end
    is_same = own.fingerprint == tokenizer.fingerprint

    def score(rollouts: Sequence[Rollout]) -> list[float]:
        if is_same:
            read = [[*one.ids, *(after_turn if one.stop_reason == "stop" else [])] for one in rollouts]
        else:
            read = [own.encode_chat(one.messages)[0] for one in rollouts]
        return score_conversations(model, read)

    return score


@lru_cache(1)
def load_other(directory: Path, device: torch.device) -> Score:
    """A folder of transformers' `…ForSequenceClassification`. Of several labels the last is the good one: its logit
    minus the others' logsumexp."""
    try:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
    except ImportError:
        raise missing_extra("transformers", "teacher") from None
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory)
        model: Any = AutoModelForSequenceClassification.from_pretrained(directory).to(device).eval()
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"rl.rewards model: {directory} cannot be loaded by transformers ({reason})") from None
    tokenizer.padding_side = "right"  # an encoder reads its first token, a decoder the last that is no padding
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
        model.config.pad_token_id = tokenizer.pad_token_id

    special = {"add_special_tokens": not tokenizer.chat_template}  # a template writes them itself

    @torch.no_grad()
    def score(rollouts: Sequence[Rollout]) -> list[float]:
        found: list[float] = []
        for start in range(0, len(rollouts), AT_ONCE):
            texts = [as_text(one.messages, tokenizer) for one in rollouts[start : start + AT_ONCE]]
            read = tokenizer(texts, padding=True, truncation=True, return_tensors="pt", **special)
            logits_RL = model(**read.to(device)).logits.float()
            *others, good_R = logits_RL.unbind(1)
            found += (good_R - torch.stack(others).logsumexp(0) if others else good_R).tolist()
        return found

    return score


def as_text(messages: Sequence[Message], tokenizer: Any) -> str:
    """A conversation in the model's own template, or where it has none each message in a line."""
    said = [{"role": one["role"], "content": one["content"]} for one in messages]
    if tokenizer.chat_template:
        return str(tokenizer.apply_chat_template(said, tokenize=False))
    return "\n".join(one["content"] for one in said)
