"""What the model says while it learns: `samples.jsonl`, the same held-out prompts at every evaluation."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np

from minimind.data.batches.documents import Documents
from minimind.infer.engine import Engine
from minimind.infer.sampler import SamplingParams
from minimind.train.setup import Setup

PROMPT_TOKENS = 16  # of a text; a conversation is asked up to its first answer
ANSWER_TOKENS = 64

Sample = dict[str, Any]
"""a line of samples.jsonl but for its step: `conversations`; where an answer is judged also `reward` and `parts`"""


def sample_generations(setup: Setup, count: int) -> list[Sample]:
    """Greedy continuations of the first `count` held-out documents whose prompts leave room for an answer.

    The model's training state, compiled code included, is not touched.
    """
    model, tokenizer = setup.model, setup.tokenizer
    longest = min(setup.recipe.batch.seq_len, model.config.max_position_embeddings - 1)
    asked = (_prompt(setup.data, int(document)) for document in setup.held_out)
    prompts = list(islice((prompt for prompt in asked if len(prompt) <= longest), count))
    if not prompts:
        return []
    params = SamplingParams(temperature=0.0, max_tokens=ANSWER_TOKENS, stop_ids=tokenizer.stop_ids)
    samples: list[Sample] = []
    for prompt, answer in zip(prompts, Engine(model).generate(prompts, params)):
        said = [("user", prompt), ("assistant", answer.ids)]
        messages = [{"role": role, "content": tokenizer.decode(ids).strip()} for role, ids in said]
        samples.append({"conversations": messages})
    return samples


def _prompt(data: Documents, document: int) -> list[int]:
    ids, mask = data.read(document)
    first_trained = int(np.flatnonzero(mask)[0]) if data.masked else PROMPT_TOKENS
    return ids[: max(1, first_trained)].tolist()
