"""A tiny model that has learned a few answers and two tool calls by heart."""

from __future__ import annotations

from typing import Any

import torch

from minimind.model import ModelConfig, Transformer
from minimind.tokenizer import Tokenizer

SEES = {
    "type": "function",
    "function": {
        "name": "sees",
        "description": "Look at it",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "string", "enum": ["cat", "dog"]}},
            "required": ["a"],
        },
    },
}
CALLS = [{"name": "sees", "arguments": {"a": "cat"}}, {"name": "sees", "arguments": {"a": "dog"}}]
LESSONS: list[dict[str, Any]] = [
    {"ask": "the cat", "content": "sees a big tree\nand the old house"},
    {"ask": "a dog", "content": "likes the 山 and the 水🙂"},
    {"ask": "the bird", "reasoning_content": "old red river", "content": "finds a small house"},
    {"ask": "both", "content": "a cat", "tool_calls": CALLS, "tools": [SEES]},
    {
        "ask": "both",
        "before": [
            {"role": "assistant", "content": "a cat", "tool_calls": CALLS},
            {"role": "tool", "content": "red"},
            {"role": "tool", "content": "big"},
        ],
        "content": "the red cat and the big dog",
        "tools": [SEES],
    },
]


def train_pupil(tokenizer: Tokenizer) -> Transformer:
    """A model that, asked greedily, answers each of LESSONS word for word."""
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = Transformer(ModelConfig(vocab_size=tokenizer.vocab_size, max_position_embeddings=1024, **shape), seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=8e-3)
    lessons = []
    for lesson in LESSONS:
        answer = {key: lesson[key] for key in ("content", "reasoning_content", "tool_calls") if key in lesson}
        before = [{"role": "user", "content": lesson["ask"]}, *lesson.get("before", [])]
        messages = [*before, {"role": "assistant", **answer}]
        ids, mask = tokenizer.encode_chat(messages, lesson.get("tools"), train_on="last")
        lessons.append((torch.tensor(ids), torch.tensor(mask, dtype=torch.bool)))
    for _ in range(300):
        losses = []
        for ids, mask in lessons:
            logits = model.logits(model(ids[None, :-1]))[0]
            losses.append(torch.nn.functional.cross_entropy(logits[mask[1:]], ids[1:][mask[1:]]))
        loss = torch.stack(losses)
        if loss.max() < 0.05:
            break
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    else:
        raise AssertionError(f"the lessons were not learned: {loss}")
    return model.eval()
