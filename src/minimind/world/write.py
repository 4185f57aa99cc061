"""The world as files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from minimind.util.files import whole_file
from minimind.world.agent import agent_conversations, agent_prompts
from minimind.world.chats import conversations
from minimind.world.preference import preferences, rl_prompts
from minimind.world.questions import questions
from minimind.world.reason import reasoned
from minimind.world.skills import reasoning
from minimind.world.texts import pretrain_texts


def write_world(
    directory: str | Path,
    seed: int = 0,
    pretrain_bytes: int = 10_000_000,
    sft: int = 24_000,
    preference: int = 4_000,
    rl: int = 4_000,
    reason: int = 20_000,
    agent: int = 4_000,
    agent_sft: int = 2_000,
    per_skill: int = 200,
) -> dict[str, Path]:
    """Write pretrain.jsonl (about `pretrain_bytes` UTF-8 bytes of text), sft.jsonl, preference.jsonl, rl.jsonl,
    reason.jsonl, agent.jsonl, agent_sft.jsonl (so many samples each), skills.jsonl and reasoning.jsonl (the
    held-out questions); return their paths by name.

    The same arguments give the same bytes.
    """
    directory = Path(directory)
    parts: dict[str, Iterable[dict[str, Any]]] = {
        "pretrain": _until(pretrain_texts(seed), pretrain_bytes),
        "sft": islice(conversations(seed), sft),
        "preference": islice(preferences(seed), preference),
        "rl": islice(rl_prompts(seed), rl),
        "reason": islice(reasoned(seed), reason),
        "agent": islice(agent_prompts(seed), agent),
        "agent_sft": islice(agent_conversations(seed), agent_sft),
        "skills": (question.to_dict() for question in questions(seed, per_skill)),
        "reasoning": (question.to_dict() for question in questions(seed, per_skill, reasoning.SKILLS)),
    }
    return {name: _write(directory / f"{name}.jsonl", samples) for name, samples in parts.items()}


def _until(texts: Iterable[dict[str, Any]], size: int) -> Iterable[dict[str, Any]]:
    for sample in texts:
        if size <= 0:
            return
        yield sample
        size -= len(sample["text"].encode())


def _write(path: Path, samples: Iterable[dict[str, Any]]) -> Path:
    encode = json.JSONEncoder(ensure_ascii=False).encode
    with whole_file(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(encode(sample) + "\n" for sample in samples)
    return path
